//! `cargo xtask differential`: the same tables, descriptors and requests on `vtd-model` and
//! on QEMU, which must come to the same.

mod report;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, anyhow};
use clap::Args;
use differential::Campaign;
use differential::bench::Emulator;

use crate::cli::QemuArguments;
use crate::provision::Suite;
use crate::provision::progress::Step;
use crate::qemu::{Qemu, Version};
use crate::seed;
use crate::test::Qemus;
use crate::workspace::Workspace;
use report::Report;

/// QEMUs that cases run on: each case on each.
const SUITES: [Suite; 2] = [Suite::Trixie, Suite::TrixieBackports];
/// Cases of the short run that `cargo xtask test` has.
const SHORT: u64 = 300;

/// What the command takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Seed of all random choices, to repeat a run; a new one if not given.
    #[arg(long, value_name = "N", value_parser = crate::cli::seed)]
    seed: Option<u64>,
    /// Cases, each of which runs on each QEMU.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        conflicts_with = "only"
    )]
    cases: u64,
    /// Run only the case of this number.
    #[arg(long, value_name = "NUMBER")]
    only: Option<u64>,
    /// Processes at a time; the default is the number of CPUs.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    #[command(flatten)]
    qemu: QemuArguments,
}

/// Runs the cases and prints what they came to.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let choice = arguments.qemu.choice();
    let suites = choice.suite.map_or(SUITES.to_vec(), |suite| vec![suite]);
    let qemus = Qemus::find(workspace, &choice, &suites)?;
    let seed = arguments.seed.unwrap_or_else(seed::fresh);
    let cases = match arguments.only {
        Some(number) => number..number + 1,
        None => 0..arguments.cases,
    };
    println!("seed {seed:#x}");
    let mut different = BTreeSet::new();
    let mut good = true;
    for suite in qemus.suites() {
        let qemu = qemus.get(suite).map_err(|why| anyhow!(why))?;
        let report = campaign(workspace, qemu, seed, cases.clone(), arguments.jobs)?;
        print!("{report}");
        good &= report.is_good();
        different.extend(report.summary.different);
    }
    let total = cases.end - cases.start;
    println!("{} of {total} cases agree", total - different.len() as u64);
    Ok(if good && different.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The short run, as a test: its name, and what is wrong.
pub(crate) fn short(workspace: &Workspace, qemus: &Qemus) -> (String, Result<(), String>) {
    let found = SUITES
        .iter()
        .rev()
        .find_map(|suite| qemus.get(*suite).ok())
        .ok_or_else(|| "there is no QEMU to compare with".to_owned());
    let name = "differential::a_short_run_agrees".to_owned();
    let result = found.and_then(|qemu| {
        // The same cases each time: a test tells of changes in the sources. What nobody has
        // seen yet is for the long command, which takes a fresh seed.
        let report =
            campaign(workspace, qemu, 1, 0..SHORT, None).map_err(|error| format!("{error:#}"))?;
        if report.is_good() {
            Ok(())
        } else {
            Err(report.to_string())
        }
    });
    (name, result)
}

fn campaign(
    workspace: &Workspace,
    qemu: &Qemu,
    seed: u64,
    cases: std::ops::Range<u64>,
    jobs: Option<usize>,
) -> Result<Report> {
    let started = Instant::now();
    let emulator = emulator(qemu)?;
    // Two runs at a time do not share a directory.
    let home = workspace.target().join("differential").join(format!(
        "{}-{}",
        emulator.version,
        std::process::id()
    ));
    let step = Step::items(
        &format!(
            "QEMU {}: {} cases",
            emulator.version,
            cases.end - cases.start
        ),
        cases.end - cases.start,
    );
    let campaign = Campaign {
        emulator: &emulator,
        seed,
        cases,
        jobs: jobs.unwrap_or_else(crate::test::cpus),
        home: home.clone(),
    };
    let most = AtomicU64::new(0);
    let summary = campaign.run(|done| {
        step.at(most.fetch_max(done, Ordering::Relaxed).max(done));
    })?;
    drop(step);
    let aborts = differential::aborts::provoke(&emulator, &home)?;
    let _ = std::fs::remove_dir_all(&home);
    Ok(Report {
        emulator,
        summary,
        aborts,
        elapsed: started.elapsed(),
    })
}

/// What the comparison needs to know of a QEMU.
fn emulator(qemu: &Qemu) -> Result<Emulator> {
    const RECENT: Version = Version {
        major: 11,
        minor: 0,
        micro: 0,
    };
    let option = |name: Option<&str>| {
        name.map(str::to_owned)
            .ok_or_else(|| anyhow!("QEMU {} has no scalable mode", qemu.version))
    };
    Ok(Emulator {
        program: qemu.program.clone(),
        version: qemu.version.to_string(),
        scalable_option: option(qemu.abilities.scalable_mode())?,
        first_option: option(qemu.abilities.first_stage())?,
        has_tester: qemu.abilities.has_device("iommu-testdev"),
        is_recent: qemu.version >= RECENT,
    })
}
