//! `cargo xtask features`: what `docs/features.md` and `docs/origins.md` say of each feature,
//! held against what the last tests and mutants came to.

mod check;
mod rows;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::host::TestTargets;
use crate::mutants::{List, Record, sources_of};
use crate::results::Results;
use crate::sources::Sources;
use crate::workspace::Workspace;

use check::Evidence;
pub(crate) use rows::is_row;

/// Prints a line for each row. Succeeds if each could be checked, whatever was found.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let targets = TestTargets::of(workspace)?;
    let sources = Sources::of(workspace.root(), &targets.directories())?;
    let mutants = List::read(workspace)?;
    let record = Record::read(workspace)?;
    let (results, others) = Results::all(workspace, sources.whole())?;
    let tried = |mutant| record.of(mutant, &sources_of(mutant, &targets, &sources));
    let evidence = Evidence {
        results: &results,
        others: &others,
        mutants: mutants
            .all()
            .map(|mutant| (mutant, tried(mutant)))
            .collect(),
    };
    let mut done = 0;
    let mut all = 0;
    let mut mistakes = Vec::new();
    for document in rows::DOCUMENTS {
        match document.read(workspace) {
            Ok(rows) => {
                for row in rows {
                    let finding = evidence.judge(&row);
                    all += 1;
                    done += usize::from(finding.is_done());
                    println!("{} {finding}", row.id);
                }
            }
            Err(error) => mistakes.push(format!("{error:#}")),
        }
    }
    if !mistakes.is_empty() {
        bail!("not all could be checked:\n{}", mistakes.join("\n"));
    }
    println!("{done} of {all} done");
    Ok(ExitCode::SUCCESS)
}
