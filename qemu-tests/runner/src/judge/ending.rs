//! How a boot ended, and what anybody complained of.

use super::complaint::Announced;
use crate::boot::Evidence;
use crate::qemu::Ending;
use crate::wire::{ExitStatus, of_qemu};

/// What a boot must come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expectation {
    /// Name of the kernel's exit status.
    pub(crate) status: String,
    /// What QEMU is expected to complain of.
    pub(crate) complaints: Announced,
    /// Whether QEMU's trace must show that translation was turned on.
    pub(crate) unit_used: bool,
}

impl Expectation {
    /// The kernel ends with `ok`, nobody complains, and the unit is used.
    pub(crate) fn quiet_success() -> Self {
        Self {
            status: "ok".to_owned(),
            complaints: Announced::default(),
            unit_used: true,
        }
    }
}

const TRANSLATION_ON: &str = "vtd_dmar_enable";

/// What is wrong with a boot, whatever it was about.
pub(crate) fn problems(evidence: &Evidence, expected: &Expectation) -> Vec<String> {
    let mut problems = Vec::new();
    problems.extend(wrong_ending(evidence, expected));
    problems.extend(silence(evidence));
    problems.extend(contradiction(evidence));
    problems.extend(
        evidence
            .heard
            .damage
            .iter()
            .map(|damage| format!("damaged evidence: {damage}")),
    );
    problems.extend(complaints(evidence, expected));
    if expected.unit_used && evidence.heard.records > 0 && evidence.trace.count(TRANSLATION_ON) == 0
    {
        problems.push("QEMU's trace does not show translation being turned on".to_owned());
    }
    problems
}

fn wrong_ending(evidence: &Evidence, expected: &Expectation) -> Option<String> {
    let stderr = evidence.finished.stderr.trim();
    let code = match evidence.finished.ending {
        Ending::TimedOut(limit) => {
            return Some(format!("no end within {} s", limit.as_secs_f32()));
        }
        Ending::Signal(signal) => return Some(died(signal, stderr)),
        Ending::Code(code) => code,
    };
    match of_qemu(code) {
        Some(status) if status.name() == expected.status => None,
        Some(status) => Some(unexpected(status, evidence, expected)),
        None if evidence.heard.records == 0 && code == 1 => Some(format!("QEMU refused: {stderr}")),
        None if code == 0 => {
            Some("the machine was reset or switched off; a triple fault looks like this".to_owned())
        }
        None => Some(format!(
            "QEMU ended with status {code}, which is none of the kernel's"
        )),
    }
}

fn unexpected(status: ExitStatus, evidence: &Evidence, expected: &Expectation) -> String {
    let why = match evidence.heard.exit() {
        Some((_, text)) if !text.is_empty() => format!(": {text}"),
        _ => String::new(),
    };
    format!(
        "the kernel ended with `{}` and not `{}`{why}",
        status.name(),
        expected.status
    )
}

/// An assertion in the emulated unit is the driver's doing: it fails on requests that
/// hardware leaves undefined.
fn died(signal: i32, stderr: &str) -> String {
    let blamed = stderr
        .lines()
        .find(|line| line.contains("intel_iommu") || line.contains("vtd_"));
    match blamed {
        Some(line) => format!(
            "the driver made QEMU's remapping unit abort (signal {signal}), which is a bug of the driver: {line}"
        ),
        None => format!(
            "QEMU died of signal {signal}: {}",
            stderr.lines().next_back().unwrap_or("without a word")
        ),
    }
}

fn silence(evidence: &Evidence) -> Option<String> {
    let refused = matches!(evidence.finished.ending, Ending::Code(1));
    if evidence.heard.records > 0 || refused {
        return None;
    }
    let firmware = evidence.heard.firmware.trim();
    Some(match firmware.lines().next_back() {
        Some(last) => format!("the kernel said nothing; firmware's last line was: {last}"),
        None => "the kernel said nothing".to_owned(),
    })
}

/// The report's last line and QEMU's exit status come from the same kernel.
fn contradiction(evidence: &Evidence) -> Option<String> {
    let Ending::Code(code) = evidence.finished.ending else {
        return None;
    };
    let status = of_qemu(code)?;
    match evidence.heard.exit() {
        Some((name, _)) if name == status.name() => None,
        Some((name, _)) => Some(format!(
            "the report ends with `exit {name}` and the status is `{}`",
            status.name()
        )),
        None => Some("the report has no `exit` line at its end".to_owned()),
    }
}

