//! Guests' claims, which are believed only as far as others saw the same.

use std::collections::BTreeMap;

use crate::boot::Evidence;
use crate::trace::Trace;
use crate::wire::{Line, Outcome};

/// A claim of a guest, and whether anything speaks against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Believed {
    /// Of which step.
    pub(crate) id: String,
    /// The guest's own words.
    pub(crate) text: String,
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
                Line::Claim { outcome, id, text } => Some(Self {
                    id: id.clone(),
                    text: text.clone(),
                    doubts: doubts(*outcome, id, report, &evidence.trace),
                }),
                _ => None,
            })
            .collect()
    }
}

fn doubts(outcome: Outcome, id: &str, report: &[Line], trace: &Trace) -> Vec<String> {
    let mut doubts = Vec::new();
    if outcome != Outcome::Pass {
        doubts.push("the guest itself says that it failed".to_owned());
    }
    let mut seen = report.iter().filter_map(|line| match line {
        Line::Witness { id: of, values } if of == id => Some(values),
        _ => None,
    });
    match seen.next() {
        None => doubts.push("the hypervisor saw nothing of it".to_owned()),
        Some(first) => {
            for values in std::iter::once(first).chain(seen) {
                doubts.extend(contradictions(values, trace));
            }
        }
    }
    doubts
}

/// What a witness line says against the claim, or QEMU's trace against the witness line.
fn contradictions(values: &BTreeMap<String, String>, trace: &Trace) -> Option<String> {
    if values.get("verdict").map(String::as_str) != Some("pass") {
        return Some(format!("the hypervisor saw otherwise: {}", show(values)));
    }
    let info = match (values.get("fault"), values.get("index")) {
        (None, None) => return None,
        // Page of the request; index of the interrupt entry in the upper 16 bits (§11.4.14).
        (Some(address), _) => number(address).map(|address| address & !0xfff),
        (None, Some(index)) => number(index).and_then(|index| index.checked_shl(48)),
    };
    let recorded = (|| {
        let source = source(values.get("source")?)?;
        let reason = number(values.get("reason")?)?;
        let info = info?;
        Some(trace.recorded().iter().any(|fault| {
            fault.info == info && fault.source == source && u64::from(fault.reason) == reason
        }))
    })();
    match recorded {
        Some(true) => None,
        Some(false) => Some(format!("QEMU recorded no such fault: {}", show(values))),
        None => Some(format!("the witness is not understood: {}", show(values))),
    }
}

fn show(values: &BTreeMap<String, String>) -> String {
    values
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A requester id from `BB:DD.F`, all hexadecimal.
fn source(text: &str) -> Option<u16> {
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
            ["the guest itself says that it failed"]
        );
    }

    #[test]
    fn a_fault_must_be_in_the_trace_with_address_source_and_reason() {
        let right = "witness hole verdict=pass fault=0x5008 source=00:04.0 reason=0x71";
        assert_eq!(doubts_of(&["claim pass hole", right], &[FAULT]), [""; 0]);
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
