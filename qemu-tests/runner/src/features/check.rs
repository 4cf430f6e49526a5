//! When a feature is done: its tests exist, ran in these sources and passed, and one of them
//! caught a mutant of it.

use std::fmt;

use super::rows::{Row, TestPattern};
use crate::mutants::{Mutant, Tried, Verdict};
use crate::results::{Outcome, Results};

/// What is known of the sources as they are.
pub(super) struct Evidence<'e> {
    pub(super) results: &'e Results,
    /// Commands whose results are of other sources.
    pub(super) others: &'e [String],
    /// Every mutant, and what became of it in these sources, if it was tried.
    pub(super) mutants: Vec<(&'e Mutant, Option<&'e Tried>)>,
}

/// What is said of a feature.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Done {
        tests: usize,
        caught: Vec<String>,
    },
    /// Why not.
    Open(String),
}

impl Finding {
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done { tests, caught } => {
                write!(f, "DONE {tests} tests passed; caught {}", caught.join(", "))
            }
            Self::Open(why) => write!(f, "OPEN {why}"),
        }
    }
}

impl Evidence<'_> {
    /// What is to be said of a row.
    pub(super) fn judge(&self, row: &Row) -> Finding {
        self.tests_and_mutants(row).unwrap_or_else(Finding::Open)
    }

    fn tests_and_mutants(&self, row: &Row) -> Result<Finding, String> {
        if let Some(why) = &row.open {
            return Err(why.clone());
        }
        if row.tests.is_empty() {
            return Err("no test is named".to_owned());
        }
        let mut tests = 0;
        for pattern in &row.tests {
            tests += self.passed(pattern)?;
        }
        let caught = self.caught(row)?;
        Ok(Finding::Done { tests, caught })
    }

    /// How many tests a name means; all of them passed.
    fn passed(&self, pattern: &TestPattern) -> Result<usize, String> {
        let mut passed = 0;
        let mut skipped = 0;
        for (name, outcome) in &self.results.tests {
            if !pattern.means(name) {
                continue;
            }
            match outcome {
                Outcome::Passed => passed += 1,
                Outcome::Failed => return Err(format!("{name} failed")),
                Outcome::Skipped => skipped += 1,
            }
        }
        match (passed, skipped) {
            (0, 0) if self.others.is_empty() => Err(format!("{} did not run", pattern.shown())),
            (0, 0) => Err(format!(
                "{} did not run in these sources; results of {} are of others",
                pattern.shown(),
                self.others.join(", ")
            )),
            (0, _) => Err(format!("{} was skipped", pattern.shown())),
            _ => Ok(passed),
        }
    }

    /// The row's mutants that its tests caught; at least one, and none that was not caught.
    fn caught(&self, row: &Row) -> Result<Vec<String>, String> {
        let mut caught = Vec::new();
        let mut known = false;
        let mut untried = None;
        for (mutant, tried) in self.mutants_of(row) {
            known = true;
            let Some(tried) = tried else {
                untried.get_or_insert(&mutant.name);
                continue;
            };
            if let Some(why) = objection(tried) {
                return Err(why);
            }
            let by_own = tried
                .caught_by()
                .any(|test| row.tests.iter().any(|pattern| pattern.means(test)));
            if by_own {
                caught.push(mutant.name.clone());
            }
        }
        match (caught.is_empty(), untried) {
            (false, _) => Ok(caught),
            (true, Some(name)) => Err(format!("mutant {name} was not tried in these sources")),
            (true, None) if known => Err("no mutant was caught by one of its tests".to_owned()),
            (true, None) => Err("no mutant is named for it".to_owned()),
        }
    }

    fn mutants_of(&self, row: &Row) -> impl Iterator<Item = (&Mutant, Option<&Tried>)> {
        self.mutants
            .iter()
            .copied()
            .filter(|(mutant, _)| mutant.rows.contains(&row.id))
    }
}

