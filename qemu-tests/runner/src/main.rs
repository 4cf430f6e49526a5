//! `cargo xtask`: builds the kernel, gets QEMU, boots it there, decodes what it says and
//! judges it.

mod bench;
mod boot;
mod build;
mod cli;
mod command;
mod decode;
mod differential;
mod dmar;
mod features;
mod fuzz;
mod gdb;
mod host;
mod judge;
mod lock;
mod log;
mod mutants;
mod provision;
mod qemu;
mod results;
mod run;
mod seed;
mod sources;
mod test;
mod trace;
mod wire;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{BuildArguments, Cli, Command};
use workspace::Workspace;

fn main() -> ExitCode {
    match dispatch(&Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &Command) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match command {
        Command::Build(arguments) => build(&workspace, arguments),
        Command::Run(arguments) => run::run(&workspace, arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Decode(arguments) => decode::run(arguments),
        Command::Differential(arguments) => differential::run(&workspace, arguments),
        Command::Dmar(arguments) => dmar::run(arguments),
        Command::Fuzz(arguments) => fuzz::run(&workspace, arguments),
        Command::Features => features::run(&workspace),
        Command::Mutants(arguments) => mutants::run(&workspace, arguments),
        Command::Test(arguments) => test::run(&workspace, arguments),
    }
}

fn build(workspace: &Workspace, arguments: &BuildArguments) -> Result<ExitCode> {
    let options = build::Options {
        levels: arguments.log.clone(),
    };
    let artefacts = build::build(workspace, &options)?;
    for (name, bytes) in artefacts.sizes()? {
        println!("{name:24} {:>8.1} KiB loaded", bytes as f64 / 1024.0);
    }
    Ok(ExitCode::SUCCESS)
}
