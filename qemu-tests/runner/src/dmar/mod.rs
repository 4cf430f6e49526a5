//! `cargo xtask dmar`: what a machine's DMAR table says, and what the driver would do there
//! and why. Reads table files, or the running Linux system.

mod decisions;
mod input;
mod json;
mod picture;
mod system;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use input::Input;

/// Switches of `cargo xtask dmar`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Tables as ACPI has them, header included. Without any, the running Linux system's
    /// table, PCI devices and registers are read (as root).
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the running system's `sysfs` is, or a copy of another machine's.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/sys",
        conflicts_with = "files"
    )]
    sys: PathBuf,
    /// Print an array with one JSON object for each table.
    #[arg(long)]
    json: bool,
    /// Capability Register that every unit shall be taken to have, in hexadecimal.
    #[arg(long, value_name = "HEX", value_parser = hexadecimal, requires = "ecap")]
    cap: Option<u64>,
    /// Extended Capability Register, likewise.
    #[arg(long, value_name = "HEX", value_parser = hexadecimal, requires = "cap")]
    ecap: Option<u64>,
}

/// Prints the tables. Fails only if one cannot be had; what is wrong with it is printed.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    print!("{}", answer(arguments)?);
    Ok(ExitCode::SUCCESS)
}

fn answer(arguments: &Arguments) -> Result<String> {
    let mut inputs = if arguments.files.is_empty() {
        vec![Input::running_system(&arguments.sys)?]
    } else {
        arguments
            .files
            .iter()
            .map(|path| Input::file(path))
            .collect::<Result<_>>()?
    };
    if let (Some(cap), Some(ecap)) = (arguments.cap, arguments.ecap) {
        for input in &mut inputs {
            input.assume(cap, ecap);
        }
    }
    if arguments.json {
        let objects: Vec<_> = inputs.iter().map(json::Table::of).collect();
        Ok(serde_json::to_string_pretty(&objects)? + "\n")
    } else {
        let pictures: Vec<_> = inputs.iter().map(picture::of).collect();
        Ok(pictures.join("\n"))
    }
}

fn hexadecimal(text: &str) -> Result<u64, String> {
    let digits = text.trim().trim_start_matches("0x").replace('_', "");
    u64::from_str_radix(&digits, 16).map_err(|error| error.to_string())
}
