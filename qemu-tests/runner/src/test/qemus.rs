//! The QEMUs of a test run, one for each suite.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::provision::Suite;
use crate::qemu::{self, Choice, Qemu};
use crate::workspace::Workspace;

/// Each QEMU, or why there is none.
pub(crate) struct Qemus {
    by_suite: BTreeMap<Suite, Result<Qemu, String>>,
}

impl Qemus {
    /// Gets those of these suites; a program that was named stands for the suite of its
    /// version.
    pub(crate) fn find(workspace: &Workspace, choice: &Choice, suites: &[Suite]) -> Result<Self> {
        let mut by_suite = BTreeMap::new();
        if choice.program.is_some() {
            let qemu = qemu::find(workspace, choice)?;
            by_suite.insert(stands_for(&qemu), Ok(qemu));
        } else {
            for &suite in suites {
                let wanted = Choice {
                    program: None,
                    suite: Some(suite),
                };
                let found = qemu::find(workspace, &wanted).map_err(|error| format!("{error:#}"));
                by_suite.insert(suite, found);
            }
        }
        Ok(Self { by_suite })
    }

    /// The suites that cases can be run on: not those that nobody asked for.
    pub(crate) fn suites(&self) -> impl Iterator<Item = Suite> {
        self.by_suite.keys().copied()
    }

    /// The QEMU of a suite.
    pub(crate) fn get(&self, suite: Suite) -> Result<&Qemu, String> {
        match self.by_suite.get(&suite) {
            Some(Ok(qemu)) => Ok(qemu),
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!("QEMU {} was not asked for", suite.version())),
        }
    }
}

/// The suite whose tests a QEMU that was named can be expected to pass.
fn stands_for(qemu: &Qemu) -> Suite {
    match (qemu.version.major, qemu.version.minor, qemu.version.micro) {
        (10, 0, 0..=2) => Suite::BookwormBackports,
        (10, 0, _) => Suite::Trixie,
        _ => Suite::TrixieBackports,
    }
}
