//! What QEMU remembers longer than it may, and what it forgets to say.

use vtd_model::Condition;

use super::{Kind, Rule, View};
use crate::answer::{Answer, Seen};
use crate::case::{Mode, Step};
use crate::entries::{DescriptorLow, PasidLow};

const CONTEXT_CACHE: u8 = 1;

/// Whether a request of the device got through, with nothing invalidated since.
fn is_held(view: &View<'_>, by: impl Fn(&[u64; 4]) -> bool) -> bool {
    let Some((source, ..)) = view.dma() else {
        return false;
    };
    let mut held = false;
    for (step, seen) in view.before {
        match step {
            Step::Dma { device, .. } if device.source() == source => {
                held |= matches!(seen, Some(Seen::Answer(Answer::Memory(_))));
            }
            Step::Invalidate(descriptors) => held &= !descriptors.iter().any(&by),
            _ => {}
        }
    }
    held
}

fn is_context_cache(words: &[u64; 4]) -> bool {
    DescriptorLow::from(words[0]).kind() == CONTEXT_CACHE
}

pub(super) const DENIED_HIT: Rule = Rule {
    name: "denied-hit",
    kind: Kind::Bug,
    reason: "a denied request is recorded wherever its rights came from (§7.1.3); QEMU records none that hits its IOTLB",
    predict: |view| {
        let denied = [
            Condition::Lgn2,
            Condition::Lgn3,
            Condition::Sss2,
            Condition::Sgn6,
            Condition::Sgn7,
        ];
        let applies = view.is_only(&denied) && is_held(view, |_| true);
        applies.then_some(Answer::Blocked(None))
    },
};

pub(super) const PRESENT_BIT_OF_PASID: Rule = Rule {
    name: "present-bit-of-pasid",
    kind: Kind::Bug,
    reason: "a PASID entry whose P was cleared and invalidated serves nobody (59h, §6.5.2.2); QEMU, which still knows the context entry, goes on",
    predict: |view| {
        let entry = PasidLow::from(view.told.walk.pasid_entry?[0]);
        let held = is_held(view, is_context_cache);
        if !(held && view.is_only(&[Condition::Spt2]) && !entry.present()) {
            return None;
        }
        view.before.iter().rev().find_map(|(_, seen)| match seen {
            Some(Seen::Answer(answer @ Answer::Memory(_))) => Some(*answer),
            _ => None,
        })
    },
};

pub(super) const PASS_THROUGH_STAYS: Rule = Rule {
    name: "pass-through-stays",
    kind: Kind::Bug,
    reason: "a PASID entry that is pass-through no more serves so until the PASID cache is invalidated (§6.5.2.2); QEMU 10.0 waits for the context cache",
    predict: |view| {
        let (_, address, _) = view.dma()?;
        let scalable = view.case.mode == Mode::PassThrough && view.case.rig.is_scalable();
        let changed = !view.told.answers.contains(&Answer::Memory(address));
        let held = is_held(view, is_context_cache);
        let stays = scalable && changed && held && !view.emulator.is_recent;
        stays.then_some(Answer::Memory(address))
    },
};
