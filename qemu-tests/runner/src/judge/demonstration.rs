//! What `cargo xtask run` must have shown, by mode and guest. The one place for it.

use std::collections::BTreeMap;

use super::claims::Believed;
use super::complaint::Provocation;
use super::figures::{EXITS, Figure};
use crate::boot::Evidence;
use crate::qemu::Mode;
use crate::wire::{Line, Outcome};

/// Steps that the kernel must report as passed.
const STEPS: &[&str] = &[
    "translation",
    "interrupt-remapping",
    "blocked",
    "interrupt-source",
    "guest",
    "taken-back",
];

/// Steps that need a virtual machine, with a guest beside the first.
const STEPS_OF_SVM: &[&str] = &["hostile"];

/// What the guest must have tried, each with a witness; what that shows; and whether the
/// device must have been refused on the way, with a fault that QEMU recorded.
const CLAIMS: &[(&str, &str, Includes)] = &[
    (
        "blocked-before",
        "before anything is bound the device reaches nothing",
        Refused,
    ),
    (
        "root-outside",
        "a root table outside the guest's memory is refused, one inside is not",
        Permitted,
    ),
    (
        "bind",
        "the guest's own page table is bound to its device",
        Permitted,
    ),
    (
        "copy",
        "the device copies between guest-virtual pages",
        Permitted,
    ),
    (
        "copy-across",
        "the device copies across pages that lie apart",
        Permitted,
    ),
    (
        "map-more",
        "a page is refused, then mapped and invalidated, then reached",
        Refused,
    ),
    (
        "remap",
        "an address that leads elsewhere after an invalidation does so for the device",
        Permitted,
    ),
    (
        "unmap",
        "a page is reached, then unmapped and invalidated, then refused; then mapped again",
        Refused,
    ),
    (
        "batch",
        "many pages are changed and invalidated in one call",
        Permitted,
    ),
    (
        "everything",
        "pages anywhere in large tables are changed, and everything is invalidated in one call",
        Permitted,
    ),
    (
        "read-only",
        "a write to a read-only page is refused, a read is not",
        Refused,
    ),
    (
        "supervisor",
        "a supervisor page is refused, a user page is not",
        Refused,
    ),
    (
        "reserved-bit",
        "an entry with a reserved bit is refused, one without is not",
        Refused,
    ),
    (
        "leaf-outside",
        "an entry that leads out of the guest's memory is refused",
        Refused,
    ),
    (
        "leaf-canary",
        "an entry that leads to a page of the hypervisor's is refused",
        Refused,
    ),
    (
        "leaf-hypervisor",
        "an entry that leads into the hypervisor's image is refused",
        Refused,
    ),
    (
        "leaf-registers",
        "an entry that leads to the unit's registers is refused",
        Refused,
    ),
    (
        "leaf-interrupts",
        "an entry that leads to the interrupt address range is refused",
        Refused,
    ),
    (
        "table-outside",
        "a table outside the guest's memory is refused",
        Refused,
    ),
    (
        "interrupt",
        "the device's interrupt reaches the guest, remapped",
        Permitted,
    ),
    (
        "foreign-interrupt",
        "an interrupt that is another's is refused, its own is not",
        Refused,
    ),
    (
        "hostile-calls",
        "bad handles, sizes, flags and pointers get an error and change nothing",
        Permitted,
    ),
    (
        "pasid",
        "binding by PASID works, or says that the device has none",
        Permitted,
    ),
    (
        "unbind",
        "after unbinding the device reaches nothing again",
        Refused,
    ),
];

/// Whether a claim includes a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Includes {
    /// At least one.
    Refused,
    /// None that is required.
    Permitted,
}
use Includes::{Permitted, Refused};

/// What a claim shows, in words.
pub(crate) fn meaning(claim: &str) -> &'static str {
    let mut known = CLAIMS.iter();
    known
        .find(|(id, ..)| *id == claim)
        .map_or("", |(_, meaning, _)| meaning)
}

/// What the demonstration does on purpose that QEMU complains of.
pub(crate) const PROVOKED: &[Provocation] = &[
    Provocation::RefusedDma,
    Provocation::ForeignInterrupt,
    Provocation::AbsentInterrupt,
    Provocation::RefusedAtOnce,
];

