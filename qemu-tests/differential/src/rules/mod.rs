//! Where QEMU is known to differ: each rule says when, why, and exactly what it does.

mod caches;
mod interrupts;
mod queue;
mod structures;
mod walk;

use std::collections::BTreeMap;

use vtd_model::Condition;

use crate::answer::{Answer, Record, Seen};
use crate::bench::Emulator;
use crate::case::{Case, Step};
use crate::codes;
use crate::entries::PasidLow;
use crate::hardware::Told;
use crate::verdict;

/// Whose matter a difference is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A bug of QEMU's.
    Bug,
    /// The specification leaves it open.
    Freedom,
    /// The model does not go so far.
    Limit,
}

impl Kind {
    /// A letter for tables.
    pub fn letter(self) -> char {
        match self {
            Self::Bug => 'B',
            Self::Freedom => 'F',
            Self::Limit => 'M',
        }
    }
}

/// Which QEMUs a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Versions {
    /// 10.0 and 11.1.
    Both,
    /// 10.0.
    Old,
}

/// One way in which QEMU differs.
pub struct Rule {
    /// Its name, as it is printed.
    pub name: &'static str,
    /// Whose matter it is.
    pub kind: Kind,
    /// Which QEMUs do so.
    pub versions: Versions,
    /// Why, with the section of the specification.
    pub reason: &'static str,
    /// QEMU's answer, where the rule applies.
    pub(crate) predict: fn(&View<'_>) -> Option<Answer>,
}

/// What a rule sees of a step.
pub(crate) struct View<'a> {
    pub(crate) emulator: &'a Emulator,
    pub(crate) case: &'a Case,
    pub(crate) number: usize,
    pub(crate) step: &'a Step,
    pub(crate) told: &'a Told,
    /// Steps before this one, with what QEMU gave.
    pub(crate) before: &'a [(&'a Step, Option<&'a Seen>)],
}

/// All of them; the first that applies counts.
pub const RULES: &[Rule] = &[
    caches::DENIED_HIT,
    caches::PRESENT_BIT_OF_PASID,
    caches::PASS_THROUGH_STAYS,
    structures::OTHER_HALF_OF_ROOT,
    structures::POINTER_OF_PASS_THROUGH,
    structures::CONTEXT_RESERVED_SPEAKS,
    structures::CONTEXT_FLAGS,
    structures::DIRECTORY_SIZE,
    structures::DIRECTORY_RESERVED,
    structures::TYPE_BEFORE_PRESENT,
    structures::PASID_FAULT_DISABLE,
    structures::PASID_RESERVED,
    structures::FIRST_STAGE_TYPE,
    walk::ALL_ONES,
    walk::FIRST_STAGE_WIDTH,
    walk::UNCUT_ADDRESS,
    walk::PASS_THROUGH_LIMIT,
    walk::ORDER_OF_CHECKS,
    walk::WHOLE_LARGE_PAGE,
    walk::SNOOP_BIT,
    walk::UNSNOOPED_FLAGS,
    walk::ANY_FLAG_IS_ENOUGH,
    interrupts::COMPATIBILITY,
    interrupts::SHORT_INDEX,
    interrupts::NO_SOURCE,
    interrupts::BUS_RANGE,
    interrupts::RESERVED_BEFORE_SOURCE,
    interrupts::RESERVED_CHECK,
    interrupts::UNCHECKED_FIELDS,
    interrupts::POSTED_AS_REMAPPED,
    queue::DEVICE_TLB,
    queue::RESERVED_OF_PASID_CACHE,
    queue::WAIT_WITHOUT_EFFECT,
];

impl Rule {
    /// Whether it is about this QEMU.
    pub fn is_about(&self, emulator: &Emulator) -> bool {
        self.versions == Versions::Both || !emulator.is_recent
    }
}

