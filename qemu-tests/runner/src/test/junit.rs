//! Results in JUnit's format.

use std::path::Path;

use anyhow::{Context, Result};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::case::{Finding, Verdict};
use crate::host::HostTests;

/// Writes the report.
pub(crate) fn write(path: &Path, host: &HostTests, boots: &[Finding]) -> Result<()> {
    let text = report(host, boots).to_string().context("JUnit")?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn report(host: &HostTests, boots: &[Finding]) -> Report {
    let mut report = Report::new("cargo xtask test");
    let mut suite = TestSuite::new("host");
    let statuses = [
        (&host.passed, TestCaseStatus::success()),
        (
            &host.failed,
            TestCaseStatus::non_success(NonSuccessKind::Failure),
        ),
        (&host.ignored, TestCaseStatus::skipped()),
    ];
    for (names, status) in statuses {
        suite.add_test_cases(
            names
                .iter()
                .map(|name| TestCase::new(name.as_str(), status.clone())),
        );
    }
    report.add_test_suite(suite);
    let mut suite = TestSuite::new("boot");
    suite.add_test_cases(boots.iter().map(case));
    report.add_test_suite(suite);
    report
}

fn case(finding: &Finding) -> TestCase {
    let status = match &finding.verdict {
        Verdict::Passed => TestCaseStatus::success(),
        Verdict::Skipped(why) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(why.as_str());
            status
        }
        Verdict::Failed {
            problems,
            last_lines,
        } => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(problems.join("; "));
            status.set_description(last_lines.join("\n"));
            status
        }
    };
    let mut case = TestCase::new(finding.name.as_str(), status);
    case.set_time(finding.elapsed);
    case
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn passed_failed_and_skipped_are_told_apart() {
        let finding = |name: &str, verdict| Finding {
            name: name.to_owned(),
            verdict,
            elapsed: Duration::from_millis(120),
            repeat: String::new(),
            directory: "d".into(),
        };
        let boots = [
            finding("a", Verdict::Passed),
            finding("b", Verdict::Skipped("old".to_owned())),
            finding(
                "c",
                Verdict::Failed {
                    problems: vec!["no end <2 s".to_owned()],
                    last_lines: vec!["last".to_owned()],
                },
            ),
        ];
        let host = HostTests {
            passed: vec!["h".to_owned()],
            ..HostTests::default()
        };
        let text = report(&host, &boots).to_string().unwrap();
        assert!(text.contains(r#"tests="4""#), "{text}");
        assert!(text.contains(r#"failures="1""#), "{text}");
        assert!(text.contains("no end &lt;2 s"), "{text}");
    }
}
