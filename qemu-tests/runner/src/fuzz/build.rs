//! Building the targets with coverage instrumentation.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::workspace::Workspace;

/// What tells libFuzzer which edges were taken, and what was compared with what. These are
/// LLVM's passes, which stable compilers have too.
const INSTRUMENTATION: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg",
    "fuzzing",
];
/// Named, so that build scripts and macros are not instrumented.
const HOST: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "checked";

/// Where everything about fuzzing lies.
pub(super) fn directory(workspace: &Workspace) -> PathBuf {
    workspace.target().join("fuzz")
}

/// Builds the program that holds all targets.
pub(super) fn build(workspace: &Workspace) -> Result<PathBuf> {
    check_compiler()?;
    let target = directory(workspace).join("build");
    let mut cargo = crate::build::cargo(workspace);
    cargo
        .args(["build", "--quiet", "--package", "fuzz-targets"])
        .args(["--features", "libfuzzer", "--bin", "fuzz"])
        .args(["--profile", PROFILE, "--target", HOST])
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", INSTRUMENTATION.join(" "));
    command::inherit(&mut cargo)?;
    Ok(target.join(HOST).join(PROFILE).join("fuzz"))
}

/// libFuzzer is C++ and is compiled here.
fn check_compiler() -> Result<()> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let found = command::capture(Command::new(&compiler).arg("--version"))
        .with_context(|| "libFuzzer needs a C++ compiler; install g++, or name one in CXX")?;
    if !found.status.success() {
        bail!("the C++ compiler {} does not work", compiler.display());
    }
    Ok(())
}
