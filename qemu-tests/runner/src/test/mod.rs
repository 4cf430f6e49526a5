//! `cargo xtask test`: host tests, then boots: boot tests, the demonstration and bad input,
//! on the machines of the matrix, side by side.

mod bad_input;
mod canned;
mod case;
mod descriptor;
mod execute;
mod junit;
mod matrix;
mod qemus;
mod schedule;
mod session;
mod skips;
mod switches;
mod talk;
mod tally;
mod traces;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::build::{self, Artefacts, BOOT_TESTS};
use crate::cli::{Matrix, TestArguments};
use crate::host::{self, HostTests};
use crate::provision::Suite;
use crate::results::{Outcome, Results};
use crate::workspace::Workspace;
use crate::{differential, seed};

use case::{Case, Demonstration, Finding, Subject, Verdict};
use execute::Context;
use matrix::Axes;
pub(crate) use qemus::Qemus;
pub(crate) use schedule::cpus;
use skips::AllowedSkips;
use tally::Tally;

pub(crate) use session::Session;

/// Runs what the arguments ask for, and prints the counts in the last line.
pub(crate) fn run(workspace: &Workspace, arguments: &TestArguments) -> Result<ExitCode> {
    let allowed = AllowedSkips::read(workspace)?;
    let options = build::Options {
        levels: arguments.build.log.clone(),
    };
    if arguments.list {
        let artefacts = build::build(workspace, &options)?;
        for case in selected(&artefacts, arguments, None)? {
            println!("{}", case.name());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let results = Results::begin(workspace)?;
    // Host tests first: what fails there need not be looked for in a boot.
    let wants_host = !arguments.no_host && arguments.filter.is_none();
    let mut host = if wants_host {
        host::run(workspace, &arguments.package)?
    } else {
        HostTests::default()
    };
    if !arguments.package.is_empty() {
        return finish(workspace, results, &host, &[], &allowed);
    }
    let artefacts = build::build(workspace, &options)?;
    let qemus = qemus(workspace, &artefacts, arguments)?;
    if wants_host {
        let (name, result) = differential::short(workspace, &qemus);
        host.add(name, result);
    }
    let cases = selected(&artefacts, arguments, Some(&qemus))?;
    if arguments.gdb && cases.len() != 1 {
        bail!(
            "--gdb needs a filter that leaves one boot, and this leaves {}",
            cases.len()
        );
    }
    let programs = artefacts.log_tables(workspace)?;
    let context = Context {
        workspace,
        artefacts: &artefacts,
        programs: &programs,
        qemus: &qemus,
        gdb: arguments.gdb,
        repeat: &repeat(arguments),
    };
    println!("{} boots", cases.len());
    let jobs = arguments.jobs.unwrap_or_else(cpus);
    let findings = schedule::run(&cases, jobs, |case| context.execute(case), tally::show);
    if let Some(file) = &arguments.junit {
        junit::write(file, &host, &findings)?;
    }
    finish(workspace, results, &host, &findings, &allowed)
}

/// Keeps the results, and prints the counts.
fn finish(
    workspace: &Workspace,
    mut results: Results,
    host: &HostTests,
    findings: &[Finding],
    allowed: &AllowedSkips,
) -> Result<ExitCode> {
    note(&mut results, host, findings);
    results.keep(workspace, "test")?;
    let tally = Tally::of(host, findings, allowed);
    print!("{tally}");
    Ok(if tally.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// For `cargo xtask features`.
fn note(results: &mut Results, host: &HostTests, findings: &[Finding]) {
    results.note(&host.passed, Outcome::Passed);
    results.note(&host.failed, Outcome::Failed);
    results.note(&host.ignored, Outcome::Skipped);
    for finding in findings {
        let outcome = match finding.verdict {
            Verdict::Passed => Outcome::Passed,
            Verdict::Failed { .. } => Outcome::Failed,
            Verdict::Skipped(_) => Outcome::Skipped,
        };
        results.note([&format!("boot::{}", finding.name)], outcome);
    }
}

/// Every case of the matrix that the filter means, on the QEMUs that there are.
fn selected(
    artefacts: &Artefacts,
    arguments: &TestArguments,
    qemus: Option<&Qemus>,
) -> Result<Vec<Case>> {
    let mut cases = all_cases(artefacts, arguments.matrix, arguments.seed)?;
    if let Some(qemus) = qemus {
        let suites: Vec<Suite> = qemus.suites().collect();
        cases.retain(|case| suites.contains(&case.corner.suite));
    }
    Ok(case::select(cases, arguments.filter.as_deref()))
}

fn qemus(workspace: &Workspace, artefacts: &Artefacts, arguments: &TestArguments) -> Result<Qemus> {
    let choice = arguments.qemu.choice();
    let suites = match choice.suite {
        Some(suite) => vec![suite],
        None => {
            let mut suites: Vec<Suite> = selected(artefacts, arguments, None)?
                .iter()
                .map(|case| case.corner.suite)
                .collect();
            suites.sort();
            suites.dedup();
            suites
        }
    };
    Qemus::find(workspace, &choice, &suites)
}

fn all_cases(artefacts: &Artefacts, matrix: Matrix, seed: Option<u64>) -> Result<Vec<Case>> {
    let mut subjects = Vec::new();
    for descriptor in descriptor::read(artefacts.file(BOOT_TESTS)?)? {
        subjects.push((descriptor.axes.clone(), Subject::Boot(Arc::new(descriptor))));
    }
    for demonstration in Demonstration::ALL {
        subjects.push((demonstration.axes(), Subject::Demonstration(demonstration)));
    }
    for &input in bad_input::ALL {
        subjects.push((Axes::of_boot_tests().first(), Subject::BadInput(input)));
    }
    for &switch in switches::ALL {
        subjects.push((Axes::of_boot_tests().first(), Subject::Switch(switch)));
    }
    Ok(subjects
        .iter()
        .flat_map(|(axes, subject)| {
            axes.corners(matrix).into_iter().map(|corner| Case {
                subject: subject.clone(),
                corner,
                seed: seed.unwrap_or_else(seed::fresh),
            })
        })
        .collect())
}

/// The command that repeats a case, up to the case's own words.
fn repeat(arguments: &TestArguments) -> String {
    let mut command = "cargo xtask test --no-host".to_owned();
    if arguments.matrix == Matrix::Full {
        command.push_str(" --matrix full");
    }
    if let Some(program) = &arguments.qemu.qemu {
        command.push_str(" --qemu ");
        command.push_str(&crate::command::quote(program.as_os_str()));
    }
    command
}