impl View<'_> {
    /// Source, address and direction of a DMA.
    pub(crate) fn dma(&self) -> Option<(u16, u64, bool)> {
        match *self.step {
            Step::Dma {
                device,
                write,
                address,
            } => Some((device.source(), address, write)),
            _ => None,
        }
    }

    /// Whether tables are as at the start, and nothing is cached that another request left.
    pub(crate) fn is_fresh(&self) -> bool {
        self.before.iter().all(|(step, seen)| {
            let passed = matches!(seen, Some(Seen::Answer(Answer::Memory(_))));
            matches!(step, Step::Dma { .. }) && (!passed || *step == self.step)
        })
    }

    /// Whether this is the one condition that the model sees.
    pub(crate) fn is_only(&self, conditions: &[Condition]) -> bool {
        matches!(&self.told.conditions[..], [one] if conditions.contains(one))
            && self.told.answers.len() <= 1
    }

    /// FPD of the context entry.
    pub(crate) fn context_silences(&self) -> bool {
        self.told
            .walk
            .context
            .is_some_and(|words| words[0] & 2 != 0)
    }

    /// FPD of any entry on the way.
    pub(crate) fn silences(&self) -> bool {
        let walk = &self.told.walk;
        self.context_silences()
            || walk.directory.is_some_and(|word| word & 2 != 0)
            || walk
                .pasid_entry
                .is_some_and(|words| PasidLow::from(words[0]).fault_disable())
    }

    /// The fault that QEMU records for this DMA, unless it is to be silent.
    pub(crate) fn fault(&self, reason: u8, silent: bool) -> Option<Answer> {
        let (source, address, write) = self.dma()?;
        let pasid =
            codes::pasid_of_record(self.emulator, self.case.rig, reason, self.told.walk.pasid);
        Some(Answer::Blocked((!silent).then_some(Record {
            reason,
            source,
            info: address & !0xfff,
            read: !write,
            pasid,
        })))
    }

    /// What the model says of this step if the case's first words are other ones; the rule's
    /// prediction where QEMU ignores what the change takes away.
    pub(crate) fn retold(&self, change: impl FnOnce(&mut Case)) -> Option<Answer> {
        let mut case = self.case.clone();
        change(&mut case);
        case.steps.truncate(self.number + 1);
        let told = verdict::tell(self.emulator, &case).ok()?.steps;
        match &told.last()?.as_ref()?.answers[..] {
            [answer] => Some(*answer),
            _ => None,
        }
    }
}

/// Words of tables that rules say QEMU leaves otherwise than the model, which has `model`
/// there; with the rule's place. `used` are rules that the case's requests needed.
pub(crate) fn predict_tables(
    emulator: &Emulator,
    case: &Case,
    used: &[usize],
    model: &BTreeMap<u64, u64>,
) -> BTreeMap<u64, (usize, u64)> {
    let mut predicted = BTreeMap::new();
    let left = model
        .iter()
        .filter_map(|(&at, &word)| Some((at, walk::flags_left(emulator, case, at, word)?)));
    predicted.extend(left.map(|(at, word)| (at, (place(&walk::ANY_FLAG_IS_ENOUGH), word))));
    let unsnooped = place(&walk::UNSNOOPED_FLAGS);
    if used.contains(&unsnooped) {
        let set = walk::flags_set(emulator, case);
        let words = set
            .into_iter()
            .map(|(at, word)| {
                (
                    at,
                    walk::flags_left(emulator, case, at, word).unwrap_or(word),
                )
            })
            .filter(|(at, word)| model.get(at) != Some(word));
        predicted.extend(words.map(|(at, word)| (at, (unsnooped, word))));
    }
    predicted
}

fn place(wanted: &Rule) -> usize {
    let found = RULES.iter().position(|rule| rule.name == wanted.name);
    found.unwrap_or(RULES.len())
}

/// Changes a word of a case's memory.
pub(crate) fn change(case: &mut Case, at: u64, change: impl FnOnce(u64) -> u64) {
    let word = case.memory.entry(at).or_default();
    *word = change(*word);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_rule_has_a_name_of_its_own_and_a_line_in_the_documents() {
        let document = include_str!("../../../../docs/model.md");
        let names: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(names.len(), RULES.len());
        for rule in RULES {
            let lines = document.lines().filter(|line| line.starts_with("| `"));
            let line = lines
                .filter(|line| line.contains(&format!("`{}`", rule.name)))
                .collect::<Vec<_>>();
            assert_eq!(line.len(), 1, "{}", rule.name);
            let kind = format!("| {} |", rule.kind.letter());
            assert!(line[0].ends_with(&kind), "{}", rule.name);
            assert!(
                rule.reason.contains('§') || rule.kind != Kind::Bug,
                "{}",
                rule.name
            );
        }
    }
}
