//! `cargo xtask hostile`: random and adversarial hypercalls by the million, against the driver
//! on the hardware model. The crate `hostile` does it; it is built optimised, and with
//! unwinding, so that a panic is a finding like any other.

use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::Args;

use crate::build::cargo;
use crate::workspace::Workspace;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Seed of everything; the same one repeats a run exactly.
    #[arg(long, value_name = "N", value_parser = crate::cli::seed, default_value = "1")]
    seed: u64,
    /// Hypercalls, at least.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    calls: u64,
    /// Runs at a time; the default is the number of CPUs.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// The same on real threads: nothing repeats, and nothing is counted as void.
    #[arg(long)]
    threads: bool,
    /// Only the one run of this seed, as a failure names it.
    #[arg(long, value_name = "N")]
    run: Option<u64>,
}

/// Builds and runs it, with our own standard streams; its status is ours.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let mut command = cargo(workspace);
    command.args([
        "run",
        "--quiet",
        "--package",
        "hostile",
        "--profile",
        "hostile",
        "--",
    ]);
    command.arg(format!("--seed={}", arguments.seed));
    command.arg(format!("--calls={}", arguments.calls));
    command.args(arguments.jobs.map(|jobs| format!("--jobs={jobs}")));
    command.args(arguments.run.map(|run| format!("--run={run}")));
    if arguments.threads {
        command.arg("--threads");
    }
    let status = command
        .stdin(Stdio::null())
        .status()
        .context("cannot start cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
