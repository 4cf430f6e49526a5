//! Many runs, each from a seed of its own, on all CPUs.

use crate::broken::Fault;
use crate::course::{self, Finding, Order};
use crate::outline::{CALLS, Setting};
use crate::shrink::shrink;
use crate::tally::Tally;
use crate::threads;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What shall be run.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// Everything follows from it.
    pub seed: u64,
    /// Hypercalls, at least.
    pub calls: u64,
    /// Runs at a time.
    pub workers: usize,
    /// How long a failing run is made shorter.
    pub patience: Duration,
}

/// A run that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its own seed.
    pub seed: u64,
    /// The first thing that was found.
    pub finding: Finding,
    /// How many actions it had, and how many it has.
    pub actions: (usize, usize),
    /// What the shorter run does and how it ends.
    pub trace: Vec<String>,
}

/// A broken driver that was caught.
#[derive(Clone, Debug)]
pub struct Caught {
    /// Which.
    pub fault: Fault,
    /// Hypercalls until then.
    pub calls: u64,
    /// What was found.
    pub words: String,
}

/// What all runs came to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Counts of all of them.
    pub tally: Tally,
    /// Runs that failed, by number; only the first is made shorter.
    pub failures: Vec<Failure>,
    /// Violations in all.
    pub violations: u64,
}

/// Runs after which a broken driver that was not caught counts as missed.
const TRIES: u64 = 40;
/// After so many the rest has nothing to add.
const MOST_VIOLATIONS: u64 = 100;
/// One run in so many is repeated with the well-behaved guest alone.
const ALONE_EVERY: u64 = 24;

impl Campaign {
    fn seed_of(&self, run: u64) -> u64 {
        // Neighbouring seeds must have nothing in common.
        fastrand::Rng::with_seed(self.seed ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..)
    }

    /// Whether a broken driver is caught, and by what.
    ///
    /// # Errors
    /// The number of calls in which it was not.
    pub fn catch(&self, fault: Fault) -> Result<Caught, u64> {
        let mut calls = 0;
        for run in 0..TRIES {
            let setting = course::usual(self.seed_of(run ^ 0xb40_0000), Some(fault));
            let actions = setting.actions();
            let result = course::run(&setting, &actions, Order::Interleaved, false);
            calls += result.tally.calls;
            let found = result.findings.first().map(|found| found.words.clone());
            if let Some(words) = found.or_else(|| result.tally.late_words()) {
                return Ok(Caught {
                    fault,
                    calls,
                    words,
                });
            }
        }
        Err(calls)
    }

    /// All runs. `progress` is told of each.
    pub fn run(&self, progress: impl Fn(u64, u64) + Sync) -> Verdict {
        let mut verdict = Verdict::default();
        let mut done = 0;
        while verdict.tally.calls < self.calls.max(1) {
            // Some calls fall away with their guests: what is missing is made up for, in
            // numbers that depend on nothing but the seed.
            let missing = (self.calls.max(1) - verdict.tally.calls).div_ceil(CALLS);
            let more = self.some(done..done + missing, &progress);
            done += missing;
            verdict.tally.add(&more.tally);
            verdict.violations += more.violations;
            verdict.failures.extend(more.failures);
            if verdict.violations > MOST_VIOLATIONS {
                break;
            }
        }
        verdict
    }

    fn some(&self, runs: Range<u64>, progress: &(impl Fn(u64, u64) + Sync)) -> Verdict {
        let next = AtomicU64::new(runs.start);
        let verdict = Mutex::new(Verdict::default());
        std::thread::scope(|scope| {
            for _ in 0..self.workers.max(1) {
                scope.spawn(|| {
                    let mut mine = Verdict::default();
                    loop {
                        let run = next.fetch_add(1, Ordering::Relaxed);
                        if run >= runs.end || mine.violations > MOST_VIOLATIONS {
                            break;
                        }
                        self.one(run, &mut mine);
                        progress(run + 1, runs.end);
                    }
                    let mut all = verdict.lock().expect("no panic");
                    all.tally.add(&mine.tally);
                    all.violations += mine.violations;
                    all.failures.extend(mine.failures);
                });
            }
        });
        let mut verdict = verdict.into_inner().expect("no panic");
        verdict.failures.sort_by_key(|failure| failure.seed);
        verdict
    }

    fn one(&self, run: u64, verdict: &mut Verdict) {
        let seed = self.seed_of(run);
        let setting = Setting::new(seed, None);
        self.course(&setting, verdict);
        if run.is_multiple_of(ALONE_EVERY) {
            self.course(&course::alone(seed), verdict);
        }
    }

    fn course(&self, setting: &Setting, verdict: &mut Verdict) {
        let actions = setting.actions();
        let result = course::run(setting, &actions, Order::Interleaved, false);
        verdict.tally.add(&result.tally);
        verdict.violations += result.findings.len() as u64;
        let Some(finding) = result.findings.first() else {
            return;
        };
        let mut failure = Failure {
            seed: setting.seed,
            finding: finding.clone(),
            actions: (actions.len(), actions.len()),
            trace: Vec::new(),
        };
        if verdict.failures.is_empty() {
            let shrunk = shrink(setting, &actions, &finding.kind(), self.patience);
            failure.actions.1 = shrunk.actions.len();
            failure.trace = describe(setting, &shrunk);
        }
        verdict.failures.push(failure);
    }

    /// Runs on real threads, one after the other. What they do is not the same twice.
    pub fn on_threads(&self, progress: impl Fn(u64, u64)) -> Verdict {
        let mut verdict = Verdict::default();
        let runs = self.calls.div_ceil(CALLS).max(1);
        for run in 0..runs {
            let setting = Setting::new(self.seed_of(run), None);
            let actions = setting.actions();
            let (findings, tally) = threads::run(&setting, &actions);
            verdict.tally.add(&tally);
            verdict.violations += findings.len() as u64;
            verdict
                .failures
                .extend(findings.first().map(|finding| Failure {
                    seed: setting.seed,
                    finding: finding.clone(),
                    actions: (actions.len(), actions.len()),
                    trace: Vec::new(),
                }));
            progress(run + 1, runs);
        }
        verdict
    }

    /// One run again, by its own seed.
    pub fn again(&self, seed: u64) -> Verdict {
        let mut verdict = Verdict::default();
        self.course(&Setting::new(seed, None), &mut verdict);
        verdict
    }
}

fn describe(setting: &Setting, shrunk: &crate::shrink::Shrunk) -> Vec<String> {
    let units: Vec<&str> = setting.units.iter().map(|unit| unit.name).collect();
    let cpus: Vec<String> = setting
        .guests
        .iter()
        .map(|guest| {
            let kind = if guest.polite {
                "well-behaved"
            } else {
                "hostile"
            };
            format!("{kind} with {} CPUs", guest.cpus)
        })
        .collect();
    let mut lines = vec![
        format!(
            "  units: {}; {} caches",
            units.join(" and "),
            if setting.pessimist {
                "pessimist"
            } else {
                "random"
            }
        ),
        format!("  guests: {}", cpus.join(", ")),
        match shrunk.order {
            Order::OneByOne => "  one after the other:".to_owned(),
            Order::Interleaved => "  in turns:".to_owned(),
        },
    ];
    lines.extend(shrunk.result.trace.iter().cloned());
    lines.extend(
        shrunk
            .result
            .findings
            .iter()
            .take(4)
            .map(|finding| format!("  step {}: {}", finding.step, finding.words)),
    );
    lines
}
