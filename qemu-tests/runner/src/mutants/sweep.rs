//! `--sweep`: what `cargo-mutants` can think of, over the crates that hold the driver, file by
//! file for as long as there is time.
//!
//! It changes every function and operator that it finds, which no person would list, and runs
//! all tests of the crate. What survives is a test that is missing, or a change that makes no
//! difference: then `qemu-tests/mutants/survivors.toml` says why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::scratch::Scratch;
use super::survivors::Survivors;
use crate::build::cargo;
use crate::command;
use crate::results;
use crate::sources;
use crate::workspace::Workspace;

/// The program, and what of it is known to be understood here.
const VERSION: &str = "27.1.0";

/// A crate that is swept, and the packages whose tests must notice.
struct Swept {
    directory: &'static str,
    package: &'static str,
    tests: &'static str,
}

const CRATES: &[Swept] = &[
    Swept {
        directory: "drivers/io-pgtable",
        package: "io-pgtable",
        tests: "io-pgtable",
    },
    Swept {
        directory: "drivers/vtd",
        package: "vtd",
        tests: "vtd,vtd-model-platform",
    },
    Swept {
        directory: "drivers/iommu",
        package: "iommu",
        tests: "iommu,vtd-model-platform",
    },
];

/// What became of the changes of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    /// Hash of the file and of its crate's sources.
    sources: String,
    caught: usize,
    /// Ran into the time limit, which is as good as a failure here.
    timed_out: usize,
    unviable: usize,
    survived: Vec<String>,
}

/// Sweeps the files whose paths contain one of `names` (all without any), those never swept
/// first, until the time is over.
pub(super) fn run(
    workspace: &Workspace,
    scratch: &Scratch,
    names: &[String],
    minutes: u64,
) -> Result<ExitCode> {
    let program = program(workspace)?;
    let survivors = Survivors::read(workspace)?;
    let deadline = Instant::now() + Duration::from_secs(minutes.saturating_mul(60));
    let record_file = workspace.target().join("mutants/sweep.json");
    let mut record = read(&record_file)?;
    let files = files(scratch, names)?;
    for (swept, file) in &files {
        let sources = hash(scratch, swept, file)?;
        let key = file.display().to_string();
        if record
            .get(&key)
            .is_some_and(|known| known.sources == sources)
        {
            continue;
        }
        if Instant::now() >= deadline {
            break;
        }
        let found = sweep(&program, scratch, swept, file)?;
        println!(
            "{key}: {} caught, {} timed out, {} do not compile, {} survived",
            found.caught,
            found.timed_out,
            found.unviable,
            found.survived.len()
        );
        record.insert(key, File { sources, ..found });
        results::write(&record_file, &serde_json::to_string_pretty(&record)?)?;
    }
    report(scratch, &files, &record, &survivors)
}

