//! All host tests: those of the crates that build on the host, and those in their
//! documentation.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::libtest::{self, Said};
use super::program::{self, Program};
use super::target::TestTargets;
use crate::build::cargo;
use crate::workspace::Workspace;

/// How the names of examples in documentation begin.
const DOCUMENTATION: &str = "doc";

/// What the tests came to, by their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HostTests {
    pub(crate) passed: Vec<String>,
    pub(crate) failed: Vec<String>,
    pub(crate) ignored: Vec<String>,
    /// Programs that failed without a test that did: not built, or died.
    pub(crate) broken: Vec<String>,
    pub(crate) elapsed: Duration,
}

/// Runs those of some packages (of all default members without any), and shows what is more
/// than the line of a test that passed.
pub(crate) fn run(workspace: &Workspace, packages: &[String]) -> Result<HostTests> {
    let started = Instant::now();
    let targets = TestTargets::of(workspace)?;
    let mut tests = HostTests::default();
    let selection: Vec<&str> = packages
        .iter()
        .flat_map(|package| ["--package", package])
        .collect();
    match program::build(workspace, &targets, &selection, false) {
        Ok(programs) => {
            for program in &programs {
                tests.program(program)?;
            }
            let documented = packages
                .iter()
                .filter(|package| targets.has_library(package))
                .flat_map(|package| ["--package", package]);
            let mut documentation = cargo(workspace);
            documentation.args(["test", "--doc", "--no-fail-fast"]);
            documentation.args(documented.clone());
            if packages.is_empty() || documented.count() > 0 {
                tests.child(DOCUMENTATION, &mut documentation)?;
            }
        }
        Err(error) => {
            println!("{error:#}");
            tests.broken.push("cargo test itself".to_owned());
        }
    }
    tests.elapsed = started.elapsed();
    Ok(tests)
}

impl HostTests {
    /// Counts a test that is none of cargo's, and shows it if it failed.
    pub(crate) fn add(&mut self, name: String, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed.push(name),
            Err(why) => {
                println!("{name} ... FAILED\n{why}");
                self.failed.push(name);
            }
        }
    }

    fn program(&mut self, program: &Program) -> Result<()> {
        let mut command = program.command(&program.file);
        self.child(&program.target.prefix(), &mut command)
    }

    fn child(&mut self, prefix: &str, command: &mut Command) -> Result<()> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the tests of {prefix}"))?;
        let output = child.stdout.take().context("a test has no output")?;
        let failed = self.failed.len();
        for line in BufReader::new(output).lines() {
            let line = line?;
            self.take(prefix, &line);
            if !libtest::is_frame(&line) {
                println!("{line}");
            }
        }
        let status = child.wait()?;
        if !status.success() && self.failed.len() == failed {
            self.broken.push(format!("{prefix} ({status})"));
        }
        Ok(())
    }

    /// Counts a line.
    fn take(&mut self, prefix: &str, line: &str) {
        let Some((name, said)) = libtest::result(line) else {
            return;
        };
        let list = match said {
            Said::Passed => &mut self.passed,
            Said::Failed => &mut self.failed,
            Said::Ignored => &mut self.ignored,
        };
        list.push(format!("{prefix}::{name}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_under_the_name_of_their_program() {
        let mut tests = HostTests::default();
        for line in [
            "running 3 tests",
            "test wire::a ... ok",
            "test b - should panic ... FAILED",
            "test c ... ignored, needs a machine",
        ] {
            tests.take("vtd::driver", line);
        }
        assert_eq!(tests.passed, ["vtd::driver::wire::a"]);
        assert_eq!(tests.failed, ["vtd::driver::b"]);
        assert_eq!(tests.ignored, ["vtd::driver::c"]);
    }

    #[test]
    fn a_program_that_dies_without_a_failed_test_is_broken() {
        let mut tests = HostTests::default();
        let run = |tests: &mut HostTests, text: &str| {
            tests
                .child("p", Command::new("sh").args(["-c", text]))
                .unwrap();
        };
        run(&mut tests, "echo 'test a ... FAILED'; exit 101");
        assert!(tests.broken.is_empty());
        run(&mut tests, "echo 'test b ... ok'; exit 101");
        assert_eq!(tests.broken.len(), 1);
        assert_eq!(tests.passed, ["p::b"]);
    }
}
