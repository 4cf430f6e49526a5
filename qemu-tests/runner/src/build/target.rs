//! The bare-metal target, by rustup where it is missing.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// What kernel and guests are built for.
pub(crate) const TARGET: &str = "x86_64-unknown-none";

/// Installs the target's libraries if this toolchain has none.
pub(super) fn ensure() -> Result<()> {
    let directory = command::succeed(Command::new("rustc").args([
        "--print",
        "target-libdir",
        "--target",
        TARGET,
    ]))?;
    if Path::new(directory.trim()).exists() {
        return Ok(());
    }
    eprintln!("installing the target {TARGET}");
    command::inherit(Command::new("rustup").args(["target", "add", TARGET])).with_context(|| {
        format!("cannot install the target {TARGET}; install it with `rustup target add {TARGET}`")
    })
}
