//! One case on both sides.

use crate::answer::{Answer, Seen};
use crate::bench::Emulator;
use crate::case::{Case, Step};
use crate::hardware::{Hardware, Told};
use crate::qtest::{Board, Dead};
use crate::rules::{RULES, View};

/// How a step came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// QEMU did what the model says.
    Agrees,
    /// QEMU did what a rule says; its place among the rules.
    Explained(usize),
    /// QEMU did something else.
    Differs(Difference),
}

/// A step on which nobody predicted QEMU's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Difference {
    /// The step's number.
    pub(crate) step: usize,
    /// Answers that the model allows, or the one that a rule predicts.
    pub(crate) expected: String,
    /// What QEMU did.
    pub(crate) seen: String,
}

/// A case's outcome.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Verdict {
    /// Reasons that were recorded.
    pub(crate) reasons: Vec<u8>,
    /// The last request got through.
    pub(crate) translates: bool,
    /// Rules that were needed.
    pub(crate) rules: Vec<usize>,
    /// The first step that nobody predicted.
    pub(crate) difference: Option<Difference>,
}

/// Runs a case on the model and on QEMU.
pub(crate) fn compare(
    emulator: &Emulator,
    board: &mut Board<'_>,
    case: &Case,
) -> Result<Verdict, Dead> {
    let told = match tell(emulator, case) {
        Ok(told) => told,
        Err(complaint) => {
            return Ok(Verdict {
                difference: Some(Difference {
                    step: 0,
                    expected: complaint,
                    seen: "not asked".to_owned(),
                }),
                ..Verdict::default()
            });
        }
    };
    let seen = board.run(case, &told)?;
    Ok(judge(emulator, case, &told, &seen))
}

/// What the model says of every step.
pub(crate) fn tell(emulator: &Emulator, case: &Case) -> Result<Vec<Option<Told>>, String> {
    let mut hardware = Hardware::new(emulator, case)?;
    Ok(case.steps.iter().map(|step| hardware.step(step)).collect())
}

fn judge(
    emulator: &Emulator,
    case: &Case,
    told: &[Option<Told>],
    seen: &[Option<Seen>],
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut before: Vec<(&Step, Option<&Seen>)> = Vec::new();
    for (number, step) in case.steps.iter().enumerate() {
        let seen = seen[number].as_ref();
        if let (Some(told), Some(seen)) = (&told[number], seen) {
            let view = View {
                emulator,
                case,
                number,
                step,
                told,
                before: &before,
            };
            match weigh(&view, number, seen) {
                Outcome::Agrees => {}
                Outcome::Explained(rule) => verdict.rules.push(rule),
                Outcome::Differs(difference) => {
                    verdict.difference = Some(difference);
                    break;
                }
            }
            if let Seen::Answer(answer) = seen {
                verdict.reasons.extend(answer.reason());
                if matches!(step, Step::Dma { .. } | Step::Interrupt { .. }) {
                    verdict.translates = answer.translates();
                }
            }
        }
        before.push((step, seen));
    }
    verdict.reasons.sort_unstable();
    verdict.reasons.dedup();
    verdict.rules.sort_unstable();
    verdict.rules.dedup();
    verdict
}

fn weigh(view: &View<'_>, step: usize, seen: &Seen) -> Outcome {
    let predicted = RULES
        .iter()
        .enumerate()
        .find_map(|(at, rule)| Some((at, (rule.predict)(view)?)));
    let allowed = |answer: &Answer| view.told.answers.contains(answer);
    let differs = |expected| {
        Outcome::Differs(Difference {
            step,
            expected,
            seen: seen.to_string(),
        })
    };
    match (predicted, seen) {
        (Some((rule, answer)), Seen::Answer(found)) if answer == *found => {
            if allowed(found) {
                Outcome::Agrees
            } else {
                Outcome::Explained(rule)
            }
        }
        (Some((rule, answer)), _) => differs(format!("{} predicts: {answer}", RULES[rule].name)),
        (None, Seen::Answer(found)) if allowed(found) => Outcome::Agrees,
        (None, _) => {
            let answers: Vec<String> = view.told.answers.iter().map(ToString::to_string).collect();
            let conditions: Vec<String> = view
                .told
                .conditions
                .iter()
                .map(ToString::to_string)
                .collect();
            differs(format!(
                "the model allows: {} (conditions: {})",
                answers.join("; or "),
                conditions.join(", ")
            ))
        }
    }
}