fn objection(tried: &Tried) -> Option<String> {
    let name = &tried.name;
    match &tried.verdict {
        Verdict::Caught { .. } => None,
        Verdict::Survived { test } => Some(format!("mutant {name} survived {test}")),
        Verdict::Hung { test } => Some(format!("mutant {name} made {test} hang")),
        Verdict::NotBuilt { .. } => Some(format!("mutant {name} was not built")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::rows::tests::parsed;
    use super::*;
    use crate::mutants::{Catch, Record, some_mutant};

    /// One mutant of row I1, tried or not, and results of tests.
    struct Known {
        mutants: Vec<Mutant>,
        record: Record,
        results: Results,
        others: Vec<String>,
    }

    impl Known {
        fn new(tests: &[(&str, Outcome)]) -> Self {
            Self {
                mutants: vec![some_mutant("m", "one")],
                record: Record::default(),
                results: Results {
                    sources: "1".to_owned(),
                    tests: tests
                        .iter()
                        .map(|(name, outcome)| ((*name).to_owned(), *outcome))
                        .collect(),
                },
                others: Vec::new(),
            }
        }

        fn tried(mut self, verdict: Verdict) -> Self {
            let tried = Tried::new(&self.mutants[0], "1".to_owned(), verdict, Duration::ZERO);
            self.record.add(tried);
            self
        }

        fn judge(&self, tests: &str, limits: &str) -> Finding {
            let row = Row {
                id: "I1".to_owned(),
                ..parsed(tests, limits)
            };
            Evidence {
                results: &self.results,
                others: &self.others,
                mutants: self
                    .mutants
                    .iter()
                    .map(|mutant| (mutant, self.record.of(mutant, "1")))
                    .collect(),
            }
            .judge(&row)
        }

        fn why(&self, tests: &str, limits: &str) -> String {
            match self.judge(tests, limits) {
                Finding::Open(why) => why,
                done => panic!("{done}"),
            }
        }
    }

    fn caught(test: &str) -> Verdict {
        Verdict::Caught {
            by: vec![Catch {
                test: test.to_owned(),
                said: "why".to_owned(),
            }],
        }
    }

    const PASSED: &[(&str, Outcome)] = &[("a::x", Outcome::Passed), ("b::y", Outcome::Passed)];

    #[test]
    fn a_feature_is_done_if_its_tests_passed_and_one_of_them_caught_a_mutant() {
        let known = Known::new(PASSED).tried(caught("a::x"));
        assert_eq!(
            known.judge("`a::x`, `b::*`", "not on Tuesdays"),
            Finding::Done {
                tests: 2,
                caught: vec!["m".to_owned()]
            }
        );
        // The same, but for a mutant that a test of another row caught.
        let known = Known::new(PASSED).tried(caught("c::z"));
        assert!(known.why("`a::x`", "").contains("no mutant was caught by"));
    }

    #[test]
    fn a_limit_that_says_open_keeps_a_row_open() {
        let known = Known::new(PASSED).tried(caught("a::x"));
        assert!(known.judge("`a::x`", "half of it").is_done());
        assert_eq!(known.why("`a::x`", "OPEN: half of it"), "half of it");
    }

    #[test]
    fn a_row_without_tests_or_with_one_that_did_not_run_is_open() {
        let mut known = Known::new(PASSED).tried(caught("a::x"));
        assert_eq!(known.why("", ""), "no test is named");
        assert_eq!(known.why("`a::x`, `a::gone`", ""), "a::gone did not run");
        known.others.push("test".to_owned());
        assert!(known.why("`a::gone`", "").contains("of others"));
    }

    #[test]
    fn a_test_that_failed_or_was_skipped_leaves_its_row_open() {
        for (outcome, said) in [
            (Outcome::Failed, "b::y failed"),
            (Outcome::Skipped, "b::y was skipped"),
        ] {
            let known =
                Known::new(&[("a::x", Outcome::Passed), ("b::y", outcome)]).tried(caught("a::x"));
            assert_eq!(known.why("`a::x`, `b::y`", ""), said);
            assert!(known.judge("`a::x`", "").is_done());
        }
    }

    #[test]
    fn a_boot_counts_if_it_passed_on_a_machine_and_failed_on_none() {
        let one = ("boot::x[legacy]", Outcome::Passed);
        let skipped = Known::new(&[one, ("boot::x[old]", Outcome::Skipped)]);
        let failed = Known::new(&[one, ("boot::x[old]", Outcome::Failed)]);
        assert!(
            skipped
                .tried(caught("boot::x"))
                .judge("`boot::x`", "")
                .is_done()
        );
        assert_eq!(
            failed.tried(caught("boot::x")).why("`boot::x`", ""),
            "boot::x[old] failed"
        );
    }

    #[test]
    fn a_row_needs_a_mutant_that_was_tried_as_it_stands_and_did_not_survive() {
        let mut known = Known::new(PASSED);
        assert!(known.why("`a::x`", "").contains("m was not tried"));
        let survived = Verdict::Survived {
            test: "a::x".to_owned(),
        };
        known = known.tried(survived);
        assert!(known.why("`a::x`", "").contains("m survived a::x"));
        known = known.tried(caught("a::x"));
        assert!(known.judge("`a::x`", "").is_done());
        known.mutants[0].find.push('!');
        assert!(known.why("`a::x`", "").contains("m was not tried"));
        known.mutants.clear();
        assert_eq!(known.why("`a::x`", ""), "no mutant is named for it");
    }

    #[test]
    fn one_surviving_mutant_is_enough_to_keep_a_row_open() {
        let mut known = Known::new(PASSED).tried(caught("a::x"));
        let second = some_mutant("n", "one");
        known.record.add(Tried::new(
            &second,
            "1".to_owned(),
            Verdict::Hung {
                test: "a::x".to_owned(),
            },
            Duration::ZERO,
        ));
        known.mutants.push(second);
        assert!(known.why("`a::x`", "").contains("n made a::x hang"));
    }
}
