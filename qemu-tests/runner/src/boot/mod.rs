//! One boot: QEMU runs a machine, and all that it, the kernel and the guests say of it is
//! gathered. Nothing is judged here.

mod evidence;
mod listener;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::log::{LogLine, Programs, explain};
use crate::qemu::{Machine, Qemu, moved_trace, run};
use crate::trace::Trace;
use crate::wire::Line;

pub(crate) use evidence::Evidence;
use evidence::Testimony;
#[cfg(test)]
pub(crate) use evidence::evidence_of;
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
    let backtrace = backtrace(&heard, programs, &machine.kernel);
    Ok(Evidence {
        finished,
        heard,
        trace,
        backtrace,
    })
}

/// The kernel's addresses, if it ended as no kernel should.
fn backtrace(heard: &Testimony, programs: &Programs, image: &Path) -> Vec<String> {
    match heard.exit() {
        Some(("panic" | "exception", text)) => explain(programs.root(), image, text),
        _ => Vec::new(),
    }
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
