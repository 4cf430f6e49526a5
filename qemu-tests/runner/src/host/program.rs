//! Test programs: built by cargo, and run here for one test or for all.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::libtest::{self, Said};
use super::target::{Kind, TestTarget, TestTargets};
use crate::build::cargo;
use crate::workspace::Workspace;

/// A test program that was built.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) target: TestTarget,
    pub(crate) file: PathBuf,
    /// Of its package: where cargo would run it.
    pub(crate) directory: PathBuf,
}

/// How one test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    Passed,
    /// What it said.
    Failed(String),
    /// It had to be stopped.
    TimedOut,
    /// The program has no test of this name.
    Absent,
}

#[derive(Deserialize)]
struct Message {
    manifest_path: Option<PathBuf>,
    target: Option<MessageTarget>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct MessageTarget {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds the test programs that the words for cargo select (all of the default members' if
/// there are none). What the compiler says is an error.
pub(crate) fn build(
    workspace: &Workspace,
    targets: &TestTargets,
    selection: &[&str],
    quiet: bool,
) -> Result<Vec<Program>> {
    let mut command = cargo(workspace);
    command.args([
        "test",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    command.args(selection).stdin(Stdio::null());
    let output = if quiet {
        command.arg("--quiet").output()
    } else {
        command.stderr(Stdio::inherit()).output()
    }
    .context("cannot start cargo test")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().find(|line| line.starts_with("error"));
        bail!("{}", first.unwrap_or("cargo test cannot build it"));
    }
    Ok(programs(targets, &String::from_utf8_lossy(&output.stdout)))
}

fn programs(targets: &TestTargets, messages: &str) -> Vec<Program> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.profile.as_ref().is_some_and(|profile| profile.test))
        .filter_map(|message| {
            let manifest = message.manifest_path?;
            let target = message.target?;
            let kind = match target.kind.first()?.as_str() {
                "test" => Kind::Tests(target.name),
                "bin" => Kind::Binary(target.name),
                "example" | "bench" => return None,
                _ => Kind::Library,
            };
            Some(Program {
                target: TestTarget {
                    package: targets.package_at(&manifest)?.to_owned(),
                    kind,
                },
                file: message.executable?,
                directory: manifest.parent()?.to_owned(),
            })
        })
        .collect()
}

impl Program {
    /// The command that runs it as cargo would.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.directory)
            .env("CARGO_MANIFEST_DIR", &self.directory)
            .env("CARGO_PKG_NAME", &self.target.package)
            .stdin(Stdio::null());
        command
    }

    /// Runs one test, alone, for no longer than `limit`, and says how it ended and when.
    pub(crate) fn run_one(&self, test: &str, limit: Duration) -> Result<(Ending, Duration)> {
        let started = Instant::now();
        let (ended, output) = self.confined(&[test, "--exact", "--test-threads=1"], limit)?;
        Ok((judge(test, ended, &output), started.elapsed()))
    }

    /// Runs all tests, for no longer than `limit`, and names those that failed, and first
    /// that the time was not enough, if it was not.
    pub(crate) fn run_all(&self, limit: Duration) -> Result<Vec<String>> {
        let (ended, output) = self.confined(&[], limit)?;
        let mut failed = Vec::new();
        if ended.is_none() {
            failed.push(format!("{} hangs", self.target.prefix()));
        }
        failed.extend(
            output
                .lines()
                .filter_map(libtest::result)
                .filter(|(_, said)| *said == Said::Failed)
                .map(|(name, _)| format!("{}::{name}", self.target.prefix())),
        );
        Ok(failed)
    }

    /// Runs the program and gives whether it ended well, if it ended, and what it said.
    ///
    /// Random tests draw the same cases each time, and do not look for a smaller one when they
    /// fail: it is asked whether they fail. Memory is limited, for the sake of the machine: what
    /// is tested here may be broken.
    fn confined(&self, arguments: &[&str], limit: Duration) -> Result<(Option<bool>, String)> {
        const MEMORY_KIB: u32 = 6 << 20;
        let deadline = Instant::now() + limit;
        let (mut reader, writer) = std::io::pipe()?;
        let mut command = self.command(Path::new("sh"));
        command
            .args(["-c", &format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\"")])
            .arg(&self.file)
            .args(arguments)
            .env("PROPTEST_RNG_SEED", "1")
            .env("PROPTEST_MAX_SHRINK_ITERS", "0")
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
            .env_remove("RUST_BACKTRACE")
            .stdout(writer.try_clone()?)
            .stderr(writer);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.file.display()))?;
        // It holds the pipe's other end, which must close when the child ends.
        drop(command);
        let reading = std::thread::spawn(move || {
            let mut output = Vec::new();
            let _ = reader.read_to_end(&mut output);
            String::from_utf8_lossy(&output).into_owned()
        });
        let ended = wait(child, deadline)?;
        Ok((ended, reading.join().unwrap_or_default()))
    }
}

