//! The summary of a demonstration: a table for a person, JSON for a program.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Setup;
use crate::boot::Evidence;
use crate::judge::{Believed, Demonstration, Figure, Neighbour, Required, meaning};
use crate::log::Style;
use crate::qemu::Qemu;
use crate::wire::Outcome;

/// All that is told of a demonstration.
#[derive(Debug)]
pub(crate) struct Summary {
    mode: String,
    guest: String,
    seed: u64,
    qemu: String,
    seconds: f64,
    steps: Vec<(String, Outcome, String)>,
    claims: Vec<Believed>,
    notes: Vec<String>,
    figures: Vec<Figure>,
    required: Required,
    neighbour: Option<Neighbour>,
    problems: Vec<String>,
    last_lines: Vec<String>,
}

impl Summary {
    /// Gathers it.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the summary")]
    pub(super) fn new(
        evidence: &Evidence,
        setup: &Setup,
        qemu: &Qemu,
        demonstration: &Demonstration<'_>,
        figures: Vec<Figure>,
        required: Required,
        neighbour: Option<Neighbour>,
        problems: Vec<String>,
    ) -> Self {
        Self {
            mode: setup.mode.name().to_owned(),
            guest: demonstration.guest().to_owned(),
            seed: setup.seed,
            qemu: qemu.version.to_string(),
            seconds: evidence.finished.elapsed.as_secs_f64(),
            steps: demonstration
                .steps
                .iter()
                .map(|(id, outcome, text)| ((*id).to_owned(), *outcome, (*text).to_owned()))
                .collect(),
            claims: demonstration.claims.clone(),
            notes: demonstration
                .notes
                .iter()
                .map(|&note| note.to_owned())
                .collect(),
            figures,
            required,
            neighbour,
            problems,
            last_lines: evidence.last_lines(),
        }
    }

    /// Whether nothing speaks against it.
    pub(crate) fn held(&self) -> bool {
        self.problems.is_empty()
    }

    /// What speaks against it.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// How the guest ran.
    pub(crate) fn guest(&self) -> &str {
        &self.guest
    }

    /// The table.
    pub(crate) fn show(&self, style: Style) -> String {
        let mut text = String::new();
        // Writing to a `String` does not fail.
        let _ = self.write_table(&mut text, style);
        text
    }

    fn write_table(&self, out: &mut String, style: Style) -> std::fmt::Result {
        writeln!(
            out,
            "\n{}",
            style.paint(
                "1",
                &format!(
                    "mode {}, guest {}, QEMU {}, seed {:#x}, {:.2} s",
                    self.mode, self.guest, self.qemu, self.seed, self.seconds
                )
            )
        )?;
        for (id, outcome, text) in &self.steps {
            writeln!(out, " {} {id:28} {text}", mark(*outcome, style))?;
        }
        for claim in &self.claims {
            write_claim(out, claim, style)?;
        }
        if let Some(neighbour) = &self.neighbour {
            write_neighbour(out, neighbour, style)?;
        }
        writeln!(out, "\n   {:32} {:>12} {:>12}", "figure", "counted", "QEMU")?;
        for figure in &self.figures {
            self.write_figure(out, figure, style)?;
        }
        writeln!(
            out,
            "   must not be 0 in this mode with this guest: {}",
            self.required.figures.join(", ")
        )?;
        for note in &self.notes {
            writeln!(out, "   note: {note}")?;
        }
        if self.held() {
            return writeln!(out, "\n{}", style.paint("1;32", "all held"));
        }
        if !self.last_lines.is_empty() {
            writeln!(out, "\nlast lines of the log:")?;
            for line in &self.last_lines {
                writeln!(out, "  {line}")?;
            }
        }
        writeln!(out, "\n{}", style.paint("1;31", "did not hold:"))?;
        for problem in &self.problems {
            writeln!(out, "  {problem}")?;
        }
        Ok(())
    }

    fn write_figure(&self, out: &mut String, figure: &Figure, style: Style) -> std::fmt::Result {
        let zero = figure.value() == 0 && self.required.figures.contains(&figure.name.as_str());
        let compared = figure.ours.is_some() && figure.qemu.is_some();
        let outcome = match (figure.disagrees() || zero, compared) {
            (true, _) => mark(Outcome::Fail, style),
            (false, true) => mark(Outcome::Pass, style),
            (false, false) => " ".to_owned(),
        };
        let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
        writeln!(
            out,
            " {outcome} {:32} {:>12} {:>12}",
            figure.name,
            number(figure.ours),
            number(figure.qemu)
        )
    }

