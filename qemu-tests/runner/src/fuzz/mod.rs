//! `cargo xtask fuzz`: builds a fuzz target with coverage instrumentation, runs it under
//! libFuzzer, and says what was covered.
//!
//! The targets are the crate in `qemu-tests/fuzz`. They read with safe code, so stable Rust
//! does: no sanitizer, but debug assertions and overflow checks.

mod build;
mod outcome;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::workspace::Workspace;
use outcome::Watcher;

/// Switches of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The target; without one, their names are printed.
    target: Option<String>,
    /// How long.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Run one input instead, and show what it does.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seconds", "minimise"])]
    replay: Option<PathBuf>,
    /// Afterwards, replace the corpus in the repository by the fewest inputs that cover as
    /// much as all that were found.
    #[arg(long)]
    minimise: bool,
}

/// Seconds after which an input counts as hanging.
const HANGS_AFTER: u32 = 30;
/// Bytes of the longest input.
const LONGEST: u32 = 1024;

/// Fuzzes, or lists what can be fuzzed.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let names = names(workspace)?;
    let Some(name) = &arguments.target else {
        println!("{}", names.join("\n"));
        return Ok(ExitCode::SUCCESS);
    };
    if !names.contains(name) {
        bail!("there is no target {name}; there are {}", names.join(", "));
    }
    let fuzzer = Fuzzer {
        program: build::build(workspace)?,
        kept: corpora(workspace).join(name),
        work: build::directory(workspace).join(name),
        name,
    };
    if let Some(input) = &arguments.replay {
        return fuzzer.replay(input);
    }
    let ended_well = fuzzer.fuzz(arguments.seconds)?;
    if ended_well && arguments.minimise {
        fuzzer.minimise()?;
    }
    Ok(if ended_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn corpora(workspace: &Workspace) -> PathBuf {
    workspace.root().join("qemu-tests/fuzz/corpus")
}

/// Every target has a corpus of its name.
fn names(workspace: &Workspace) -> Result<Vec<String>> {
    let corpora = corpora(workspace);
    let entries = fs::read_dir(&corpora)
        .with_context(|| format!("cannot read {}", corpora.display()))?
        .collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<String> = entries
        .iter()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

struct Fuzzer<'n> {
    program: PathBuf,
    /// The corpus in the repository.
    kept: PathBuf,
    /// Where new inputs and crashes go.
    work: PathBuf,
    name: &'n str,
}

impl Fuzzer<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new("nice");
        command
            .args(["-n", "10"])
            .arg(&self.program)
            .env("FUZZ_TARGET", self.name)
            .stdin(Stdio::null());
        command
    }

    /// Whether nothing crashed.
    fn fuzz(&self, seconds: u64) -> Result<bool> {
        let found = self.work.join("corpus");
        fs::create_dir_all(&found).with_context(|| format!("cannot create {}", found.display()))?;
        let started = Instant::now();
        let mut child = self
            .command()
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={HANGS_AFTER}"))
            .arg(format!("-max_len={LONGEST}"))
            // An input is a program; short ones only begin to do something.
            .arg("-len_control=0")
            .arg(format!("-artifact_prefix={}/", self.work.display()))
            .arg("-print_final_stats=1")
            .args([&found, &self.kept])
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the fuzzer")?;
        let mut watcher = Watcher::default();
        watcher.read(child.stderr.take().context("the fuzzer says nothing")?)?;
        let status = child.wait()?;
        let seconds = started.elapsed().as_secs();
        println!("{}: {}", self.name, watcher.summary(seconds));
        if let Some(input) = watcher.crash() {
            println!("repeat it: cargo xtask fuzz {} --replay {input}", self.name);
            return Ok(false);
        }
        if !status.success() {
            bail!("the fuzzer ended with {status}");
        }
        Ok(true)
    }

    fn replay(&self, input: &Path) -> Result<ExitCode> {
        let status = self
            .command()
            .env("RUST_BACKTRACE", "1")
            .arg(input)
            .status()
            .context("cannot start the target")?;
        Ok(if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// The fewest inputs with the same coverage, in place of the corpus.
    fn minimise(&self) -> Result<()> {
        let fewest = self.work.join("fewest");
        if fewest.exists() {
            fs::remove_dir_all(&fewest)?;
        }
        fs::create_dir_all(&fewest)?;
        let output = self
            .command()
            .args(["-set_cover_merge=1", "-merge_inner=0"])
            .arg(&fewest)
            .args([&self.kept, &self.work.join("corpus")])
            .output()
            .context("cannot start the fuzzer")?;
        if !output.status.success() {
            bail!("the corpus could not be merged: {}", output.status);
        }
        replace(&self.kept, &fewest)?;
        let count = fs::read_dir(&self.kept)?.count();
        println!("{}: {count} inputs kept", self.kept.display());
        Ok(())
    }
}

/// Makes a directory of files hold just what another one does.
fn replace(old: &Path, new: &Path) -> Result<()> {
    for entry in fs::read_dir(old)? {
        fs::remove_file(entry?.path())?;
    }
    for entry in fs::read_dir(new)? {
        let entry = entry?;
        fs::copy(entry.path(), old.join(entry.file_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_corpus_is_a_target() {
        let names = names(&Workspace::find().unwrap()).unwrap();
        assert!(names.iter().any(|name| name == "dmar"));
        assert!(names.is_sorted());
    }

    #[test]
    fn a_corpus_is_replaced_whole() {
        let root = std::env::temp_dir().join(format!("xtask-fuzz-{}", std::process::id()));
        let (old, new) = (root.join("old"), root.join("new"));
        for (directory, name) in [(&old, "a"), (&old, "b"), (&new, "b"), (&new, "c")] {
            fs::create_dir_all(directory).unwrap();
            fs::write(directory.join(name), directory.to_str().unwrap()).unwrap();
        }
        replace(&old, &new).unwrap();
        let mut left: Vec<_> = fs::read_dir(&old)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["b", "c"]);
        let content = fs::read_to_string(old.join("b")).unwrap();
        assert_eq!(content, new.to_str().unwrap());
        fs::remove_dir_all(&root).unwrap();
    }
}