fn report(
    scratch: &Scratch,
    files: &[(&Swept, PathBuf)],
    record: &BTreeMap<String, File>,
    survivors: &Survivors,
) -> Result<ExitCode> {
    let (mut tried, mut good, mut done) = (0, 0, 0);
    for (swept, file) in files {
        let sources = hash(scratch, swept, file)?;
        let Some(found) = record
            .get(&file.display().to_string())
            .filter(|found| found.sources == sources)
        else {
            continue;
        };
        done += 1;
        tried += found.caught + found.timed_out + found.survived.len();
        good += found.caught + found.timed_out;
        for survivor in &found.survived {
            match survivors.reason(file, survivor) {
                Some(_) => good += 1,
                None => println!(
                    "survived: {}: {survivor}; write the test that notices it, or say in \
                     qemu-tests/mutants/survivors.toml why it makes no difference",
                    file.display()
                ),
            }
        }
    }
    println!("{done} of {} files swept", files.len());
    println!("{good} of {tried} changes caught or explained");
    Ok(if good == tried && tried > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `cargo-mutants`, installed under the build directory if it is not there.
fn program(workspace: &Workspace) -> Result<PathBuf> {
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

fn files(scratch: &Scratch, names: &[String]) -> Result<Vec<(&'static Swept, PathBuf)>> {
    let mut found = Vec::new();
    for file in sources::files(scratch.workspace().root())? {
        let swept = CRATES
            .iter()
            .find(|swept| file.starts_with(Path::new(swept.directory).join("src")));
        let path = file.display().to_string();
        let wanted = names.is_empty() || names.iter().any(|name| path.contains(name.as_str()));
        if let Some(swept) = swept.filter(|_| wanted && path.ends_with(".rs")) {
            found.push((swept, file));
        }
    }
    if found.is_empty() {
        bail!("no file of the swept crates has such a path");
    }
    found.sort_by_key(|(swept, file)| (swept.package != "io-pgtable", file.clone()));
    Ok(found)
}

/// What the outcome depends on: the crate's sources and tests.
fn hash(scratch: &Scratch, swept: &Swept, file: &Path) -> Result<String> {
    let root = scratch.workspace().root();
    let mut text = format!("{} {VERSION} ", file.display());
    for file in sources::files(&root.join(swept.directory))? {
        let content = sources::read(&root.join(swept.directory).join(file))?;
        text.push_str(&String::from_utf8_lossy(&content));
    }
    Ok(sources::hash_of(&text))
}

fn sweep(program: &Path, scratch: &Scratch, swept: &Swept, file: &Path) -> Result<File> {
    const TEST_LIMIT: &str = "300";
    let root = scratch.workspace().root();
    let output = root.join("target/sweep");
    let _ = std::fs::remove_dir_all(&output);
    std::fs::create_dir_all(&output)?;
    let status = Command::new(program)
        .current_dir(root)
        .args(["mutants", "--in-place", "--no-shuffle", "--colors=never"])
        .args(["--package", swept.package, "--test-package", swept.tests])
        .args(["--baseline=skip", "--timeout", TEST_LIMIT])
        .arg("--file")
        .arg(file)
        .arg("--output")
        .arg(&output)
        .env("CARGO_TARGET_DIR", scratch.workspace().target())
        .env("PROPTEST_RNG_SEED", "1")
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    // 0: all caught; 2: some survived; 3: some timed out.
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        bail!("cargo-mutants ended with {status} over {}", file.display());
    }
    outcome(&output.join("mutants.out"))
}

fn outcome(directory: &Path) -> Result<File> {
    let lines = |name: &str| -> Result<Vec<String>> {
        let file = directory.join(name);
        if !file.exists() {
            return Ok(Vec::new());
        }
        let text = std::fs::read_to_string(&file)?;
        Ok(text.lines().map(change).collect())
    };
    Ok(File {
        sources: String::new(),
        caught: lines("caught.txt")?.len(),
        timed_out: lines("timeout.txt")?.len(),
        unviable: lines("unviable.txt")?.len(),
        survived: lines("missed.txt")?,
    })
}

/// What was changed, without the place, which moves.
fn change(line: &str) -> String {
    let mut parts = line.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(_), Some(_), Some(change)) => change.trim().to_owned(),
        _ => line.to_owned(),
    }
}

fn read(file: &Path) -> Result<BTreeMap<String, File>> {
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
        assert_eq!(
            change("drivers/x/src/a.rs:45:5: replace f::g -> bool with true"),
            "replace f::g -> bool with true"
        );
        assert_eq!(change("something else"), "something else");
    }

    #[test]
    fn the_files_of_cargo_mutants_are_counted() {
        let directory = std::env::temp_dir().join(format!("xtask-sweep-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("caught.txt"), "a:1:1: x\na:2:1: y\n").unwrap();
        std::fs::write(directory.join("missed.txt"), "a:3:1: z\n").unwrap();
        let found = outcome(&directory).unwrap();
        assert_eq!((found.caught, found.timed_out, found.unviable), (2, 0, 0));
        assert_eq!(found.survived, ["z"]);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