/// Figures that must not be 0, whatever mode and guest are.
const ALWAYS: &[&str] = &[
    "descriptors",
    "doorbells",
    "waits",
    "faults",
    "hypercalls",
    "guest-interrupts",
    "qemu.pages-translated",
    "qemu.interrupts-remapped",
    "qemu.dma-refused",
];

/// What must not be missing or 0 for one mode and guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Required {
    /// IDs of steps.
    pub(crate) steps: Vec<&'static str>,
    /// IDs of claims.
    pub(crate) claims: Vec<&'static str>,
    /// IDs of claims with a refusal that QEMU recorded.
    pub(crate) refusals: Vec<&'static str>,
    /// Names of figures.
    pub(crate) figures: Vec<&'static str>,
}

impl Required {
    /// The list for a mode and a guest's back-end, `svm` or `direct`.
    pub(crate) fn by(mode: Mode, guest: &str) -> Self {
        let mut figures = ALWAYS.to_vec();
        figures.push(match mode {
            Mode::Legacy | Mode::SecondStage => "qemu.iotlb-invalidations",
            Mode::FirstStage => "qemu.pasid-iotlb-invalidations",
        });
        let mut steps = STEPS.to_vec();
        if guest == "svm" {
            figures.extend([EXITS, "hostile.lives", "hostile.hypercalls"]);
            steps.extend(STEPS_OF_SVM);
        }
        Self {
            steps,
            claims: CLAIMS.iter().map(|(id, ..)| *id).collect(),
            refusals: CLAIMS
                .iter()
                .filter(|(_, _, includes)| *includes == Refused)
                .map(|(id, ..)| *id)
                .collect(),
            figures,
        }
    }
}

/// What a demonstration showed.
#[derive(Debug)]
pub(crate) struct Demonstration<'e> {
    /// What the kernel ran with: `mode`, `guest`, `seed`.
    pub(crate) chosen: BTreeMap<&'e str, &'e str>,
    /// The kernel's steps: id, outcome, text.
    pub(crate) steps: Vec<(&'e str, Outcome, &'e str)>,
    /// The guests' claims.
    pub(crate) claims: Vec<Believed>,
    /// What is to be told to the reader.
    pub(crate) notes: Vec<&'e str>,
}

impl<'e> Demonstration<'e> {
    /// Reads it out of the report.
    pub(crate) fn of(evidence: &'e Evidence) -> Self {
        let mut chosen = BTreeMap::new();
        let mut steps = Vec::new();
        let mut notes = Vec::new();
        for line in &evidence.heard.report {
            match line {
                Line::Chosen(values) => {
                    chosen.extend(
                        values
                            .iter()
                            .map(|(key, value)| (key.as_str(), value.as_str())),
                    );
                }
                Line::Step { outcome, id, text } => {
                    steps.push((id.as_str(), *outcome, text.as_str()))
                }
                Line::Note(text) => notes.push(text.as_str()),
                _ => {}
            }
        }
        Self {
            chosen,
            steps,
            claims: Believed::all(evidence),
            notes,
        }
    }

