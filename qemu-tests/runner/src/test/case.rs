//! Cases: a test on one machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::bad_input::BadInput;
use super::descriptor::Descriptor;
use super::matrix::{Axes, Corner};
use super::switches::Switch;

/// What is booted and judged.
#[derive(Debug, Clone)]
pub(crate) enum Subject {
    /// A boot test.
    Boot(Arc<Descriptor>),
    /// The whole of `cargo xtask run`.
    Demonstration(Demonstration),
    /// A machine or a command line that the kernel must refuse in words.
    BadInput(BadInput),
    /// The kernel with switches on its command line.
    Switch(Switch),
}

/// A way to run the demonstration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demonstration {
    /// Its name.
    pub(crate) name: &'static str,
    /// QEMU's CPU model, if it is another than usual.
    pub(crate) cpu: Option<&'static str>,
    /// How the guest must run, if the kernel is not told.
    pub(crate) falls_back_to: Option<&'static str>,
}

impl Demonstration {
    /// All ways.
    pub(crate) const ALL: [Self; 2] = [
        Self {
            name: "run",
            cpu: None,
            falls_back_to: None,
        },
        Self {
            name: "run_on_a_cpu_without_svm",
            cpu: Some("qemu64,-svm"),
            falls_back_to: Some("direct"),
        },
    ];

    /// On which machines: the fallback is one decision, so one machine shows it.
    pub(crate) fn axes(&self) -> Axes {
        match self.falls_back_to {
            None => Axes::of_demonstrations(),
            Some(_) => Axes::of_boot_tests().first(),
        }
    }
}

/// A test on one machine.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Its test.
    pub(crate) subject: Subject,
    /// Its machine.
    pub(crate) corner: Corner,
    /// All its random choices follow from this.
    pub(crate) seed: u64,
}

/// What became of a case.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    /// The case's name.
    pub(crate) name: String,
    /// What became of it.
    pub(crate) verdict: Verdict,
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// How to run it again, alone.
    pub(crate) repeat: String,
    /// Where its files are.
    pub(crate) directory: PathBuf,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All held.
    Passed,
    /// What did not hold, and the last lines of the log.
    Failed {
        problems: Vec<String>,
        last_lines: Vec<String>,
    },
    /// Why it could not be tried.
    Skipped(String),
}

impl Case {
    /// The test's name and, in brackets, its machine.
    pub(crate) fn name(&self) -> String {
        let test = match &self.subject {
            Subject::Boot(descriptor) => &descriptor.name,
            Subject::Demonstration(demonstration) => demonstration.name,
            Subject::BadInput(input) => input.name,
            Subject::Switch(switch) => switch.name,
        };
        format!("{test}[{}]", self.corner)
    }

    /// Whether a filter means it: by its whole name, else by any part of it.
    pub(crate) fn matches(&self, filter: &str) -> bool {
        self.name().contains(filter)
    }

    /// Whether it is of this test; of one machine only, if the name has one in brackets.
    pub(crate) fn is_of(&self, test: &str) -> bool {
        let name = self.name();
        name == test || test_of(&name) == test
    }

    /// A directory for its files.
    pub(crate) fn directory(&self, target: &Path) -> PathBuf {
        let name: String = self
            .name()
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                    c
                } else {
                    '+'
                }
            })
            .collect();
        target.join("boots").join(name.trim_end_matches('+'))
    }
}

/// The test in a case's name: what stands before the brackets.
pub(crate) fn test_of(name: &str) -> &str {
    name.split_once('[').map_or(name, |(test, _)| test)
}

/// The cases that a filter means.
pub(crate) fn select(cases: Vec<Case>, filter: Option<&str>) -> Vec<Case> {
    let Some(filter) = filter else { return cases };
    let exact: Vec<Case> = cases
        .iter()
        .filter(|case| case.name() == filter)
        .cloned()
        .collect();
    if exact.is_empty() {
        cases
            .into_iter()
            .filter(|case| case.matches(filter))
            .collect()
    } else {
        exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Matrix;

    fn cases() -> Vec<Case> {
        Axes::of_demonstrations()
            .corners(Matrix::Pairs)
            .into_iter()
            .map(|corner| Case {
                subject: Subject::Demonstration(Demonstration::ALL[0]),
                corner,
                seed: 1,
            })
            .collect()
    }

    #[test]
    fn a_filter_takes_any_part_of_a_name_and_a_whole_name_takes_one_case() {
        let all = cases();
        let legacy = select(all.clone(), Some("legacy"));
        assert!(!legacy.is_empty() && legacy.len() < all.len());
        let one = select(all.clone(), Some(&all[2].name()));
        assert_eq!(one.len(), 1);
        assert_eq!(select(all.clone(), None).len(), all.len());
        assert!(select(all, Some("nothing")).is_empty());
    }

    #[test]
    fn a_test_means_its_cases_and_a_case_only_itself() {
        let all = cases();
        let of = |name: &str| all.iter().filter(|case| case.is_of(name)).count();
        assert_eq!(of("run"), all.len());
        assert_eq!(of(&all[1].name()), 1);
        assert_eq!(of("ru"), 0);
    }

    #[test]
    fn directories_are_plain_words() {
        let directory = cases()[0].directory(Path::new("t"));
        assert_eq!(
            directory,
            Path::new("t/boots/run+legacy+11.1+aw48+1cpu+svm")
        );
    }
}
