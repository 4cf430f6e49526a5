//! Report lines: stream 0.

use std::collections::BTreeMap;

/// How a step, a claim or a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It held.
    Pass,
    /// It did not hold.
    Fail,
    /// It was not tried.
    Skip,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// Which ELF file decodes a stream.
    Program {
        /// The stream, not 0.
        stream: u8,
        /// `kernel`, `boot-tests`, `guest/NAME`.
        name: String,
    },
    /// What this boot runs with, asked for or not.
    Chosen(BTreeMap<String, String>),
    /// The kernel's own verdict about a step.
    Step {
        /// Its verdict.
        outcome: Outcome,
        /// Which step.
        id: String,
        /// For people.
        text: String,
    },
    /// What a guest says of itself.
    Claim {
        /// What it says: pass or fail.
        outcome: Outcome,
        /// Of which step.
        id: String,
        /// For people.
        text: String,
    },
    /// What the hypervisor saw itself.
    Witness {
        /// For which step.
        id: String,
        /// What it saw.
        values: BTreeMap<String, String>,
    },
    /// A counter at the end of the run.
    Figure {
        /// Which.
        name: String,
        /// How many.
        value: u64,
    },
    /// The result of a boot test.
    Test {
        /// Its result.
        outcome: Outcome,
        /// Which test.
        name: String,
        /// Why.
        text: String,
    },
    /// For the reader of the summary.
    Note(String),
    /// A line of a dump, decoded by the kernel.
    Dump(String),
    /// A line of a raw dump, with the `raw` that it begins with.
    Raw(String),
    /// Why the kernel ends.
    Exit {
        /// Name of the exit status.
        name: String,
        /// For people.
        text: String,
    },
}

impl Line {
    /// Reads a record of stream 0; an error says what is wrong with it.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(payload)
            .map_err(|_| format!("not UTF-8: {}", String::from_utf8_lossy(payload)))?;
        parse(text).ok_or_else(|| format!("not understood: {text}"))
    }
}

fn parse(text: &str) -> Option<Line> {
    if text.contains('\n') {
        return None;
    }
    let (kind, rest) = split(text);
    Some(match kind {
        "program" => {
            let (stream, name) = split(rest);
            Line::Program {
                stream: stream
                    .parse()
                    .ok()
                    .filter(|&stream| stream != super::REPORT)?,
                name: word(name)?,
            }
        }
        "chosen" => Line::Chosen(pairs(rest)?),
        "step" => {
            let (outcome, id, text) = judged(rest)?;
            Line::Step { outcome, id, text }
        }
        "claim" => {
            let (outcome, id, text) = judged(rest)?;
            let claimed = outcome != Outcome::Skip;
            claimed.then_some(Line::Claim { outcome, id, text })?
        }
        "test" => {
            let (outcome, name, text) = judged(rest)?;
            Line::Test {
                outcome,
                name,
                text,
            }
        }
        "witness" => {
            let (id, rest) = split(rest);
            Line::Witness {
                id: word(id)?,
                values: pairs(rest)?,
            }
        }
        "figure" => {
            let (name, value) = split(rest);
            Line::Figure {
                name: word(name)?,
                value: value.parse().ok()?,
            }
        }
        "note" => Line::Note(rest.to_owned()),
        "dump" => Line::Dump(rest.to_owned()),
        "raw" => Line::Raw(text.to_owned()),
        "exit" => {
            let (name, text) = split(rest);
            Line::Exit {
                name: word(name)?,
                text: text.to_owned(),
            }
        }
        _ => return None,
    })
}

fn judged(text: &str) -> Option<(Outcome, String, String)> {
    let (outcome, rest) = split(text);
    let outcome = match outcome {
        "pass" => Outcome::Pass,
        "fail" => Outcome::Fail,
        "skip" => Outcome::Skip,
        _ => return None,
    };
    let (id, text) = split(rest);
    Some((outcome, word(id)?, text.to_owned()))
}

fn split(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

fn word(text: &str) -> Option<String> {
    (!text.is_empty() && !text.contains(' ')).then(|| text.to_owned())
}

fn pairs(text: &str) -> Option<BTreeMap<String, String>> {
    text.split_ascii_whitespace().map(pair).collect()
}

fn pair(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    Some((word(key)?, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_kind_of_line_is_read() {
        assert_eq!(
            line("program 2 guest/nested-bind"),
            Line::Program {
                stream: 2,
                name: "guest/nested-bind".to_owned()
            }
        );
        assert_eq!(
            line("step pass units 1 unit at 0xfed90000"),
            Line::Step {
                outcome: Outcome::Pass,
                id: "units".to_owned(),
                text: "1 unit at 0xfed90000".to_owned()
            }
        );
        assert_eq!(
            line("claim fail copy"),
            Line::Claim {
                outcome: Outcome::Fail,
                id: "copy".to_owned(),
                text: String::new()
            }
        );
        assert_eq!(
            line("figure descriptors 18446744073709551615"),
            Line::Figure {
                name: "descriptors".to_owned(),
                value: u64::MAX
            }
        );
        assert_eq!(
            line("note the unit is old"),
            Line::Note("the unit is old".to_owned())
        );
        assert_eq!(
            line("dump   0x1000 to 0x1fff"),
            Line::Dump("  0x1000 to 0x1fff".to_owned())
        );
        assert_eq!(line("raw r32 1c 80"), Line::Raw("raw r32 1c 80".to_owned()));
        assert_eq!(
            line("exit panic index out of range at a.rs:1"),
            Line::Exit {
                name: "panic".to_owned(),
                text: "index out of range at a.rs:1".to_owned()
            }
        );
        let Line::Test { outcome, name, .. } = line("test skip needs_svm no SVM") else {
            panic!()
        };
        assert_eq!((outcome, name.as_str()), (Outcome::Skip, "needs_svm"));
    }

    #[test]
    fn a_witness_holds_its_values_by_name() {
        let Line::Witness { id, values } = line("witness hole address=0x5000 source=00:04.0")
        else {
            panic!()
        };
        assert_eq!(id, "hole");
        assert_eq!(values["address"], "0x5000");
        assert_eq!(values["source"], "00:04.0");
        let Line::Chosen(values) = line("chosen mode=legacy guest=svm") else {
            panic!()
        };
        assert_eq!(values["guest"], "svm");
    }

    #[test]
    fn what_is_malformed_is_refused_and_quoted() {
        for text in [
            "",
            "steps pass a b",
            "step maybe a b",
            "step pass",
            "claim skip a b",
            "program 0 kernel",
            "program 256 kernel",
            "program 1",
            "figure descriptors -1",
            "figure descriptors",
            "witness id key",
            "chosen legacy",
            "exit",
            "note a\nb",
        ] {
            let error = Line::parse(text.as_bytes()).unwrap_err();
            assert!(error.ends_with(text), "{error}");
        }
        assert!(
            Line::parse(b"note \xff")
                .unwrap_err()
                .starts_with("not UTF-8")
        );
    }
}
