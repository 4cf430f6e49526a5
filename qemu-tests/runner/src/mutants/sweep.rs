//! `--sweep`: what `cargo-mutants` can think of, over the crates that hold the driver, file by
//! file for as long as there is time, or a sample of all of it.
//!
//! It changes every function and operator that it finds, which no person would list, and runs
//! the tests of the crate; what survives those meets the tests on the model too, which take
//! longer. What survives both is a test that is missing, or a change that makes no difference:
//! then `qemu-tests/mutants/survivors.toml` says why.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::arguments::Arguments;
use super::rounds::{CRATES, NOT_BUILT, Round, Swept};
use super::scratch::Scratch;
use super::shard::Shard;
use super::survivors::Survivors;
use crate::build::cargo;
use crate::command;
use crate::results;
use crate::sources;
use crate::workspace::Workspace;

/// The program, and what of it is known to be understood here.
const VERSION: &str = "27.1.0";

/// What is swept in one go.
struct Portion {
    swept: &'static Swept,
    of: Of,
}

enum Of {
    File(PathBuf),
    Shard(Shard),
}

impl Portion {
    fn name(&self) -> String {
        match &self.of {
            Of::File(file) => file.display().to_string(),
            Of::Shard(shard) => format!("{}, shard {shard}", self.swept.directory),
        }
    }

    /// How `cargo-mutants` is told.
    fn select(&self) -> Vec<String> {
        match &self.of {
            Of::File(_) => self.file(),
            Of::Shard(shard) => shard.arguments(),
        }
    }

    fn file(&self) -> Vec<String> {
        match &self.of {
            Of::File(file) => vec!["--file".to_owned(), file.display().to_string()],
            Of::Shard(_) => Vec::new(),
        }
    }
}

/// A change that no test noticed by failing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Survivor {
    file: PathBuf,
    /// As `cargo-mutants` says it, without the place, which moves.
    change: String,
}

/// What became of the changes of one portion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    /// Hash of the portion's name and of its crate's sources.
    sources: String,
    /// How many failed tests of which package.
    caught: BTreeMap<String, usize>,
    /// Ran into the time limit, which counts as noticed, and is told: it may be the machine's.
    timed_out: Vec<Survivor>,
    unviable: usize,
    survived: Vec<Survivor>,
}

impl Found {
    fn and(mut self, more: Self) -> Self {
        for (package, count) in more.caught {
            *self.caught.entry(package).or_default() += count;
        }
        self.timed_out.extend(more.timed_out);
        self.unviable += more.unviable;
        self.survived.extend(more.survived);
        self
    }

    fn noticed(&self) -> usize {
        self.caught.values().sum::<usize>() + self.timed_out.len()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (package, count) in &self.caught {
            write!(f, "{count} caught by {package}, ")?;
        }
        let (hung, unviable) = (self.timed_out.len(), self.unviable);
        let survived = self.survived.len();
        write!(
            f,
            "{hung} timed out, {unviable} do not compile, {survived} survived"
        )
    }
}

/// Sweeps the files whose paths contain one of the names (all without any), those never swept
/// first, or a sample of the crates, until the time is over.
pub(super) fn run(
    workspace: &Workspace,
    scratch: &Scratch,
    arguments: &Arguments,
) -> Result<ExitCode> {
    let program = program(workspace)?;
    let survivors = Survivors::read(workspace)?;
    let deadline = Instant::now() + Duration::from_secs(arguments.minutes.saturating_mul(60));
    let record_file = workspace.target().join("mutants/sweep.json");
    let mut record = read(&record_file)?;
    let portions = match arguments.shard {
        Some(shard) => sample(shard, &arguments.names)?,
        None => files(scratch, &arguments.names)?,
    };
    for portion in &portions {
        let sources = hash(scratch, portion)?;
        let key = portion.name();
        if record
            .get(&key)
            .is_some_and(|known| known.sources == sources)
        {
            continue;
        }
        if Instant::now() >= deadline {
            break;
        }
        let begun = Instant::now();
        let found = sweep(&program, scratch, portion)?;
        println!("{key}: {found}, {} s", begun.elapsed().as_secs());
        record.insert(key, Found { sources, ..found });
        results::write(&record_file, &serde_json::to_string_pretty(&record)?)?;
    }
    report(scratch, &portions, &record, &survivors)
}

