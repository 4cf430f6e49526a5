//! The command line of `cargo xtask`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::build::LogLevels;
use crate::provision::Suite;
use crate::qemu::{Choice, Mode};
use crate::{bench, decode, differential, dmar, fuzz, hostile, mutants};

/// Builds the hypervisor, boots it in QEMU, decodes what it says and judges it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build the kernel, the guests and the boot tests.
    Build(BuildArguments),
    /// Boot the kernel, let a guest bind its page tables to a device, and judge what happened.
    Run(RunArguments),
    /// Run the host tests, then the boot tests.
    Test(TestArguments),
    /// Break the drivers in many small ways, and see that tests notice each.
    Mutants(mutants::Arguments),
    /// Say of each feature whether a test shows it, as the last results have it.
    Features,
    /// Read DMAR tables, and say what the driver would do on the machines they come from.
    Dmar(dmar::Arguments),
    /// Tell in words what a raw dump of remapping units holds.
    Decode(decode::Arguments),
    /// Make random and adversarial hypercalls, and hold the driver on the model to its promises.
    Hostile(hostile::Arguments),
    /// Measure mapping, beside other crates and the limit.
    Bench(bench::Arguments),
    /// Give a reader of foreign bytes all that a fuzzer can think of.
    Fuzz(fuzz::Arguments),
    /// Give the same tables and requests to the model and to QEMU, and compare.
    Differential(differential::Arguments),
}

#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    /// Log levels to compile in: off, error, warn, info, debug or trace, for all or by module.
    #[arg(long, value_name = "LEVEL[,MODULE=LEVEL]")]
    pub(crate) log: Option<LogLevels>,
}

#[derive(Debug, Args)]
pub(crate) struct QemuArguments {
    /// Use this QEMU.
    #[arg(long, value_name = "PATH", conflicts_with = "qemu_version")]
    pub(crate) qemu: Option<PathBuf>,
    /// Use the QEMU of a Debian suite: 11.1 is that of Debian 13's backports (or what follows
    /// it), 10.0 Debian 13's own, 10.0.2 that of Debian 12's backports.
    #[arg(long, value_name = "10.0|11.1", value_parser = suite)]
    pub(crate) qemu_version: Option<Suite>,
}

impl QemuArguments {
    /// What was asked for.
    pub(crate) fn choice(&self) -> Choice {
        Choice {
            program: self.qemu.clone(),
            suite: self.qemu_version,
        }
    }
}

fn suite(text: &str) -> Result<Suite, String> {
    Suite::of_version(text).ok_or_else(|| {
        let known: Vec<_> = Suite::ALL.map(Suite::version).to_vec();
        format!("there are {}", known.join(", "))
    })
}

/// Which back-end runs the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Guest {
    /// AMD SVM with nested paging.
    Svm,
    /// The guest's side runs in the kernel, on a guest memory of its own.
    Direct,
}

impl Guest {
    /// The word of the kernel's command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Svm => "svm",
            Self::Direct => "direct",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Table mode; the default is first-stage where this QEMU has it, else second-stage.
    #[arg(long)]
    pub(crate) mode: Option<Mode>,
    /// Back-end of the virtual CPU; the kernel takes SVM where the CPU has it, else direct.
    #[arg(long)]
    pub(crate) guest: Option<Guest>,
    /// More words for the kernel's command line.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) append: Option<String>,
    /// A DMAR table to use in place of the firmware's.
    #[arg(long, value_name = "FILE")]
    pub(crate) dmar: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) qemu: QemuArguments,
    #[command(flatten)]
    pub(crate) build: BuildArguments,
    /// Seed of all random choices, to repeat a run; a new one if not given.
    #[arg(long, value_name = "N", value_parser = seed)]
    pub(crate) seed: Option<u64>,
    /// Address width of the remapping unit, in bits: 39 or 48.
    #[arg(long, value_name = "BITS")]
    pub(crate) aw: Option<u8>,
    /// Let the unit claim to cache entries that are not present.
    #[arg(long)]
    pub(crate) caching_mode: bool,
    /// CPUs of the machine.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) smp: u32,
    /// Seconds after which a run counts as hanging.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) time_limit: u64,
    /// Wait for a debugger before the first instruction, and print how to attach one.
    #[arg(long)]
    pub(crate) gdb: bool,
    /// Further arguments of QEMU.
    #[arg(last = true, value_name = "QEMU ARGUMENTS")]
    pub(crate) extra: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct TestArguments {
    /// Only boot tests whose name contains this.
    pub(crate) filter: Option<String>,
    /// Only print which boots there are.
    #[arg(long)]
    pub(crate) list: bool,
    /// How many of the combinations of mode, QEMU, address width, caching mode and CPUs.
    #[arg(long, value_enum, default_value_t = Matrix::Pairs)]
    pub(crate) matrix: Matrix,
    /// Write the results to a file in JUnit's format.
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Stop the one boot that the filter leaves at its start, and print how to attach gdb.
    #[arg(long)]
    pub(crate) gdb: bool,
    /// Seed of all random choices, to repeat a boot; a new one for each boot if not given.
    #[arg(long, value_name = "N", value_parser = seed)]
    pub(crate) seed: Option<u64>,
    /// Leave the host tests out; a filter does that too.
    #[arg(long)]
    pub(crate) no_host: bool,
    /// Run the host tests of this package, and no boots.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["filter", "no_host", "gdb"])]
    pub(crate) package: Vec<String>,
    /// Boots at a time; the default is the number of CPUs.
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    #[command(flatten)]
    pub(crate) qemu: QemuArguments,
    #[command(flatten)]
    pub(crate) build: BuildArguments,
}

/// How much of the matrix is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Matrix {
    /// Every pair of values of two axes at least once.
    Pairs,
    /// Every combination.
    Full,
}

/// A number in decimal, or in hexadecimal with `0x`.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(words: &[&str]) -> RunArguments {
        let words = ["cargo xtask", "run"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(arguments) => arguments,
            _ => panic!(),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_two_dashes_goes_to_qemu() {
        let arguments = run(&["--mode", "legacy", "--", "-D", "trace", "-m", "1G"]);
        assert_eq!(arguments.mode, Some(Mode::Legacy));
        assert_eq!(arguments.extra, ["-D", "trace", "-m", "1G"]);
    }

    #[test]
    fn versions_stand_for_suites_and_others_are_refused() {
        assert_eq!(
            run(&["--qemu-version", "10.0"]).qemu.qemu_version,
            Some(Suite::Trixie)
        );
        assert!(Cli::try_parse_from(["x", "run", "--qemu-version", "9.0"]).is_err());
        assert!(
            Cli::try_parse_from(["x", "run", "--qemu", "q", "--qemu-version", "10.0"]).is_err()
        );
    }

    #[test]
    fn seeds_are_decimal_or_hexadecimal() {
        assert_eq!(run(&["--seed", "0x10"]).seed, Some(16));
        assert_eq!(run(&["--seed", "10"]).seed, Some(10));
        assert!(Cli::try_parse_from(["x", "run", "--seed", "ten"]).is_err());
    }
}
