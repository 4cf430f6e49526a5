//! Host tests: `cargo test` over the crates that build on the host.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::build::cargo;
use crate::workspace::Workspace;

/// What cargo's tests came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HostTests {
    pub(crate) passed: Vec<String>,
    pub(crate) failed: Vec<String>,
    pub(crate) ignored: Vec<String>,
    /// Set if cargo failed without a test that did: nothing was built, or a test binary died.
    pub(crate) broken: bool,
    pub(crate) elapsed: Duration,
}

/// Runs them, and shows what is more than the line of a test that passed.
pub(crate) fn run(workspace: &Workspace) -> Result<HostTests> {
    let started = Instant::now();
    let mut child = cargo(workspace)
        .args(["test", "--no-fail-fast"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut tests = HostTests::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        if !tests.take(&line) {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    tests.broken = !status.success() && tests.failed.is_empty();
    tests.elapsed = started.elapsed();
    Ok(tests)
}

impl HostTests {
    /// Counts a line; whether it is one that nobody needs to see.
    fn take(&mut self, line: &str) -> bool {
        let Some((name, result)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        else {
            return line.is_empty()
                || line.starts_with("running ")
                || line.starts_with("test result: ok. 0 passed; 0 failed; 0 ignored");
        };
        let list = match result {
            "ok" => &mut self.passed,
            "FAILED" => &mut self.failed,
            _ if result.starts_with("ignored") => &mut self.ignored,
            _ => return false,
        };
        list.push(name.to_owned());
        result == "ok"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_cargo_test_are_counted() {
        let mut tests = HostTests::default();
        let shown: Vec<&str> = [
            "running 4 tests",
            "test wire::tests::a ... ok",
            "test src/lib.rs - Foo (line 3) ... ok",
            "test b - should panic ... FAILED",
            "test c ... ignored, needs a machine",
            "test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out",
            "thread 'b' panicked at src/lib.rs:1",
        ]
        .into_iter()
        .filter(|line| !tests.take(line))
        .collect();
        assert_eq!(
            tests.passed,
            ["wire::tests::a", "src/lib.rs - Foo (line 3)"]
        );
        assert_eq!(tests.failed, ["b - should panic"]);
        assert_eq!(tests.ignored, ["c"]);
        assert_eq!(shown.len(), 4);
    }
}
