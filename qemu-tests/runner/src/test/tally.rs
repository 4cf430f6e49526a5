//! What all tests came to.

use std::fmt;

use super::case::{Finding, Verdict};
use super::skips::AllowedSkips;
use crate::host::HostTests;

/// Counts, and what is told of those that did not pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
    unlisted: usize,
    failures: Vec<String>,
}

/// The line of a case, when it ends.
pub(super) fn show(finding: &Finding) {
    let seconds = finding.elapsed.as_secs_f64();
    match &finding.verdict {
        Verdict::Passed => println!("boot {} ... ok ({seconds:.2} s)", finding.name),
        Verdict::Skipped(why) => println!("boot {} ... skipped: {why}", finding.name),
        Verdict::Failed {
            problems,
            last_lines,
        } => {
            println!("boot {} ... FAILED ({seconds:.2} s)", finding.name);
            for problem in problems {
                println!("  {problem}");
            }
            if !last_lines.is_empty() {
                println!("  last lines of the log:");
            }
            for line in last_lines {
                println!("    {line}");
            }
            println!("  files: {}", finding.directory.display());
            println!("  again: {}", finding.repeat);
        }
    }
}

impl Tally {
    /// Counts everything.
    pub(super) fn of(host: &HostTests, boots: &[Finding], allowed: &AllowedSkips) -> Self {
        let mut tally = Self {
            passed: host.passed.len(),
            failed: host.failed.len() + host.broken.len(),
            ..Self::default()
        };
        tally
            .failures
            .extend(host.failed.iter().map(|name| format!("host {name}")));
        tally.failures.extend(host.broken.iter().cloned());
        for name in &host.ignored {
            tally.skip(name, "ignored", allowed);
        }
        for finding in boots {
            match &finding.verdict {
                Verdict::Passed => tally.passed += 1,
                Verdict::Skipped(why) => tally.skip(&finding.name, why, allowed),
                Verdict::Failed { .. } => {
                    tally.failed += 1;
                    tally
                        .failures
                        .push(format!("boot {}: {}", finding.name, finding.repeat));
                }
            }
        }
        tally
    }

    /// Nothing failed, and nothing was skipped that must not be.
    pub(super) fn is_good(&self) -> bool {
        self.failed == 0 && self.unlisted == 0 && self.passed > 0
    }

    fn skip(&mut self, name: &str, why: &str, allowed: &AllowedSkips) {
        let line = match allowed.reason(name) {
            Some(reason) => format!("skipped {name}: {reason}"),
            None => {
                self.unlisted += 1;
                format!("skipped {name}: {why} (not in qemu-tests/skips.txt)")
            }
        };
        self.skipped.push(line);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.skipped {
            writeln!(f, "{line}")?;
        }
        for line in &self.failures {
            writeln!(f, "failed {line}")?;
        }
        if self.unlisted > 0 {
            writeln!(f, "{} tests were skipped that must not be", self.unlisted)?;
        }
        writeln!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failed,
            self.skipped.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn finding(name: &str, verdict: Verdict) -> Finding {
        Finding {
            name: name.to_owned(),
            verdict,
            elapsed: Duration::ZERO,
            repeat: format!("cargo xtask test {name}"),
            directory: "d".into(),
        }
    }

    fn failed() -> Verdict {
        Verdict::Failed {
            problems: vec!["no".to_owned()],
            last_lines: Vec::new(),
        }
    }

    fn host() -> HostTests {
        HostTests {
            passed: vec!["a".to_owned(), "b".to_owned()],
            ..HostTests::default()
        }
    }

    fn last_line(tally: &Tally) -> String {
        tally.to_string().lines().next_back().unwrap().to_owned()
    }

    #[test]
    fn the_last_line_counts_host_tests_and_boots() {
        let boots = [finding("x", Verdict::Passed), finding("y", failed())];
        let tally = Tally::of(&host(), &boots, &AllowedSkips::default());
        assert_eq!(last_line(&tally), "3 passed, 1 failed, 0 skipped");
        assert!(!tally.is_good());
        assert!(
            tally
                .to_string()
                .contains("failed boot y: cargo xtask test y")
        );
    }

    #[test]
    fn a_skip_that_is_not_listed_is_told_and_is_not_good() {
        let boots = [finding("x", Verdict::Skipped("old".to_owned()))];
        let tally = Tally::of(&host(), &boots, &AllowedSkips::default());
        assert!(!tally.is_good());
        assert_eq!(last_line(&tally), "2 passed, 0 failed, 1 skipped");
        let listed = AllowedSkips::parse("x: because").unwrap();
        let tally = Tally::of(&host(), &boots, &listed);
        assert!(tally.is_good());
        assert!(tally.to_string().contains("skipped x: because"));
    }

    #[test]
    fn cargo_failing_by_itself_is_a_failure() {
        let broken = HostTests {
            broken: vec!["cargo test itself".to_owned()],
            ..host()
        };
        let tally = Tally::of(&broken, &[], &AllowedSkips::default());
        assert_eq!(last_line(&tally), "2 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn no_test_at_all_is_not_good() {
        assert!(!Tally::of(&HostTests::default(), &[], &AllowedSkips::default()).is_good());
    }
}
