//! The tests that mutants name, in the unchanged sources: a test that fails anyway catches
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, bail};

use super::list::Mutant;
use super::scratch::Scratch;
use super::trial;
use crate::host::{Ending, TestTargets};

/// How long a test may take that nothing is known of.
const LIMIT: Duration = Duration::from_secs(600);
/// How long any test may take, and how many times as long as it took in the unchanged sources.
const AT_LEAST: Duration = Duration::from_secs(60);
const FACTOR: u32 = 20;

/// How long each test took when it passed.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    took: BTreeMap<String, Duration>,
}

impl Baseline {
    /// Runs every test that a mutant names; all must pass.
    pub(super) fn establish(
        scratch: &Scratch,
        targets: &TestTargets,
        mutants: &[&Mutant],
    ) -> Result<Self> {
        let tests: BTreeSet<&str> = mutants
            .iter()
            .flat_map(|mutant| mutant.caught_by.iter().map(String::as_str))
            .collect();
        println!("{} tests in the unchanged sources", tests.len());
        let mut baseline = Self::default();
        let mut bad = Vec::new();
        let tests: Vec<&str> = tests.into_iter().collect();
        for (test, ending, took) in
            trial::run_all(scratch, targets, &tests, |_| LIMIT, &|_, _| true)?
        {
            match ending {
                Ending::Passed => {
                    baseline.took.insert(test, took);
                }
                Ending::Failed(said) => bad.push(format!("{test} fails: {said}")),
                Ending::TimedOut => bad.push(format!("{test} takes more than {LIMIT:?}")),
                Ending::Absent => bad.push(format!("{test} does not exist, or is ignored")),
            }
        }
        if !bad.is_empty() {
            bail!(
                "in the unchanged sources, where it would catch nothing:\n{}",
                bad.join("\n")
            );
        }
        Ok(baseline)
    }

    /// How long a test may take when a fault is in.
    pub(super) fn limit(&self, test: &str) -> Duration {
        let took = self.took.get(test).copied().unwrap_or_default();
        took.saturating_mul(FACTOR).max(AT_LEAST)
    }
}
