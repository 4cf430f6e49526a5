//! What a test wants to find in the log and in QEMU's trace, beside its own result.

use vtd_inspect::{Detail, RawDump};

use crate::boot::Evidence;
use crate::wire::Line;

/// What must be there, and what must not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traces {
    /// Parts of log lines, which must come in this order, each in a line of its own.
    pub(crate) logs: Vec<String>,
    /// Events of QEMU's trace that must be there.
    pub(crate) shows: Vec<String>,
    /// Events of QEMU's trace that must not be there.
    pub(crate) lacks: Vec<String>,
}

impl Traces {
    /// What is missing, and what is too much.
    pub(crate) fn problems(&self, evidence: &Evidence) -> Vec<String> {
        let mut problems = Vec::new();
        let mut lines = evidence.heard.log.iter();
        for wanted in &self.logs {
            if !lines.any(|line| line.text.contains(wanted.as_str())) {
                problems.push(format!(
                    "the log does not say `{wanted}`, or not in its order"
                ));
                break;
            }
        }
        let missing = self
            .shows
            .iter()
            .filter(|event| evidence.trace.count(event) == 0);
        problems.extend(missing.map(|event| format!("QEMU's trace does not show {event}")));
        let too_many = self
            .lacks
            .iter()
            .map(|event| (event, evidence.trace.count(event)));
        problems.extend(
            too_many
                .filter(|(_, count)| *count > 0)
                .map(|(event, count)| format!("QEMU's trace shows {event}, {count} times")),
        );
        problems.extend(dump_differs(evidence));
        problems
    }
}

/// Where the kernel dumped its units both decoded and raw: that the raw dump, decoded here,
/// says the same.
fn dump_differs(evidence: &Evidence) -> Option<String> {
    let mut dump = RawDump::default();
    let mut live = String::new();
    for line in &evidence.heard.report {
        match line {
            Line::Dump(text) => {
                live.push_str(text);
                live.push('\n');
            }
            Line::Raw(line) => {
                if let Err(error) = dump.take(line) {
                    return Some(error.to_string());
                }
            }
            _ => {}
        }
    }
    if live.is_empty() || dump.is_empty() {
        return None;
    }
    let mut told = String::new();
    if dump.write(Detail::Leaves, &mut told).is_err() {
        return Some("the raw dump cannot be told".to_owned());
    }
    let differing = told.lines().zip(live.lines()).find(|(a, b)| a != b);
    match differing {
        Some((here, there)) => Some(format!(
            "the raw dump says `{here}` where the kernel said `{there}`"
        )),
        None if told.lines().count() != live.lines().count() => {
            Some("the raw dump and the kernel's differ in length".to_owned())
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::evidence_of;

    fn wanted(shows: &[&str], lacks: &[&str]) -> Traces {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Traces {
            logs: Vec::new(),
            shows: words(shows),
            lacks: words(lacks),
        }
    }

    #[test]
    fn an_event_that_must_come_and_one_that_must_not_are_told() {
        let evidence = evidence_of(&["exit ok"], &["vtd_reg_read addr 0x8"]);
        assert!(
            wanted(&["vtd_reg_read"], &["vtd_reg_write"])
                .problems(&evidence)
                .is_empty()
        );
        let problems = wanted(&["vtd_reg_write"], &["vtd_reg_read"]).problems(&evidence);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn a_raw_dump_that_says_something_else_is_told() {
        let raw = ["raw unit 0 30", "raw r64 8 0", "raw r64 10 0"];
        let dump = [
            "dump unit 0: registers",
            "dump   the unit does not answer",
            "dump unit 0: tables",
            "dump   the unit does not answer",
            "dump unit 0: invalidation queue",
            "dump   the unit does not answer",
            "dump unit 0: interrupt-remapping table",
            "dump   the unit does not answer",
        ];
        let good = [&raw[..], &dump[..], &["exit ok"]].concat();
        assert_eq!(dump_differs(&evidence_of(&good, &[])), None);
        let mut bad = good.clone();
        bad[4] = "dump   the unit answers";
        assert!(dump_differs(&evidence_of(&bad, &[])).is_some());
        bad.remove(4);
        assert!(dump_differs(&evidence_of(&bad, &[])).is_some());
    }

    #[test]
    fn a_log_line_that_is_missing_is_told() {
        let evidence = evidence_of(&["exit ok"], &[]);
        let wanted = Traces {
            logs: vec!["translation on".to_owned()],
            ..Traces::default()
        };
        assert_eq!(wanted.problems(&evidence).len(), 1);
    }
}