    /// The guest's back-end.
    pub(crate) fn guest(&self) -> &'e str {
        self.chosen.get("guest").copied().unwrap_or("unknown")
    }

    /// What does not hold, or is missing.
    pub(crate) fn problems(
        &self,
        mode: Mode,
        figures: &[Figure],
        required: &Required,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        if self.chosen.get("mode") != Some(&mode.name()) {
            problems.push(format!(
                "the kernel does not say that it runs in mode {mode}"
            ));
        }
        if !matches!(self.guest(), "svm" | "direct") {
            problems.push("the kernel does not say how the guest runs".to_owned());
        }
        let failed = self
            .steps
            .iter()
            .filter(|(_, outcome, _)| *outcome == Outcome::Fail);
        problems.extend(failed.map(|(id, _, text)| format!("step {id} failed: {text}")));
        for claim in &self.claims {
            problems.extend(
                claim
                    .doubts
                    .iter()
                    .map(|doubt| format!("claim {}: {doubt}", claim.id)),
            );
        }
        for id in &required.steps {
            let passed = |(step, outcome, _): &(&str, Outcome, &str)| {
                step == id && *outcome == Outcome::Pass
            };
            if !self.steps.iter().any(passed) {
                problems.push(format!("step {id} is missing"));
            }
        }
        for id in &required.claims {
            if !self.claims.iter().any(|claim| claim.id == *id) {
                problems.push(format!("the guest did not get to {id}"));
            }
        }
        for id in &required.refusals {
            let refused = |claim: &Believed| claim.id == *id && claim.refusals > 0;
            if !self.claims.iter().any(refused) {
                problems.push(format!("claim {id}: QEMU recorded no refusal"));
            }
        }
        for name in &required.figures {
            if figures
                .iter()
                .find(|figure| figure.name == *name)
                .is_none_or(|figure| figure.value() == 0)
            {
                problems.push(format!("figure {name} is 0 or missing"));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::evidence_of;
    use crate::judge::figures;

    const REPORT: &[&str] = &[
        "chosen mode=legacy guest=svm seed=0x1",
        "step pass units 1 unit",
        "claim pass copy ok",
        "witness copy verdict=pass",
        "figure hypercalls 3",
    ];

    fn problems(report: &[&str], required: &Required) -> Vec<String> {
        let evidence = evidence_of(report, &[]);
        Demonstration::of(&evidence).problems(Mode::Legacy, &figures(&evidence), required)
    }

    fn required() -> Required {
        Required {
            steps: vec!["units"],
            claims: vec!["copy"],
            refusals: Vec::new(),
            figures: vec!["hypercalls"],
        }
    }

    #[test]
    fn a_demonstration_with_all_that_is_required_has_no_problem() {
        assert_eq!(problems(REPORT, &required()), [""; 0]);
    }

    #[test]
    fn each_thing_that_is_missing_is_a_problem() {
        for missing in [0, 1, 2, 4] {
            let mut report = REPORT.to_vec();
            report.remove(missing);
            let expected = if missing == 0 { 2 } else { 1 };
            assert_eq!(
                problems(&report, &required()).len(),
                expected,
                "{}",
                REPORT[missing]
            );
        }
    }

    #[test]
    fn a_claimed_refusal_must_have_been_recorded_by_qemu() {
        let required = Required {
            refusals: vec!["copy"],
            ..required()
        };
        assert_eq!(
            problems(REPORT, &required),
            ["claim copy: QEMU recorded no refusal"]
        );
    }

    #[test]
    fn a_figure_of_zero_is_a_problem() {
        let mut report = REPORT.to_vec();
        report[4] = "figure hypercalls 0";
        assert_eq!(
            problems(&report, &required()),
            ["figure hypercalls is 0 or missing"]
        );
    }

    #[test]
    fn a_required_step_that_was_skipped_is_missing() {
        let mut report = REPORT.to_vec();
        report[1] = "step skip units none";
        assert_eq!(problems(&report, &required()), ["step units is missing"]);
    }

    #[test]
    fn another_mode_than_was_asked_for_is_a_problem() {
        let mut report = REPORT.to_vec();
        report[0] = "chosen mode=first-stage guest=svm seed=0x1";
        assert_eq!(problems(&report, &required()).len(), 1);
    }

    #[test]
    fn all_that_the_guest_does_is_required_and_nothing_else() {
        let steps: Vec<&str> = nested_bind::step_names().collect();
        let claims: Vec<&str> = CLAIMS.iter().map(|(id, ..)| *id).collect();
        assert_eq!(claims, steps);
    }

    #[test]
    fn a_hostile_guest_beside_the_first_is_required_of_svm_alone() {
        let steps = |guest| Required::by(Mode::Legacy, guest).steps;
        assert!(steps("svm").contains(&"hostile"));
        assert!(!steps("direct").contains(&"hostile"));
    }

    #[test]
    fn only_svm_has_exits() {
        assert!(Required::by(Mode::Legacy, "svm").figures.contains(&"exits"));
        assert!(
            !Required::by(Mode::Legacy, "direct")
                .figures
                .contains(&"exits")
        );
    }
}