    /// Writes `summary.json`.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.json())?;
        std::fs::write(path, text + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn json(&self) -> Value {
        let figures: serde_json::Map<String, Value> = self
            .figures
            .iter()
            .map(|figure| {
                let sides = json!({"counted": figure.ours, "qemu": figure.qemu});
                (figure.name.clone(), sides)
            })
            .collect();
        json!({
            "held": self.held(),
            "mode": self.mode,
            "guest": self.guest,
            "seed": format!("{:#x}", self.seed),
            "qemu": self.qemu,
            "seconds": self.seconds,
            "steps": self.steps.iter().map(|(id, outcome, text)| json!({
                "id": id,
                "outcome": name(*outcome),
                "text": text,
            })).collect::<Vec<_>>(),
            "claims": self.claims.iter().map(|claim| json!({
                "id": claim.id,
                "believed": claim.doubts.is_empty(),
                "text": claim.text,
                "shows": meaning(&claim.id),
                "witnessed": claim.witnessed,
                "refusals": claim.refusals,
                "doubts": claim.doubts,
            })).collect::<Vec<_>>(),
            "hostile": self.neighbour.as_ref().map(|neighbour| json!({
                "contained": neighbour.problems.is_empty(),
                "pages_reached": neighbour.reached,
                "refusals": neighbour.refused,
            })),
            "figures": figures,
            "required": {
                "steps": self.required.steps,
                "claims": self.required.claims,
                "figures": self.required.figures,
            },
            "notes": self.notes,
            "problems": self.problems,
        })
    }
}

/// What a claim shows, and what bears it out.
fn write_claim(out: &mut String, claim: &Believed, style: Style) -> std::fmt::Result {
    let outcome = if claim.doubts.is_empty() {
        Outcome::Pass
    } else {
        Outcome::Fail
    };
    let mut seen = counted(claim.witnessed, "trial");
    if claim.refusals > 0 {
        seen.push_str(", ");
        seen.push_str(&counted(claim.refusals, "refusal"));
        seen.push_str(" in QEMU's trace");
    }
    writeln!(
        out,
        " {} guest: {:21} {} ({seen})",
        mark(outcome, style),
        claim.id,
        meaning(&claim.id),
    )
}

/// What QEMU's trace shows of the hostile guest's device.
fn write_neighbour(out: &mut String, neighbour: &Neighbour, style: Style) -> std::fmt::Result {
    let is_fine = neighbour.problems.is_empty() && neighbour.idle().is_empty();
    let outcome = if is_fine {
        Outcome::Pass
    } else {
        Outcome::Fail
    };
    writeln!(
        out,
        " {} hostile guest: its device    reached {} in QEMU's trace, each its own guest's, and was refused elsewhere ({})",
        mark(outcome, style),
        counted(neighbour.reached, "page"),
        counted(neighbour.refused, "recorded refusal"),
    )
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "fail",
        Outcome::Skip => "skip",
    }
}

fn mark(outcome: Outcome, style: Style) -> String {
    match outcome {
        Outcome::Pass => style.paint("32", "✓"),
        Outcome::Fail => style.paint("31", "✗"),
        Outcome::Skip => style.paint("33", "-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::evidence_of;
    use crate::qemu::{Abilities, Mode, Version};

    fn summary(report: &[&str], trace: &[&str]) -> Summary {
        let qemu = Qemu {
            program: "qemu".into(),
            version: Version::OLDEST,
            abilities: Abilities::of(&[], &[]),
        };
        let setup = Setup {
            mode: Mode::Legacy,
            guest: None,
            seed: 7,
            address_width: None,
            caching_mode: false,
            cpus: 1,
            append: None,
            dmar: None,
            next: false,
            hostile: true,
            extra: Vec::new(),
            gdb: false,
        };
        super::super::judge(&evidence_of(report, trace), &setup, &qemu)
    }

    #[test]
    fn a_figure_that_differs_is_crossed_and_makes_the_run_fail() {
        let summary = summary(
            &[
                "chosen mode=legacy guest=svm",
                "figure descriptors 2",
                "exit ok",
            ],
            &["vtd_inv_qi_head read head 0"],
        );
        assert!(!summary.held());
        let text = summary.show(Style::Plain);
        assert!(text.contains("✗ descriptors "), "{text}");
        assert!(
            text.contains("descriptors: we counted 2 and QEMU 1"),
            "{text}"
        );
        assert_eq!(summary.json()["figures"]["descriptors"]["qemu"], 1);
        assert_eq!(summary.json()["held"], false);
    }

    #[test]
    fn steps_and_claims_are_shown_with_their_marks() {
        let summary = summary(
            &[
                "chosen mode=legacy guest=svm",
                "step pass units 1 unit at 0xfed90000",
                "claim pass copy all bytes arrived",
                "exit ok",
            ],
            &[],
        );
        let text = summary.show(Style::Plain);
        assert!(text.contains("✓ units "), "{text}");
        assert!(text.contains("✗ guest: copy "), "{text}");
        assert!(
            text.contains("claim copy: the hypervisor saw nothing of it"),
            "{text}"
        );
    }
}
