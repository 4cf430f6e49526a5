//! Many cases on one QEMU: several processes side by side, many cases in each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::bench::{Emulator, Rig, rom};
use crate::case::Case;
use crate::generate::Generator;
use crate::qtest::Board;
use crate::shrink::{self, Shrunk};
use crate::tally::Tally;
use crate::verdict::{self, Difference, Verdict};

/// Cases in one process.
const CHUNK: usize = 500;
/// Unexplained cases that are made small; more are only counted.
const SHOWN: usize = 5;

/// What to run.
pub struct Campaign<'a> {
    /// On which QEMU.
    pub emulator: &'a Emulator,
    /// All random choices follow from it.
    pub seed: u64,
    /// Which cases, by number.
    pub cases: std::ops::Range<u64>,
    /// Processes side by side.
    pub jobs: usize,
    /// A directory for the files of the run.
    pub home: PathBuf,
}

/// What it came to.
pub struct Summary {
    /// Counts.
    pub tally: Tally,
    /// Numbers of the cases that nobody explained.
    pub different: BTreeSet<u64>,
    /// The first of them, made small.
    pub findings: Vec<Finding>,
}

/// A case that nobody explained.
pub struct Finding {
    version: String,
    seed: u64,
    number: u64,
    shrunk: Shrunk,
}

impl Campaign<'_> {
    /// Runs it; `done` is told how many cases have run.
    ///
    /// # Errors
    /// QEMU does not start, or a file cannot be written.
    pub fn run(&self, done: impl Fn(u64) + Sync) -> Result<Summary> {
        let rom_path = write_rom(&self.home)?;
        let chunks = Mutex::new(self.chunks());
        let count = AtomicU64::new(0);
        let results = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs.max(1))
                .map(|worker| {
                    let (chunks, count, done) = (&chunks, &count, &done);
                    let home = self.home.join(format!("worker-{worker}"));
                    let rom_path = &rom_path;
                    scope.spawn(move || {
                        self.work(chunks, rom_path, &home, || {
                            done(count.fetch_add(1, Ordering::Relaxed) + 1);
                        })
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| match worker.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect::<Result<Vec<_>>>()
        })?;
        let mut tally = Tally::default();
        let mut different = Vec::new();
        for (part, found) in results {
            tally.merge(&part);
            different.extend(found);
        }
        different.sort_by_key(|(case, _)| case.number);
        Ok(Summary {
            tally,
            different: different.iter().map(|(case, _)| case.number).collect(),
            findings: self.findings(&different, &rom_path)?,
        })
    }

    /// Cases by the machine that they need, in portions.
    fn chunks(&self) -> Vec<(Rig, Vec<Case>)> {
        let generator = Generator::new(self.seed);
        let mut by_rig: BTreeMap<Rig, Vec<Case>> = BTreeMap::new();
        for number in self.cases.clone() {
            let case = generator.case(number, self.emulator);
            by_rig.entry(case.rig).or_default().push(case);
        }
        let mut chunks = Vec::new();
        for (rig, mut cases) in by_rig {
            while !cases.is_empty() {
                let rest = cases.split_off(cases.len().min(CHUNK));
                chunks.push((rig, cases));
                cases = rest;
            }
        }
        chunks
    }

    fn work(
        &self,
        chunks: &Mutex<Vec<(Rig, Vec<Case>)>>,
        rom: &Path,
        home: &Path,
        done: impl Fn(),
    ) -> Result<(Tally, Vec<(Case, Difference)>)> {
        let mut tally = Tally::default();
        let mut different = Vec::new();
        loop {
            let next = chunks.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some((rig, cases)) = next else {
                return Ok((tally, different));
            };
            let mut board = Board::start(self.emulator, rig, rom, home)?;
            for case in cases {
                let verdict = match verdict::compare(self.emulator, &mut board, &case) {
                    Ok(verdict) => verdict,
                    Err(dead) => {
                        board = Board::start(self.emulator, rig, rom, home)?;
                        Verdict {
                            difference: Some(shrink::died(&dead)),
                            ..Verdict::default()
                        }
                    }
                };
                tally.add(&case, &verdict);
                different.extend(verdict.difference.map(|difference| (case, difference)));
                done();
            }
        }
    }

    fn findings(&self, different: &[(Case, Difference)], rom: &Path) -> Result<Vec<Finding>> {
        let home = self.home.join("shrink");
        different
            .iter()
            .take(SHOWN)
            .map(|(case, difference)| {
                Ok(Finding {
                    version: self.emulator.version.clone(),
                    seed: self.seed,
                    number: case.number,
                    shrunk: shrink::shrink(self.emulator, case, difference, rom, &home)?,
                })
            })
            .collect()
    }
}

/// Puts the firmware's image into a directory.
pub(crate) fn write_rom(home: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(home)?;
    let path = home.join("rom");
    std::fs::write(&path, rom()).context("cannot write the ROM")?;
    Ok(path)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            step,
            expected,
            seen,
        } = &self.shrunk.difference;
        writeln!(f, "QEMU {}, unexplained:", self.version)?;
        write!(f, "{}", self.shrunk.case)?;
        writeln!(f, "  at step {step} {expected}")?;
        writeln!(f, "            QEMU: {seen}")?;
        if self.shrunk.alone_it_agrees {
            writeln!(f, "  alone, on a fresh QEMU, it agrees")?;
        }
        writeln!(
            f,
            "  repeat: cargo xtask differential --seed {:#x} --only {} --qemu-version {}",
            self.seed,
            self.number,
            series(&self.version)
        )
    }
}

/// `10.0` of `10.0.13`.
fn series(version: &str) -> &str {
    version
        .rsplit_once('.')
        .map_or(version, |(series, _)| series)
}
