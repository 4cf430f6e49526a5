//! Boots of single tests, for those who change the sources between them.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::bad_input;
use super::case::{Case, Demonstration, Verdict};
use super::execute::Context;
use super::qemus::Qemus;
use super::{all_cases, case, switches};
use crate::build::{self, Artefacts, Group};
use crate::cli::Matrix;
use crate::host::Ending;
use crate::log::Programs;
use crate::qemu::Choice;
use crate::workspace::Workspace;

/// What boots of one state of the sources share.
pub(crate) struct Session<'w> {
    workspace: &'w Workspace,
    artefacts: Artefacts,
    programs: Programs,
    cases: Vec<Case>,
    qemus: Qemus,
}

impl<'w> Session<'w> {
    /// Builds what these tests boot. All random choices follow from `seed`.
    pub(crate) fn open(workspace: &'w Workspace, tests: &[&str], seed: u64) -> Result<Self> {
        let mut groups = vec![Group::Guests, Group::BootTests];
        if tests.iter().any(|test| boots_the_kernel(test)) {
            groups.push(Group::Kernel);
        }
        let artefacts = build::build_groups(workspace, &build::Options::default(), &groups)?;
        let programs = artefacts.log_tables(workspace)?;
        let mut cases = all_cases(&artefacts, Matrix::Pairs, Some(seed))?;
        cases.retain(|case| tests.iter().any(|test| case.is_of(test)));
        let mut suites: Vec<_> = cases.iter().map(|case| case.corner.suite).collect();
        suites.sort();
        suites.dedup();
        let qemus = Qemus::find(workspace, &Choice::default(), &suites)?;
        Ok(Self {
            workspace,
            artefacts,
            programs,
            cases,
            qemus,
        })
    }

    /// Boots a test on one machine after the other, up to the first on which it fails. The
    /// name may be that of one machine's case, in brackets.
    pub(crate) fn boot(&self, test: &str) -> Result<(Ending, Duration)> {
        let started = Instant::now();
        let context = Context {
            workspace: self.workspace,
            artefacts: &self.artefacts,
            programs: &self.programs,
            qemus: &self.qemus,
            gdb: false,
            repeat: "",
        };
        let mut ending = Ending::Absent;
        for case in self.cases.iter().filter(|case| case.is_of(test)) {
            match context.execute(case).verdict {
                Verdict::Passed => ending = Ending::Passed,
                Verdict::Skipped(_) => {}
                Verdict::Failed { problems, .. } => {
                    ending = failed(&problems);
                    break;
                }
            }
        }
        Ok((ending, started.elapsed()))
    }
}

fn failed(problems: &[String]) -> Ending {
    match problems.first() {
        Some(first) if first.starts_with("no end within") => Ending::TimedOut,
        _ => Ending::Failed(problems.join("; ")),
    }
}

fn boots_the_kernel(test: &str) -> bool {
    let test = case::test_of(test);
    Demonstration::ALL.iter().any(|known| known.name == test)
        || bad_input::ALL.iter().any(|known| known.name == test)
        || switches::ALL.iter().any(|known| known.name == test)
}
