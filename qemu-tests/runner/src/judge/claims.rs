//! Guests' claims, which are believed only as far as others saw the same.

use std::collections::BTreeMap;

use crate::boot::Evidence;
use crate::trace::{RecordedFault, Trace};
use crate::wire::{Line, Outcome};

/// A claim of a guest, and whether anything speaks against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Believed {
    /// Of which step.
    pub(crate) id: String,
    /// The guest's own words.
    pub(crate) text: String,
    /// How often the hypervisor watched.
    pub(crate) witnessed: usize,
    /// How many refusals that the hypervisor saw are in QEMU's trace.
    pub(crate) refusals: usize,
    /// Why it is not believed; empty if it is.
    pub(crate) doubts: Vec<String>,
}

impl Believed {
    /// Every claim of a boot, in its order.
    pub(crate) fn all(evidence: &Evidence) -> Vec<Self> {
        let report = &evidence.heard.report;
        report
            .iter()
            .filter_map(|line| match line {
                Line::Claim { outcome, id, text } => {
                    Some(Self::examine(*outcome, id, text, report, &evidence.trace))
                }
                _ => None,
            })
            .collect()
    }

    fn examine(outcome: Outcome, id: &str, text: &str, report: &[Line], trace: &Trace) -> Self {
        let mut claim = Self {
            id: id.to_owned(),
            text: text.to_owned(),
            witnessed: 0,
            refusals: 0,
            doubts: Vec::new(),
        };
        if outcome != Outcome::Pass {
            let doubt = format!("the guest itself says that it failed: {text}");
            claim.doubts.push(doubt);
        }
        for line in report {
            if let Line::Witness { id: of, values } = line
                && of == id
            {
                claim.hear(values, trace);
            }
        }
        if claim.witnessed == 0 {
            claim
                .doubts
                .push("the hypervisor saw nothing of it".to_owned());
        }
        claim
    }

    /// A witness line against the claim, and QEMU's trace against the witness line.
    fn hear(&mut self, values: &BTreeMap<String, String>, trace: &Trace) {
        if values.get("verdict").map(String::as_str) == Some("void") {
            // The unit may have lost the fault among other devices'; the guest repeats it.
            return;
        }
        self.witnessed += 1;
        if values.get("verdict").map(String::as_str) != Some("pass") {
            let doubt = format!("the hypervisor saw otherwise: {}", show(values));
            self.doubts.push(doubt);
            return;
        }
        match recorded(values, trace) {
            Refusal::NotMentioned => {}
            Refusal::Recorded => self.refusals += 1,
            Refusal::Unrecorded => {
                let doubt = format!("QEMU recorded no such fault: {}", show(values));
                self.doubts.push(doubt);
            }
            Refusal::Unclear => {
                let doubt = format!("the witness is not understood: {}", show(values));
                self.doubts.push(doubt);
            }
        }
    }
}

/// What a witness line says of a refusal, and QEMU's trace of that.
enum Refusal {
    NotMentioned,
    Recorded,
    Unrecorded,
    Unclear,
}

fn recorded(values: &BTreeMap<String, String>, trace: &Trace) -> Refusal {
    let info = match (values.get("fault"), values.get("index")) {
        (None, None) => return Refusal::NotMentioned,
        // Page of the request; index of the interrupt entry in the upper 16 bits (§11.4.14).
        (Some(address), _) => number(address).map(|address| address & !0xfff),
        (None, Some(index)) => number(index).and_then(|index| index.checked_shl(48)),
    };
    let source = values.get("source").and_then(|text| source(text));
    let reason = values.get("reason").and_then(|text| number(text));
    let (Some(info), Some(source), Some(reason)) = (info, source, reason) else {
        return Refusal::Unclear;
    };
    let is_it = |fault: &RecordedFault| {
        fault.info == info && fault.source == source && u64::from(fault.reason) == reason
    };
    match trace.recorded().iter().any(is_it) {
        true => Refusal::Recorded,
        false => Refusal::Unrecorded,
    }
}

fn show(values: &BTreeMap<String, String>) -> String {
    values
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}