/// Whether the child ended well; nothing if it had to be killed.
fn wait(mut child: Child, deadline: Instant) -> Result<Option<bool>> {
    const STEP: Duration = Duration::from_millis(10);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(STEP);
    }
}

fn judge(test: &str, ended: Option<bool>, output: &str) -> Ending {
    let said = output
        .lines()
        .filter_map(libtest::result)
        .find(|(name, _)| *name == test)
        .map(|(_, said)| said);
    match (ended, said) {
        (None, _) => Ending::TimedOut,
        (Some(true), Some(Said::Passed)) => Ending::Passed,
        (Some(true), _) => Ending::Absent,
        (Some(false), _) => Ending::Failed(
            libtest::first_panic(output)
                .or_else(|| output.lines().next_back().map(str::to_owned))
                .unwrap_or_else(|| "nothing".to_owned()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::tests::some;
    use super::*;

    #[test]
    fn test_programs_are_read_from_the_messages_of_cargo() {
        let messages = r#"{"manifest_path":"/w/vtd/Cargo.toml","target":{"name":"driver","kind":["test"]},"profile":{"test":true},"executable":"/t/driver-1"}
{"manifest_path":"/w/vtd/Cargo.toml","target":{"name":"vtd","kind":["lib"]},"profile":{"test":false},"executable":null}
{"manifest_path":"/w/vtd/Cargo.toml","target":{"name":"shown","kind":["example"]},"profile":{"test":false},"executable":"/t/shown"}
not json"#;
        let found = programs(&some(), messages);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].target.prefix(), "vtd::driver");
        assert_eq!(found[0].directory, Path::new("/w/vtd"));
    }

    fn own() -> Program {
        Program {
            target: TestTarget {
                package: "xtask".to_owned(),
                kind: Kind::Binary("xtask".to_owned()),
            },
            file: std::env::current_exe().unwrap(),
            directory: std::env::current_dir().unwrap(),
        }
    }

    #[test]
    fn one_test_is_run_alone_and_one_that_is_not_there_is_absent() {
        let program = own();
        let limit = Duration::from_secs(60);
        let run = |test| program.run_one(test, limit).unwrap().0;
        assert_eq!(
            run("host::libtest::tests::only_what_went_wrong_is_shown"),
            Ending::Passed
        );
        assert_eq!(run("host::libtest::tests::nothing"), Ending::Absent);
        // A part of a name is not the name.
        assert_eq!(run("host::libtest::tests::only"), Ending::Absent);
    }

    fn script(text: &str) -> (Ending, Duration) {
        let mut program = own();
        program.file = std::env::temp_dir().join(format!(
            "xtask-script-{}-{:?}.sh",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::write(&program.file, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::process::Command::new("chmod")
            .arg("+x")
            .arg(&program.file)
            .status()
            .unwrap();
        let result = program.run_one("t", Duration::from_millis(1500)).unwrap();
        std::fs::remove_file(&program.file).unwrap();
        result
    }

    #[test]
    fn a_failure_a_death_and_a_hang_are_told_apart() {
        let failed = script("echo \"thread 't' (1) panicked at a.rs:1:1:\"; echo why; exit 101").0;
        assert_eq!(failed, Ending::Failed("why".to_owned()));
        assert_eq!(
            script("echo died; kill -9 $$").0,
            Ending::Failed("died".to_owned())
        );
        assert_eq!(script("echo 'test t ... ok'").0, Ending::Passed);
        assert_eq!(script("exec sleep 60").0, Ending::TimedOut);
    }
}
