//! One boot: QEMU runs a machine, and all that it, the kernel and the guests say of it is
//! gathered. Nothing is judged here.

mod evidence;
mod listener;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::log::{LogLine, Programs};
use crate::qemu::{Machine, Qemu, moved_trace, run};
use crate::trace::Trace;
use crate::wire::Line;

#[cfg(test)]
pub(crate) use evidence::evidence_of;
pub(crate) use evidence::{Evidence, Testimony};
use listener::Listener;

/// Where a boot leaves its files, and for how long it may run.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// A directory of its own.
    pub(crate) directory: PathBuf,
    /// `None` under a debugger.
    pub(crate) limit: Option<Duration>,
}

/// What the kernel says, as it says it.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    /// A line of a log.
    Log(&'a LogLine),
    /// A line of the report.
    Report(&'a Line),
    /// Firmware's text, or anything else that is no record.
    Stray(&'a str),
}

/// Boots a machine and waits for its end.
pub(crate) fn boot(
    qemu: &Qemu,
    machine: &Machine,
    programs: &Programs,
    terms: &Terms,
    on_heard: &mut dyn FnMut(Heard<'_>),
) -> Result<Evidence> {
    std::fs::create_dir_all(&terms.directory)
        .with_context(|| format!("cannot create {}", terms.directory.display()))?;
    let own_trace = terms.directory.join("trace.txt");
    let trace = moved_trace(&machine.extra).unwrap_or_else(|| own_trace.clone());
    remove_stale(&trace)?;
    let arguments = machine.arguments(&qemu.abilities, &own_trace)?;

    let mut listener = Listener::new(programs, on_heard);
    let finished = run(&qemu.program, &arguments, terms.limit, |bytes| {
        listener.hear(bytes);
    })?;
    let heard = listener.finish();
    let trace = if trace.exists() {
        Trace::read(&trace)?
    } else {
        Trace::default()
    };
    Ok(Evidence {
        finished,
        heard,
        trace,
    })
}

/// A trace of the last run must not speak for this one.
fn remove_stale(trace: &Path) -> Result<()> {
    match std::fs::remove_file(trace) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound && trace.is_file() => {
            Err(error).with_context(|| format!("cannot remove {}", trace.display()))
        }
        _ => Ok(()),
    }
}
