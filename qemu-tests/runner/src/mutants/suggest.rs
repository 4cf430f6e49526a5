//! Which tests notice a fault: for who writes an entry.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::list::Mutant;
use super::scratch::Scratch;
use crate::host::{self, TestTarget, TestTargets};
use crate::workspace::Workspace;

/// How long a whole test program may take with a fault in it.
const LIMIT: Duration = Duration::from_secs(600);

/// Prints, for each mutant, every test that fails in the test programs that its entry names.
pub(super) fn run(
    workspace: &Workspace,
    scratch: &Scratch,
    mutants: &[&Mutant],
) -> Result<ExitCode> {
    let targets = TestTargets::of(workspace)?;
    for mutant in mutants {
        println!("{}", mutant.name);
        let noticed = scratch.changed(
            &mutant.file,
            |text| mutant.applied_to(text).map_err(|why| anyhow!(why)),
            || noticed(scratch, &targets, mutant),
        );
        match noticed {
            Ok(noticed) if noticed.is_empty() => println!("    nobody notices it"),
            Ok(noticed) => noticed.iter().for_each(|test| println!("    \"{test}\",")),
            Err(error) => println!("    {error:#}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn noticed(scratch: &Scratch, targets: &TestTargets, mutant: &Mutant) -> Result<Vec<String>> {
    let programs: BTreeSet<TestTarget> = mutant
        .caught_by
        .iter()
        .filter_map(|test| targets.resolve(test).ok())
        .map(|(target, _)| target)
        .collect();
    let copied = TestTargets::of(scratch.workspace())?;
    let mut noticed = Vec::new();
    for target in programs {
        for program in host::build(scratch.workspace(), &copied, &target.selection(), true)? {
            noticed.extend(program.run_all(LIMIT)?);
        }
    }
    Ok(noticed)
}
