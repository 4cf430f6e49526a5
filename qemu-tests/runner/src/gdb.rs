//! A machine that waits for a debugger.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::quote;
use crate::qemu::Machine;

/// A socket beside a boot's other files.
pub(crate) fn socket(beside: &Path) -> Result<PathBuf> {
    let directory = beside.parent().context("a boot has no directory")?;
    std::fs::create_dir_all(directory)?;
    Ok(directory.join("gdb.sock"))
}

/// Prints how to attach to a machine.
pub(crate) fn announce(machine: &Machine) -> Result<()> {
    let socket = machine
        .gdb
        .as_ref()
        .context("the machine waits for no debugger")?;
    println!("the machine waits; attach with:");
    println!(
        "  gdb {} -ex 'target remote {}'",
        quote(machine.kernel.as_os_str()),
        socket.display()
    );
    Ok(())
}
