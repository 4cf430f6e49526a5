//! The report: stream 0, one line a record (`docs/wire.md`).

use super::record::{Line, REPORT};
use super::transport;
use crate::exit::ExitStatus;
use core::fmt::{self, Write};

/// What became of a step or a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum Verdict {
    /// It held.
    Pass,
    /// It did not hold.
    Fail,
    /// It was not tried; the text says why.
    Skip,
}

impl Verdict {
    /// `Pass` if it held.
    pub const fn of(held: bool) -> Self {
        if held { Self::Pass } else { Self::Fail }
    }

    /// The word in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

fn line(arguments: fmt::Arguments<'_>) {
    let mut line = Line::new();
    // An error means that the line was cut off.
    let _ = line.write_fmt(arguments);
    transport::send(REPORT, line.as_bytes());
}

/// Which program's log a stream carries.
pub(super) fn program(stream: u8, name: &str) {
    line(format_args!("program {stream} {name}"));
}

/// What this boot runs with, asked for or not: `key=value` words.
pub fn chosen(values: fmt::Arguments<'_>) {
    line(format_args!("chosen {values}"));
}

/// The kernel's own verdict about a step of the demonstration.
pub fn step(verdict: Verdict, id: &str, text: fmt::Arguments<'_>) {
    line(format_args!("step {} {id} {text}", verdict.name()));
}

/// What a guest says of itself: evidence, never a verdict.
pub fn claim(held: bool, id: &str, text: fmt::Arguments<'_>) {
    line(format_args!(
        "claim {} {id} {text}",
        Verdict::of(held).name()
    ));
}

/// What the hypervisor saw itself for a step: `key=value` words.
pub fn witness(id: &str, values: fmt::Arguments<'_>) {
    line(format_args!("witness {id} {values}"));
}

/// A counter at the end of the run.
pub fn figure(name: &str, value: u64) {
    line(format_args!("figure {name} {value}"));
}

/// The result of a boot test.
pub fn test(verdict: Verdict, name: &str, text: fmt::Arguments<'_>) {
    line(format_args!("test {} {name} {text}", verdict.name()));
}

/// For the reader of the summary.
pub fn note(text: fmt::Arguments<'_>) {
    line(format_args!("note {text}"));
}

/// A line of a dump, decoded.
pub fn dump(text: fmt::Arguments<'_>) {
    line(format_args!("dump {text}"));
}

/// A line of a raw dump, which begins with `raw` itself.
pub fn raw(text: fmt::Arguments<'_>) {
    line(text);
}

/// The last line: why the kernel ends.
pub(crate) fn exit(status: ExitStatus, text: fmt::Arguments<'_>) {
    let mut line = Line::new();
    let _ = line.write_fmt(format_args!("exit {} {text}", status.name()));
    transport::send_last(REPORT, line.as_bytes());
}
