//! One case on both sides.

use std::collections::BTreeMap;

use vtd_model::Freedom;

use crate::answer::{Answer, Seen};
use crate::bench::Emulator;
use crate::case::{Case, Step};
use crate::hardware::{Hardware, Told};
use crate::qtest::{Board, Dead};
use crate::rules::{self, RULES, View};

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
    /// What makes it the same difference in a smaller case: conditions of the model, and the
    /// kind of QEMU's answer.
    pub(crate) kind: String,
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
    let telling = match tell(emulator, case) {
        Ok(telling) => telling,
        Err(complaint) => {
            return Ok(Verdict {
                difference: Some(Difference {
                    step: 0,
                    expected: complaint,
                    seen: "not asked".to_owned(),
                    kind: "model".to_owned(),
                }),
                ..Verdict::default()
            });
        }
    };
    let seen = board.run(case, &telling.steps)?;
    let tables = board.tables(case)?;
    board.forget()?;
    let mut verdict = judge(emulator, case, &telling.steps, &seen);
    if verdict.difference.is_none() {
        judge_tables(emulator, case, &telling.tables, &tables, &mut verdict);
    }
    Ok(verdict)
}

/// What the model says of a case.
pub(crate) struct Telling {
    /// Of every step that has an answer.
    pub(crate) steps: Vec<Option<Told>>,
    /// What the tables hold in the end: flags are set by the walks.
    pub(crate) tables: BTreeMap<u64, u64>,
}

/// Runs a case on the model.
pub(crate) fn tell(emulator: &Emulator, case: &Case) -> Result<Telling, String> {
    let mut hardware = Hardware::new(emulator, case, Freedom::Pessimist(case.number))?;
    let steps: Vec<_> = case.steps.iter().map(|step| hardware.step(step)).collect();
    know_one_answer(case, &steps)?;
    agree_with_each_other(emulator, case, &steps)?;
    let words = case.words().into_iter();
    Ok(Telling {
        steps,
        tables: words.map(|at| (at, hardware.word(at))).collect(),
    })
}

/// As long as no table has changed there is one answer to a request, wherever the model takes
/// it from: a walk, or what its pessimist has explored before.
fn know_one_answer(case: &Case, told: &[Option<Told>]) -> Result<(), String> {
    let unchanged = case
        .steps
        .iter()
        .take_while(|step| !matches!(step, Step::Store { .. }));
    for (number, (_, told)) in unchanged.zip(told).enumerate() {
        let Some(told) = told else { continue };
        let gets_through = told.answers.iter().any(Answer::translates);
        if told.answers.len() > 1 || gets_through && !told.conditions.is_empty() {
            return Err(format!(
                "the model alone, step {number}: nothing changed, and it allows {:?}, {:?}",
                told.answers, told.conditions
            ));
        }
    }
    Ok(())
}

/// The model's random mode walks where its pessimist looks at what it has explored: what the
/// one does, the other must allow.
fn agree_with_each_other(
    emulator: &Emulator,
    case: &Case,
    allowed: &[Option<Told>],
) -> Result<(), String> {
    let mut random = Hardware::new(emulator, case, Freedom::Random(case.number))?;
    for (number, (step, allowed)) in case.steps.iter().zip(allowed).enumerate() {
        let (Some(told), Some(allowed)) = (random.step(step), allowed) else {
            continue;
        };
        let beyond = |answer: &&Answer| !allowed.answers.contains(answer);
        if let Some(answer) = told.answers.iter().find(beyond) {
            return Err(format!(
                "the model's random mode at step {number}: {answer}; its pessimist allows {:?}",
                allowed.answers
            ));
        }
    }
    Ok(())
}

