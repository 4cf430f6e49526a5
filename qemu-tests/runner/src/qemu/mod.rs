//! A QEMU: which one, what it can do, how a machine is described to it, and a run of it.

mod abilities;
mod find;
mod machine;
mod probe;
mod process;
mod version;

use std::path::PathBuf;

pub(crate) use abilities::Abilities;
pub(crate) use find::{Choice, find};
pub(crate) use machine::{Clock, Machine, Mode, Unit, moved_trace};
pub(crate) use process::{Ending, Finished, run};
pub(crate) use version::Version;

/// An emulator that was found and probed.
#[derive(Debug, Clone)]
pub(crate) struct Qemu {
    /// The program, or the launcher of an unpacked one.
    pub(crate) program: PathBuf,
    /// What it reports.
    pub(crate) version: Version,
    /// What it can do.
    pub(crate) abilities: Abilities,
}
