//! `cargo xtask mutants`: small faults, put into the drivers one at a time, each of which a
//! test of behaviour must notice.
//!
//! The faults stand in `qemu-tests/mutants/*.toml` (module `list`). They are tried in copies
//! of the workspace under `target/mutants`, so that the sources stay as they are; what came
//! of it is left in `target/mutants/results.json`.

mod arguments;
mod baseline;
mod behaviour;
mod list;
mod progress;
mod record;
mod rounds;
mod scratch;
mod shard;
mod suggest;
mod survivors;
mod sweep;
mod trial;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::host::TestTargets;
use crate::lock::DirectoryLock;
use crate::sources::Sources;
use crate::workspace::Workspace;

pub(crate) use arguments::Arguments;
#[cfg(test)]
pub(crate) use list::tests::mutant as some_mutant;
pub(crate) use list::{List, Mutant};
#[cfg(test)]
pub(crate) use record::Catch;
pub(crate) use record::{Record, Tried, Verdict, sources_of};

use baseline::Baseline;
use progress::Progress;
use scratch::Scratch;

/// Tries what the arguments ask for; the last line says how many were caught.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let directory = workspace.target().join("mutants");
    if arguments.sweep {
        let _lock = DirectoryLock::acquire(&directory.join("lock"), "its mutants tried")?;
        let scratch = Scratch::for_sweep(workspace)?;
        return sweep::run(workspace, &scratch, arguments);
    }
    let list = List::read(workspace)?;
    let mutants = list.select(&arguments.names)?;
    if arguments.list {
        for mutant in mutants {
            println!("{mutant}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let _lock = DirectoryLock::acquire(&directory.join("lock"), "its mutants tried")?;
    let scratch = Scratch::prepare(workspace, 0)?;
    if arguments.suggest {
        return suggest::run(workspace, &scratch, &mutants);
    }
    // Of the copy: what is tried is what was copied.
    let targets = TestTargets::of(scratch.workspace())?;
    let sources = Sources::of(scratch.workspace().root(), &targets.directories())?;
    let session = Session {
        workspace,
        targets,
        sources,
    };
    let mut record = Record::read(workspace)?;
    let (known, pending): (Vec<_>, Vec<_>) = mutants.iter().partition(|mutant| {
        arguments.names.is_empty()
            && !arguments.again
            && record.has_caught(mutant, &session.sources_of(mutant))
    });
    if !known.is_empty() {
        println!(
            "{} were caught before, in the same sources of their tests; --again tries them again",
            known.len()
        );
    }
    let tried = session.try_all(arguments, scratch, &pending, &mut record)?;
    print!("{}", progress::summary(&tried));
    let caught = known.len() + tried.iter().filter(|tried| tried.is_caught()).count();
    println!("{caught} of {} mutants caught", mutants.len());
    Ok(if caught == mutants.len() && caught > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What all mutants of a run share.
struct Session<'w> {
    workspace: &'w Workspace,
    targets: TestTargets,
    sources: Sources,
}

impl Session<'_> {
    fn sources_of(&self, mutant: &Mutant) -> String {
        sources_of(mutant, &self.targets, &self.sources)
    }

    /// Tries mutants side by side, and records each as it ends.
    fn try_all(
        &self,
        arguments: &Arguments,
        first: Scratch,
        mutants: &[&Mutant],
        record: &mut Record,
    ) -> Result<Vec<Tried>> {
        if mutants.is_empty() {
            return Ok(Vec::new());
        }
        let baseline = Baseline::establish(&first, &self.targets, mutants)?;
        let workers = workers(arguments, mutants.len());
        let mut scratches = vec![first];
        for number in 1..workers {
            scratches.push(Scratch::beside(self.workspace, &scratches[0], number)?);
        }
        let progress = Progress::begin(mutants.len(), workers);
        let next = AtomicUsize::new(0);
        let ended = Mutex::new((Vec::new(), record));
        let work = |scratch: &Scratch| -> Result<()> {
            while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                let started = Instant::now();
                let verdict = trial::attempt(scratch, &self.targets, &baseline, mutant)
                    .with_context(|| format!("mutant {}", mutant.name))?;
                let tried = Tried::new(mutant, self.sources_of(mutant), verdict, started.elapsed());
                let Ok(mut ended) = ended.lock() else {
                    bail!("another worker failed");
                };
                progress.show(&tried, ended.0.len() + 1);
                ended.1.add(tried.clone());
                ended.1.write(self.workspace)?;
                ended.0.push(tried);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = scratches
                .iter()
                .map(|scratch| scope.spawn(|| work(scratch)))
                .collect();
            workers
                .into_iter()
                .try_for_each(|worker| match worker.join() {
                    Ok(result) => result,
                    Err(_) => bail!("a worker failed"),
                })
        })?;
        match ended.into_inner() {
            Ok((tried, _)) => Ok(tried),
            Err(_) => bail!("a worker failed"),
        }
    }
}

fn workers(arguments: &Arguments, mutants: usize) -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    // More of them build the same crates, in as many copies: two keep two cores busy.
    arguments.jobs.unwrap_or(cpus.min(2)).clamp(1, mutants)
}
