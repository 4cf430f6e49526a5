//! Descriptors that QEMU takes otherwise.

use super::{Kind, Rule, View};
use crate::answer::Answer;
use crate::case::{Descriptor, Step};
use crate::entries::DescriptorLow;

const WAIT: u8 = 5;
const DEVICE_TLB_KIND: u8 = 3;
const PASID_CACHE: u8 = 7;

/// The descriptor at which the model stops, and those after it.
fn stopped_at<'a>(view: &View<'a>) -> Option<(usize, &'a [Descriptor])> {
    let Step::Invalidate(queue) = view.step else {
        return None;
    };
    match view.told.answers[..] {
        [Answer::Stopped(at)] => Some((at as usize, queue)),
        _ => None,
    }
}

fn kind(words: &Descriptor) -> u8 {
    DescriptorLow::from(words[0]).kind()
}

/// QEMU goes on; the queue holds one such descriptor at most, and no other bad one.
fn passes(view: &View<'_>, accepted: fn(&Descriptor) -> bool) -> Option<Answer> {
    let (at, queue) = stopped_at(view)?;
    accepted(queue.get(at)?).then_some(Answer::Done)
}

pub(super) const DEVICE_TLB: Rule = Rule {
    name: "device-tlb",
    kind: Kind::Bug,
    reason: "device-TLB descriptors are no type of a unit without DT (§6.5.2.5); QEMU executes them",
    predict: |view| passes(view, |words| kind(words) == DEVICE_TLB_KIND),
};

pub(super) const RESERVED_OF_PASID_CACHE: Rule = Rule {
    name: "reserved-of-pasid-cache",
    kind: Kind::Bug,
    reason: "reserved bits of a PASID-cache descriptor stop the queue (§6.5.2.2); QEMU 10.0 does not look at it",
    predict: |view| {
        if view.emulator.is_recent {
            return None;
        }
        passes(view, |words| kind(words) == PASID_CACHE)
    },
};

pub(super) const WAIT_WITHOUT_EFFECT: Rule = Rule {
    name: "wait-without-effect",
    kind: Kind::Bug,
    reason: "a wait with neither SW nor IF is a barrier (§6.5.2.9); QEMU 10.0 stops at it",
    predict: |view| {
        const EFFECTS: u64 = 0x30;
        let Step::Invalidate(queue) = view.step else {
            return None;
        };
        let at = queue
            .iter()
            .position(|words| kind(words) == WAIT && words[0] & EFFECTS == 0)?;
        let done = view.told.answers == [Answer::Done] && !view.emulator.is_recent;
        done.then_some(Answer::Stopped(at as u32))
    },
};
