//! What the driver under test did that the specification forbids, or that a test forbade.

use std::backtrace::Backtrace;
use std::fmt;
use std::sync::Arc;

/// What was broken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Rule {
    /// An access in a width or at an alignment that a register does not have (§11.2).
    Width,
    /// A read or write where no register is, or of one that the unit lacks (§11.3).
    NoRegister,
    /// A write that sets a reserved bit (§11.3).
    Reserved,
    /// A write to a register that hardware owns at this time (§6.9).
    Busy,
    /// A second command before the first one was answered (§6.9).
    OneCommand,
    /// A step that must come before this one was left out.
    Order,
    /// A value that a register or table may not hold.
    Value,
    /// The invalidation queue was used wrongly (§6.5.2).
    Queue,
    /// A request could reach memory that its owner does not own.
    Containment,
    /// A request that should succeed could fail, or reach another place.
    Availability,
    /// An entry that had to stay cached was invalidated.
    TooMuch,
    /// Software broke a rule about domain ids or table contents (§6.2.2.1, §6.2.3.1).
    Programming,
}

/// One violation, with the section that it broke and the stack of the driver's call.
#[derive(Clone)]
pub struct Violation {
    /// Which kind.
    pub rule: Rule,
    /// The section of the specification (revision 5.10), or `""` for a rule of the test's.
    pub section: &'static str,
    /// What happened, in a sentence.
    pub message: String,
    /// The model's clock, in ticks.
    pub time: u64,
    /// Where the driver was.
    pub backtrace: Arc<Backtrace>,
}

impl Violation {
    pub(crate) fn new(rule: Rule, section: &'static str, message: String, time: u64) -> Self {
        let backtrace = Arc::new(Backtrace::force_capture());
        Self {
            rule,
            section,
            message,
            time,
            backtrace,
        }
    }
}

impl Violation {
    /// The driver's calls that led here, innermost first, without the model's own and those
    /// of the standard library: a line each, function and place. Empty where the test was
    /// built without line tables.
    pub fn stack(&self) -> Vec<String> {
        let text = format!("{:#}", self.backtrace);
        let mut calls: Vec<(String, String)> = Vec::new();
        let mut function = "";
        for line in text.lines().map(str::trim) {
            if let Some(place) = line.strip_prefix("at ") {
                calls.push((function.to_owned(), place.to_owned()));
            } else {
                function = without_hash(line.rsplit_once(" - ").map_or(line, |(_, name)| name));
            }
        }
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/src/");
        // The model lies innermost, with whatever it calls back into.
        let outside = calls
            .iter()
            .rposition(|(_, place)| place.starts_with(model))
            .map_or(0, |at| at + 1);
        // The C library's places are relative, the standard library's under a name of its own.
        let library = |place: &str| {
            !place.starts_with('/') || place.starts_with("/rustc/") || place.contains("/registry/")
        };
        calls
            .split_off(outside)
            .into_iter()
            .filter(|(_, place)| !library(place))
            .map(|(function, place)| format!("{function} at {}", short(&place)))
            .collect()
    }
}

/// A symbol's name without the hash that older mangling ends with, which debug information in
/// full gives and line tables do not.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            path
        }
        _ => name,
    }
}

/// A path as seen from where the test runs.
fn short(place: &str) -> &str {
    let here = std::env::current_dir().unwrap_or_default();
    let stripped = here.to_str().and_then(|here| place.strip_prefix(here));
    stripped.map_or(place, |rest| rest.trim_start_matches('/'))
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.rule)?;
        if !self.section.is_empty() {
            write!(f, " ({})", self.section)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} at tick {}", self.time)?;
        for call in self.stack() {
            write!(f, "\n    in {call}")?;
        }
        Ok(())
    }
}