/// Compares what the tables hold in the end.
fn judge_tables(
    emulator: &Emulator,
    case: &Case,
    model: &BTreeMap<u64, u64>,
    qemu: &BTreeMap<u64, u64>,
    verdict: &mut Verdict,
) {
    let predicted = rules::predict_tables(emulator, case, &verdict.rules, model);
    for (at, word) in model {
        let (rule, expected) = match predicted.get(at) {
            Some((rule, word)) => (Some(*rule), *word),
            None => (None, *word),
        };
        let found = qemu.get(at).copied().unwrap_or(0);
        if found != expected {
            verdict.difference = Some(Difference {
                step: case.steps.len(),
                expected: format!("the table at {at:#x} is to hold {expected:#x}"),
                seen: format!("{found:#x} there"),
                kind: "tables".to_owned(),
            });
            return;
        }
        verdict.rules.extend(rule);
    }
    verdict.rules.sort_unstable();
    verdict.rules.dedup();
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
        .filter(|(_, rule)| rule.is_about(view.emulator))
        .find_map(|(at, rule)| Some((at, (rule.predict)(view)?)));
    let allowed = |answer: &Answer| view.told.answers.contains(answer);
    let differs = |expected| {
        Outcome::Differs(Difference {
            step,
            expected,
            seen: seen.to_string(),
            kind: format!("{:?} {}", view.told.conditions, kind(seen)),
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

fn kind(seen: &Seen) -> String {
    match seen {
        Seen::Answer(Answer::Memory(_)) => "memory".to_owned(),
        Seen::Answer(Answer::Blocked(record)) => format!("{:x?}", record.map(|it| it.reason)),
        Seen::Answer(Answer::Delivered(_)) => "delivered".to_owned(),
        Seen::Answer(Answer::Done | Answer::Stopped(_)) => "queue".to_owned(),
        Seen::Confused(_) => "confused".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Generator;

    /// A case of the deck that was made for this, with what the model tells.
    fn case(intent: &str) -> (Emulator, Case, Telling) {
        let emulator = Emulator::nowhere(true);
        let generator = Generator::new(1);
        let case = (0..10_000)
            .map(|number| generator.case(number, &emulator))
            .find(|case| case.intent == intent)
            .expect("the deck has such a card");
        let telling = tell(&emulator, &case).expect("the model runs it");
        (emulator, case, telling)
    }

    /// The verdict if QEMU gives this to each step that has an answer.
    fn verdict(
        (emulator, case, telling): &(Emulator, Case, Telling),
        answer: impl Fn(&Told) -> Answer,
    ) -> Verdict {
        let seen: Vec<Option<Seen>> = telling
            .steps
            .iter()
            .map(|told| told.as_ref().map(|told| Seen::Answer(answer(told))))
            .collect();
        judge(emulator, case, &telling.steps, &seen)
    }

    #[test]
    fn what_the_model_says_agrees_and_anything_else_does_not() {
        let translates = case("translates");
        let right = verdict(&translates, |told| told.answers[0]);
        assert_eq!(right.difference, None);
        assert!(right.translates && right.rules.is_empty());
        let elsewhere = verdict(&translates, |_| Answer::Memory(0x1234_5678));
        assert!(elsewhere.difference.is_some());
        let blocked = verdict(&translates, |_| Answer::Blocked(None));
        assert!(blocked.difference.is_some());
    }

    #[test]
    fn a_record_of_another_page_source_or_direction_is_a_difference() {
        let denied = case("right missing");
        let changed = |change: fn(&mut crate::answer::Record)| {
            verdict(&denied, |told| match told.answers[0] {
                Answer::Blocked(Some(mut record)) => {
                    change(&mut record);
                    Answer::Blocked(Some(record))
                }
                other => other,
            })
        };
        assert_eq!(changed(|_| ()).difference, None);
        let changes: [fn(&mut crate::answer::Record); 4] = [
            |record| record.info ^= 0x1000,
            |record| record.source ^= 1,
            |record| record.read ^= true,
            |record| record.reason ^= 0x80,
        ];
        for change in changes {
            assert!(changed(change).difference.is_some());
        }
    }

    #[test]
    fn where_a_rule_applies_its_prediction_alone_counts() {
        let posted = case("posted entry");
        let (emulator, case, telling) = &posted;
        let told = telling.steps[0].as_ref().expect("an interrupt is answered");
        let view = View {
            emulator,
            case,
            number: 0,
            step: &case.steps[0],
            told,
            before: &[],
        };
        let prediction = RULES.iter().find_map(|rule| (rule.predict)(&view));
        let prediction = prediction.expect("a rule knows posted entries");
        let explained = verdict(&posted, |_| prediction);
        assert_eq!((explained.rules.len(), explained.difference), (1, None));
        // What the model says is not what QEMU was to do.
        let model = verdict(&posted, |told| told.answers[0]);
        assert!(model.difference.is_some());
    }

    #[test]
    fn a_table_that_a_walk_left_otherwise_is_a_difference() {
        let (emulator, case, telling) = case("sets flags");
        let judged = |tables: &BTreeMap<u64, u64>| {
            let mut verdict = Verdict::default();
            judge_tables(&emulator, &case, &telling.tables, tables, &mut verdict);
            verdict.difference
        };
        assert_eq!(judged(&telling.tables), None);
        assert!(judged(&case.memory).is_some(), "the flags were not set");
    }
}