fn report(
    scratch: &Scratch,
    portions: &[Portion],
    record: &BTreeMap<String, Found>,
    survivors: &Survivors,
) -> Result<ExitCode> {
    let (mut tried, mut good, mut done) = (0, 0, 0);
    for portion in portions {
        let sources = hash(scratch, portion)?;
        let Some(found) = record
            .get(&portion.name())
            .filter(|found| found.sources == sources)
        else {
            continue;
        };
        done += 1;
        tried += found.noticed() + found.survived.len();
        good += found.noticed();
        for Survivor { file, change } in &found.timed_out {
            println!("timed out: {}: {change}", file.display());
        }
        for Survivor { file, change } in &found.survived {
            match survivors.reason(file, change) {
                Some(_) => good += 1,
                None => println!(
                    "survived: {}: {change}; write the test that notices it, or say in \
                     qemu-tests/mutants/survivors.toml why it makes no difference",
                    file.display()
                ),
            }
        }
    }
    println!("{done} of {} portions swept", portions.len());
    println!("{good} of {tried} changes caught or explained");
    Ok(if good == tried && tried > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `cargo-mutants`: the one that is installed if it is of that version, else one under the
/// build directory, which is installed there if it is missing.
fn program(workspace: &Workspace) -> Result<PathBuf> {
    let usual = PathBuf::from("cargo-mutants");
    let version = Command::new(&usual).args(["mutants", "--version"]).output();
    if version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(VERSION)) {
        return Ok(usual);
    }
    let root = workspace.target().join("tools");
    let program = root.join("bin/cargo-mutants");
    if program.exists() {
        return Ok(program);
    }
    println!("installing cargo-mutants {VERSION} into {}", root.display());
    // Not built where our own crates are, nor with their flags.
    command::inherit(
        cargo(workspace)
            .args(["install", "cargo-mutants", "--locked", "--version", VERSION])
            .arg("--root")
            .arg(&root)
            .env("CARGO_TARGET_DIR", root.join("build")),
    )
    .context("cannot install cargo-mutants")?;
    Ok(program)
}

fn files(scratch: &Scratch, names: &[String]) -> Result<Vec<Portion>> {
    let mut found = Vec::new();
    let all = sources::files(scratch.workspace().root())?;
    for swept in CRATES {
        let directory = Path::new(swept.directory).join("src");
        for file in all.iter().filter(|file| file.starts_with(&directory)) {
            let path = file.display().to_string();
            let wanted = names.is_empty() || names.iter().any(|name| path.contains(name.as_str()));
            if wanted && path.ends_with(".rs") {
                let of = Of::File(file.clone());
                found.push(Portion { swept, of });
            }
        }
    }
    if found.is_empty() {
        bail!("no file of the swept crates has such a path");
    }
    Ok(found)
}

/// A sample of the crates whose directories contain one of the names, in pieces.
fn sample(shard: Shard, names: &[String]) -> Result<Vec<Portion>> {
    let wanted = |swept: &&Swept| {
        names.is_empty() || names.iter().any(|name| swept.directory.contains(name))
    };
    // Piece by piece, so that each crate has had its share whenever the time is over.
    let found: Vec<Portion> = shard
        .pieces()
        .flat_map(|piece| {
            CRATES.iter().filter(wanted).map(move |swept| Portion {
                swept,
                of: Of::Shard(piece),
            })
        })
        .collect();
    if found.is_empty() {
        bail!("no swept crate has such a name");
    }
    Ok(found)
}

/// What the outcome depends on: the crate's sources and tests.
fn hash(scratch: &Scratch, portion: &Portion) -> Result<String> {
    let root = scratch.workspace().root().join(portion.swept.directory);
    let mut text = format!("{} {VERSION} ", portion.name());
    for file in sources::files(&root)? {
        let content = sources::read(&root.join(file))?;
        text.push_str(&String::from_utf8_lossy(&content));
    }
    Ok(sources::hash_of(&text))
}

/// All rounds, each with what the ones before it left.
fn sweep(program: &Path, scratch: &Scratch, portion: &Portion) -> Result<Found> {
    let swept = portion.swept;
    let (mut found, mut left) = (Found::default(), Vec::new());
    for (index, round) in swept.rounds.iter().enumerate() {
        if index == 0 {
            (found, left) = attempt(program, scratch, swept, round, &portion.select())?;
            continue;
        }
        if left.is_empty() {
            break;
        }
        let all = list(program, scratch, portion)?;
        found.survived.clear();
        for name in std::mem::take(&mut left) {
            let one = [portion.file(), one_of(&all, &name)?].concat();
            let (next, missed) = attempt(program, scratch, swept, round, &one)?;
            found = found.and(next);
            left.extend(missed);
        }
    }
    Ok(found)
}

/// The names of all changes of a portion's crate, or of its file, as they are counted.
fn list(program: &Path, scratch: &Scratch, portion: &Portion) -> Result<Vec<String>> {
    let output = Command::new(program)
        .current_dir(scratch.workspace().root())
        .args(["mutants", "--list", "--colors=never"])
        .args(["--package", portion.swept.package])
        .args(["--exclude", NOT_BUILT])
        .args(portion.file())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Selects one change by its number. Not by its name: `--re` lets each "delete field" through,
/// whatever it is asked for (cargo-mutants 27.1, issue 632).
fn one_of(all: &[String], name: &str) -> Result<Vec<String>> {
    let number = all.iter().position(|other| other == name);
    let number = number.with_context(|| format!("cargo-mutants does not list `{name}`"))?;
    Ok(Shard::one(number, all.len()).arguments())
}

/// One run of `cargo-mutants`, and the full names of what survived.
fn attempt(
    program: &Path,
    scratch: &Scratch,
    swept: &Swept,
    round: &Round,
    select: &[String],
) -> Result<(Found, Vec<String>)> {
    let root = scratch.workspace().root();
    let output = root.join("target/sweep");
    let _ = std::fs::remove_dir_all(&output);
    std::fs::create_dir_all(&output)?;
    let status = Command::new(program)
        .current_dir(root)
        .args(["mutants", "--in-place", "--no-shuffle", "--colors=never"])
        .args(["--package", swept.package])
        .args(["--test-package", round.package])
        .args(["--baseline=skip", "--timeout", round.limit])
        .args(["--exclude", NOT_BUILT])
        .args(
            round
                .targets
                .iter()
                .map(|target| format!("--cargo-arg={target}")),
        )
        .args(select)
        .arg("--output")
        .arg(&output)
        .env("CARGO_TARGET_DIR", scratch.workspace().target())
        // Nobody debugs these, and they are linked thousands of times.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("PROPTEST_RNG_SEED", "1")
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    // 0: all caught; 2: some survived; 3: some timed out.
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        bail!("cargo-mutants ended with {status} over {select:?}");
    }
    outcome(&output.join("mutants.out"), round.package)
}

fn outcome(directory: &Path, package: &str) -> Result<(Found, Vec<String>)> {
    let lines = |name: &str| -> Result<Vec<String>> {
        let file = directory.join(name);
        if !file.exists() {
            return Ok(Vec::new());
        }
        let text = std::fs::read_to_string(&file)?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    let missed = lines("missed.txt")?;
    let found = Found {
        sources: String::new(),
        caught: BTreeMap::from([(package.to_owned(), lines("caught.txt")?.len())]),
        timed_out: lines("timeout.txt")?
            .iter()
            .map(|line| survivor(line))
            .collect(),
        unviable: lines("unviable.txt")?.len(),
        survived: missed.iter().map(|line| survivor(line)).collect(),
    };
    Ok((found, missed))
}

/// `FILE:LINE:COLUMN: CHANGE`.
fn survivor(line: &str) -> Survivor {
    let mut parts = line.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(change)) => Survivor {
            file: file.into(),
            change: change.trim().to_owned(),
        },
        _ => Survivor {
            file: PathBuf::new(),
            change: line.to_owned(),
        },
    }
}

