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
    "guest",
    "taken-back",
];

/// What the guest must have tried, each with a witness.
const CLAIMS: &[&str] = &[
    "blocked",
    "root-outside",
    "bind",
    "copy",
    "copy-across",
    "map-more",
    "remap",
    "unmap",
    "batch",
    "read-only",
    "supervisor",
    "reserved-bit",
    "leaf-outside",
    "leaf-canary",
    "leaf-hypervisor",
    "leaf-registers",
    "leaf-interrupts",
    "table-outside",
    "interrupt",
    "foreign-interrupt",
    "hostile-calls",
    "pasid",
    "unbind",
];

/// What the demonstration does on purpose that QEMU complains of.
pub(crate) const PROVOKED: &[Provocation] = &[
    Provocation::RefusedDma,
    Provocation::ForeignInterrupt,
    Provocation::AbsentInterrupt,
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
        if guest == "svm" {
            figures.push(EXITS);
        }
        Self {
            steps: STEPS.to_vec(),
            claims: CLAIMS.to_vec(),
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
        assert_eq!(CLAIMS, steps);
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