pub(super) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A requester id from `BB:DD.F`, all hexadecimal.
pub(super) fn source(text: &str) -> Option<u16> {
    let (bus, rest) = text.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let field = |text: &str, limit: u16| {
        u16::from_str_radix(text, 16)
            .ok()
            .filter(|value| *value < limit)
    };
    Some(field(bus, 0x100)? << 8 | field(device, 0x20)? << 3 | field(function, 8)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::evidence_of;

    const FAULT: &str = "vtd_frr_new index 0 high 0xc000007100000020 low 0x5000";

    fn doubts_of(report: &[&str], trace: &[&str]) -> Vec<String> {
        let claims = Believed::all(&evidence_of(report, trace));
        assert_eq!(claims.len(), 1);
        claims.into_iter().next().unwrap().doubts
    }

    #[test]
    fn a_claim_that_the_hypervisor_confirms_is_believed() {
        let report = ["claim pass copy ok", "witness copy verdict=pass bytes=4096"];
        assert_eq!(doubts_of(&report, &[]), [""; 0]);
    }

    #[test]
    fn a_claim_alone_is_not_believed() {
        assert_eq!(
            doubts_of(&["claim pass copy ok", "witness other verdict=pass"], &[]),
            ["the hypervisor saw nothing of it"]
        );
    }

    #[test]
    fn a_trial_that_proved_nothing_neither_helps_nor_harms() {
        let void = "witness copy verdict=void lost=1";
        let report = ["claim pass copy ok", "witness copy verdict=pass", void];
        assert_eq!(doubts_of(&report, &[]), [""; 0]);
        assert_eq!(
            doubts_of(&["claim pass copy ok", void], &[]),
            ["the hypervisor saw nothing of it"]
        );
    }

    #[test]
    fn one_witness_against_it_is_enough() {
        let report = [
            "claim pass copy ok",
            "witness copy verdict=pass",
            "witness copy verdict=fail canary=broken",
        ];
        assert_eq!(
            doubts_of(&report, &[]),
            ["the hypervisor saw otherwise: canary=broken verdict=fail"]
        );
        assert_eq!(
            doubts_of(&["claim pass copy ok", "witness copy seen=1"], &[]).len(),
            1
        );
    }

    #[test]
    fn a_guest_that_says_it_failed_is_believed_at_once() {
        let report = ["claim fail copy wrong byte", "witness copy verdict=pass"];
        assert_eq!(
            doubts_of(&report, &[]),
            ["the guest itself says that it failed: wrong byte"]
        );
    }

    #[test]
    fn a_fault_must_be_in_the_trace_with_address_source_and_reason() {
        let right = "witness hole verdict=pass fault=0x5008 source=00:04.0 reason=0x71";
        assert_eq!(doubts_of(&["claim pass hole", right], &[FAULT]), [""; 0]);
        let claims = Believed::all(&evidence_of(&["claim pass hole", right], &[FAULT]));
        assert_eq!((claims[0].witnessed, claims[0].refusals), (1, 1));
        for wrong in [
            right.replace("0x5008", "0x6008"),
            right.replace("04.0", "05.0"),
            right.replace("0x71", "0x85"),
            right.replace("04.0", "20.0"),
            right.replace("source=00:04.0 ", ""),
        ] {
            assert_eq!(
                doubts_of(&["claim pass hole", &wrong], &[FAULT]).len(),
                1,
                "{wrong}"
            );
        }
        assert_eq!(doubts_of(&["claim pass hole", right], &[]).len(), 1);
    }

    #[test]
    fn a_refused_interrupt_is_found_by_its_index() {
        let trace = ["vtd_frr_new index 0 high 0x8000002600000020 low 0x3000000000000"];
        let right = "witness irq verdict=pass index=3 source=00:04.0 reason=0x26";
        assert_eq!(doubts_of(&["claim pass irq", right], &trace), [""; 0]);
        let wrong = right.replace("index=3", "index=4");
        assert_eq!(doubts_of(&["claim pass irq", &wrong], &trace).len(), 1);
    }
}
