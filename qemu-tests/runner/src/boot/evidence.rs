//! All that is known of a boot.

use std::collections::BTreeMap;

use crate::log::{LogLine, Style};
use crate::qemu::Finished;
use crate::trace::Trace;
use crate::wire::Line;

/// What QEMU, its trace and the kernel say.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// How QEMU ended, and its standard error.
    pub(crate) finished: Finished,
    /// What came over the debug console.
    pub(crate) heard: Testimony,
    /// QEMU's trace.
    pub(crate) trace: Trace,
    /// Where the addresses in the kernel's last line lie, if it panicked or met an exception.
    pub(crate) backtrace: Vec<String>,
}

impl Evidence {
    /// What a person wants to see first when something failed: the end of the log, and the
    /// backtrace.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        let first = self.heard.log.len().saturating_sub(LAST_LINES);
        let log = self.heard.log.iter().skip(first);
        log.map(|line| line.show(Style::Plain))
            .chain(self.backtrace.iter().cloned())
            .collect()
    }
}

/// Lines of the log that are repeated when something failed.
const LAST_LINES: usize = 10;

/// What came over the debug console.
#[derive(Debug, Default)]
pub(crate) struct Testimony {
    /// Text before the first record.
    pub(crate) firmware: String,
    /// Records of all streams.
    pub(crate) records: u64,
    /// Lines of the report.
    pub(crate) report: Vec<Line>,
    /// Lines of all logs, in the order in which they came.
    pub(crate) log: Vec<LogLine>,
    /// What could not be understood. Any of it spoils the evidence.
    pub(crate) damage: Vec<String>,
    /// Stray text since the last record.
    stray: String,
}

impl Testimony {
    /// A record came.
    pub(super) fn count_record(&mut self) {
        self.end_stray();
        self.records += 1;
    }

    /// Text that is no record: firmware's before the first one, damage after it.
    pub(super) fn take_stray(&mut self, text: &str) {
        if self.records == 0 {
            self.firmware.push_str(text);
        } else {
            self.stray.push_str(text);
        }
    }

    /// No more stray text belongs to what came last.
    pub(super) fn end_stray(&mut self) {
        let stray = std::mem::take(&mut self.stray);
        if !stray.is_empty() {
            self.damage.push(format!(
                "{} stray bytes between records: {}",
                stray.len(),
                stray.escape_debug()
            ));
        }
    }

    /// Name and text of the line by which the kernel ended, if it is the last one.
    pub(crate) fn exit(&self) -> Option<(&str, &str)> {
        match self.report.last() {
            Some(Line::Exit { name, text }) => Some((name, text)),
            _ => None,
        }
    }

    /// The figures by name: of several of one kernel the last, and those of several kernels,
    /// one of which started the next, added up.
    pub(crate) fn figures(&self) -> BTreeMap<&str, u64> {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        let mut current: BTreeMap<&str, u64> = BTreeMap::new();
        for line in &self.report {
            match line {
                Line::Program {
                    stream: KERNEL_STREAM,
                    ..
                } => add_up(&mut sums, std::mem::take(&mut current)),
                Line::Figure { name, value } => {
                    current.insert(name.as_str(), *value);
                }
                _ => {}
            }
        }
        add_up(&mut sums, current);
        sums
    }
}

/// The stream of a kernel's own log.
const KERNEL_STREAM: u8 = 1;

fn add_up<'a>(sums: &mut BTreeMap<&'a str, u64>, figures: BTreeMap<&'a str, u64>) {
    for (name, value) in figures {
        let sum = sums.entry(name).or_default();
        *sum = sum.saturating_add(value);
    }
}

/// A boot that ended with `ok`, of these report lines and this trace.
#[cfg(test)]
pub(crate) fn evidence_of(report: &[&str], trace: &[&str]) -> Evidence {
    let mut evidence = Evidence {
        finished: Finished {
            ending: crate::qemu::Ending::Code(33),
            stderr: String::new(),
            elapsed: std::time::Duration::from_millis(80),
        },
        heard: Testimony {
            records: report.len() as u64,
            report: report
                .iter()
                .map(|line| Line::parse(line.as_bytes()).unwrap())
                .collect(),
            ..Testimony::default()
        },
        trace: Trace::default(),
        backtrace: Vec::new(),
    };
    for line in trace {
        evidence.trace.take(line);
    }
    evidence
}