fn read(file: &Path) -> Result<BTreeMap<String, Found>> {
    if !file.exists() {
        return Ok(BTreeMap::new());
    }
    Ok(serde_json::from_slice(&sources::read(file)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_known_by_what_it_is_and_not_by_where() {
        let line = "drivers/x/src/a.rs:45:5: replace f::g -> bool with true";
        let found = survivor(line);
        assert_eq!(found.file, Path::new("drivers/x/src/a.rs"));
        assert_eq!(found.change, "replace f::g -> bool with true");
        assert_eq!(survivor("something else").change, "something else");
    }

    #[test]
    fn a_change_is_selected_by_its_number() {
        let all = ["a:1:1: x", "a:2:1: y", "a:3:1: z"].map(str::to_owned);
        let words = one_of(&all, "a:2:1: y").unwrap();
        assert_eq!(words, ["--sharding", "round-robin", "--shard", "1/3"]);
        assert!(one_of(&all, "a:2:2: y").is_err());
    }

    #[test]
    fn the_files_of_cargo_mutants_are_counted() {
        let directory = std::env::temp_dir().join(format!("xtask-sweep-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("caught.txt"), "a:1:1: x\na:2:1: y\n").unwrap();
        std::fs::write(directory.join("missed.txt"), "a:3:1: z\n").unwrap();
        let (found, missed) = outcome(&directory, "x").unwrap();
        assert_eq!(found.caught, BTreeMap::from([("x".to_owned(), 2)]));
        assert_eq!((found.noticed(), found.unviable), (2, 0));
        assert_eq!(found.survived, [survivor("a:3:1: z")]);
        assert_eq!(missed, ["a:3:1: z"]);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_rounds_notice_is_counted_by_whose_tests_they_are() {
        let caught = |package: &str| Found {
            caught: BTreeMap::from([(package.to_owned(), 1)]),
            survived: vec![survivor("a:1:1: x")],
            ..Found::default()
        };
        let both = caught("own").and(caught("model")).and(caught("own"));
        assert_eq!((both.noticed(), both.survived.len()), (3, 3));
        let text = both.to_string();
        assert!(text.starts_with("1 caught by model, 2 caught by own, 0 timed out"));
    }

    #[test]
    fn a_sample_takes_every_crate_in_pieces_or_those_that_are_named() {
        let shard: Shard = "1/40".parse().unwrap();
        let all = sample(shard, &[]).unwrap();
        assert_eq!(all.len(), CRATES.len() * shard.pieces().count());
        let one = sample(shard, &["io-pgtable".to_owned()]).unwrap();
        assert!(
            one.iter()
                .all(|portion| portion.swept.package == "io-pgtable")
        );
        assert!(sample(shard, &["nobody".to_owned()]).is_err());
    }
}
