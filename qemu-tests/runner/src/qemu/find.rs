//! Which QEMU is used: the one that was named, one on the PATH, or Debian's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::{Qemu, Version, probe};
use crate::command;
use crate::provision::{self, Suite};
use crate::workspace::Workspace;

/// What the command line asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    /// This program, whatever its version.
    pub(crate) program: Option<PathBuf>,
    /// The QEMU of this suite, even where another is on the PATH.
    pub(crate) suite: Option<Suite>,
}

/// Finds, if need be downloads, and probes the QEMU of a choice.
pub(crate) fn find(workspace: &Workspace, choice: &Choice) -> Result<Qemu> {
    if let Some(program) = &choice.program {
        let qemu = probe::probe(workspace, program)?;
        if qemu.version < Version::OLDEST {
            eprintln!(
                "warning: {} is QEMU {}; {} is the oldest that is tested",
                program.display(),
                qemu.version,
                Version::OLDEST
            );
        }
        return Ok(qemu);
    }
    if let Some(suite) = choice.suite {
        return probe::probe(workspace, &provision::ensure(workspace, suite)?);
    }
    match on_path() {
        Some(program) => probe::probe(workspace, &program),
        None => probe::probe(workspace, &provision::ensure(workspace, Suite::DEFAULT)?),
    }
}

/// The emulator on the PATH, if it is recent enough; an older one is passed over aloud.
fn on_path() -> Option<PathBuf> {
    let program = search(&std::env::var_os("PATH")?, "qemu-system-x86_64")?;
    match version_of(&program) {
        Ok(version) if version >= Version::OLDEST => Some(program),
        Ok(version) => {
            eprintln!(
                "{} is {version}, older than {}: not used",
                program.display(),
                Version::OLDEST
            );
            None
        }
        Err(error) => {
            eprintln!("{} is not used: {error:#}", program.display());
            None
        }
    }
}

fn search(path: &std::ffi::OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

fn version_of(program: &Path) -> Result<Version> {
    let reported = command::succeed(Command::new(program).arg("--version"))?;
    match Version::parse(&reported) {
        Some(version) => Ok(version),
        None => bail!("it reports no version"),
    }
}