/// Unless QEMU ended early, which was told already.
fn complaints(evidence: &Evidence, expected: &Expectation) -> Vec<String> {
    if matches!(
        evidence.finished.ending,
        Ending::Signal(_) | Ending::Code(1)
    ) {
        return Vec::new();
    }
    let stderr = evidence.finished.stderr.lines().map(str::trim);
    let lines: Vec<&str> = stderr
        .filter(|line| !line.is_empty())
        .chain(evidence.trace.complaints().iter().map(String::as_str))
        .collect();
    expected.complaints.problems(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::evidence_of;
    use std::time::Duration;

    fn judged(evidence: &Evidence) -> Vec<String> {
        problems(evidence, &Expectation::quiet_success())
    }

    fn ended(ending: Ending, stderr: &str, report: &[&str]) -> Evidence {
        let mut evidence = evidence_of(report, &["vtd_dmar_enable enable 1"]);
        evidence.finished.ending = ending;
        evidence.finished.stderr = stderr.to_owned();
        evidence
    }

    #[test]
    fn a_quiet_success_has_no_problem() {
        assert_eq!(
            judged(&ended(Ending::Code(33), "", &["exit ok done"])),
            [""; 0]
        );
    }

    #[test]
    fn another_status_is_told_with_its_reason_and_can_be_expected() {
        let evidence = ended(Ending::Code(37), "", &["exit panic oops at a.rs:1"]);
        assert_eq!(
            judged(&evidence),
            ["the kernel ended with `panic` and not `ok`: oops at a.rs:1"]
        );
        let expected = Expectation {
            status: "panic".to_owned(),
            ..Expectation::quiet_success()
        };
        assert_eq!(problems(&evidence, &expected), [""; 0]);
    }

    #[test]
    fn report_and_status_must_agree() {
        let found = judged(&ended(Ending::Code(33), "", &["exit failed x"]));
        assert_eq!(
            found,
            ["the report ends with `exit failed` and the status is `ok`"]
        );
        let found = judged(&ended(Ending::Code(33), "", &["exit ok", "note more"]));
        assert_eq!(found, ["the report has no `exit` line at its end"]);
    }

    #[test]
    fn a_hang_and_a_silent_boot_are_failures() {
        let limit = Duration::from_secs(2);
        let found = judged(&ended(Ending::TimedOut(limit), "", &[]));
        assert_eq!(found, ["no end within 2 s", "the kernel said nothing"]);
        let mut evidence = ended(Ending::TimedOut(limit), "", &[]);
        evidence.heard.firmware = "SeaBIOS\nBooting from ROM..".to_owned();
        assert!(judged(&evidence)[1].ends_with("Booting from ROM.."));
    }

    #[test]
    fn an_abort_in_the_emulated_unit_is_the_drivers() {
        let stderr =
            "x: ../hw/i386/intel_iommu.c:2613: vtd_process_wait_desc: Assertion `0' failed.";
        let found = judged(&ended(Ending::Signal(6), stderr, &["note began"]));
        assert!(found[0].contains("a bug of the driver"), "{found:?}");
        assert_eq!(found.len(), 1);
        let found = judged(&ended(Ending::Signal(11), "", &["note began"]));
        assert_eq!(found, ["QEMU died of signal 11: without a word"]);
    }

    #[test]
    fn a_refusal_is_passed_on_in_qemus_own_words() {
        let stderr = "qemu: -device intel-iommu,x=1: Property 'intel-iommu.x' not found\n";
        let mut evidence = ended(Ending::Code(1), stderr, &[]);
        evidence.trace = crate::trace::Trace::default();
        assert_eq!(
            judged(&evidence),
            [format!("QEMU refused: {}", stderr.trim())]
        );
    }

    #[test]
    fn a_triple_fault_is_named() {
        let found = judged(&ended(Ending::Code(0), "", &["note began"]));
        assert!(found[0].contains("triple fault"), "{found:?}");
    }

    #[test]
    fn a_complaint_on_standard_error_is_a_problem() {
        let complaint = "qemu: vtd_iommu_translate: detected translation failure (dev=00:04:00)";
        let evidence = ended(Ending::Code(33), complaint, &["exit ok"]);
        assert_eq!(judged(&evidence), [format!("QEMU complains: {complaint}")]);
    }

    #[test]
    fn a_warning_in_the_trace_is_a_complaint() {
        let evidence = evidence_of(
            &["exit ok"],
            &[
                "vtd_dmar_enable enable 1",
                "vtd_warn_invalid_qi_tail tail 0x9",
            ],
        );
        assert_eq!(
            judged(&evidence),
            ["QEMU complains: vtd_warn_invalid_qi_tail tail 0x9"]
        );
    }

    #[test]
    fn an_empty_trace_is_no_witness() {
        let evidence = evidence_of(&["exit ok"], &[]);
        assert_eq!(judged(&evidence).len(), 1);
        let no_unit = Expectation {
            unit_used: false,
            ..Expectation::quiet_success()
        };
        assert_eq!(problems(&evidence, &no_unit), [""; 0]);
    }
}
