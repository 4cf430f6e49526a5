//! Sequences of changes, invalidations right and too narrow, and requests.

use fastrand::Rng;

use super::Card;
use super::Draft;
use super::dma::Dma;
use super::queue::good;
use super::tables::{Stage, leaf};
use crate::bench::Rig;
use crate::case::{Case, Descriptor, Mode, Step};
use crate::entries::{DescriptorAddress, DescriptorLow, First, PasidLow, Second, page};

pub(super) fn cards() -> Vec<Card> {
    [
        (Mode::Legacy, 300),
        (Mode::PassThrough, 150),
        (Mode::Second, 250),
        (Mode::First, 330),
        (Mode::RidPasid, 130),
    ]
    .into_iter()
    .map(|(mode, count)| Card {
        count,
        mode,
        intent: "changes and invalidations",
        make: sequence,
    })
    .collect()
}

/// What changes between two requests.
fn sequence(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    let mut dma = Dma::draw(rng, draft)?;
    let other = dma.tables.target(rng, 12);
    let request = Step::Dma {
        device: draft.device,
        write: dma.write,
        address: dma.address,
    };
    // Another address of the same page, which a narrow invalidation may leave behind.
    let shift = 12 + 9 * u32::from(dma.leaf_level.max(1) - 1);
    let beside = Step::Dma {
        device: draft.device,
        write: dma.write,
        address: dma.address ^ 4 << rng.u32(..shift - 2),
    };
    let mut steps = vec![request.clone()];
    for _ in 0..rng.u8(1..5) {
        let (at, value) = change(rng, &mut dma, other)?;
        steps.push(Step::Store { at, value });
        let descriptors = invalidation(rng, draft, &dma);
        if !descriptors.is_empty() {
            steps.push(Step::Invalidate(descriptors));
        }
        if rng.u8(..3) == 0 {
            steps.push(beside.clone());
        }
        steps.push(request.clone());
    }
    Some(dma.case(draft, steps))
}

/// A store that changes what the request comes to; the generator's own tables follow.
fn change(rng: &mut Rng, dma: &mut Dma, other: u64) -> Option<(u64, u64)> {
    let stage = dma.place.stage;
    let context_only = dma.leaf_level == 0;
    let (at, value) = match rng.u8(..if context_only { 2 } else { 8 }) {
        0 => toggle_attachment(rng, dma),
        1 if !context_only => {
            let (at, _) = dma.some_entry(rng)?;
            (at, toggled_entry(dma, at))
        }
        1 => return None,
        2 if dma.leaf_level == 1 => (dma.leaf_at, toggled_entry(dma, dma.leaf_at)),
        3 => (dma.leaf_at, toggled_entry(dma, dma.leaf_at)),
        // Another page, whatever the leaf was.
        _ if dma.leaf_level == 1 => (dma.leaf_at, leaf(stage, 1, other)),
        _ => {
            let shift = 12 + 9 * u32::from(dma.leaf_level - 1);
            let target = dma.tables.target(rng, shift);
            let cell = target | dma.address & ((1 << shift) - 1);
            if dma.tables.tables.contains(&(cell & !0xfff)) || cell < crate::bench::POOL.start {
                return None;
            }
            (dma.leaf_at, leaf(stage, dma.leaf_level, target))
        }
    };
    dma.now.insert(at, value);
    Some((at, value))
}

/// Present becomes absent, and absent what it was at first.
fn toggled_entry(dma: &Dma, at: u64) -> u64 {
    let now = dma.current(at);
    let is_present = match dma.place.stage {
        Stage::First => First::from(now).present(),
        Stage::Second => Second::from(now).read() || Second::from(now).write(),
    };
    if is_present { 0 } else { dma.tables.get(at) }
}

/// The context entry, or the PASID entry with its context entry forgotten too.
fn toggle_attachment(rng: &mut Rng, dma: &Dma) -> (u64, u64) {
    let at = match dma.place.pasid {
        // QEMU does not look at P of a PASID entry while it knows the context entry, and
        // looks at its type before P: an entry that goes, goes whole.
        Some((_, entry)) if rng.bool() => entry,
        _ => dma.place.context,
    };
    let now = dma.current(at);
    let is_pasid = dma.place.pasid.is_some_and(|(_, entry)| entry == at);
    let gone = if is_pasid {
        PasidLow::from(now).with_kind(0).into()
    } else {
        now & !1
    };
    let there = dma.tables.get(at);
    (at, if now == there { gone } else { there })
}

/// Enough, too little, or nothing.
fn invalidation(rng: &mut Rng, draft: &Draft, dma: &Dma) -> Vec<Descriptor> {
    match rng.u8(..8) {
        0 | 1 => Vec::new(),
        2 => vec![good(rng, draft.rig)],
        3 => {
            let wrong = dma.place.domain ^ 1 << rng.u32(..16);
            vec![by_page(rng, draft, dma, wrong, dma.address)]
        }
        4 => {
            let elsewhere = dma.address ^ 1 << rng.u32(31..38);
            vec![by_page(rng, draft, dma, dma.place.domain, elsewhere)]
        }
        5 => vec![by_page(rng, draft, dma, dma.place.domain, dma.address)],
        6 => vec![by_domain(rng, draft, dma)],
        _ => crate::hardware::forget_all(draft.rig),
    }
}

fn by_page(rng: &mut Rng, draft: &Draft, dma: &Dma, domain: u16, address: u64) -> Descriptor {
    // Enough to cover the page, and sometimes more.
    let least = 9 * dma.leaf_level.saturating_sub(1);
    let address = DescriptorAddress::new()
        .with_mask(rng.u8(least..=18))
        .with_page(page(address));
    let low = DescriptorLow::new().with_domain(domain).with_granularity(3);
    if draft.rig == Rig::First && rng.bool() {
        let low = low.with_kind(6).with_upper(dma.place.rid_pasid);
        [low.into(), address.into(), 0, 0]
    } else {
        [low.with_kind(2).into(), address.into(), 0, 0]
    }
}

fn by_domain(rng: &mut Rng, draft: &Draft, dma: &Dma) -> Descriptor {
    let low = DescriptorLow::new()
        .with_domain(dma.place.domain)
        .with_granularity(2);
    if draft.rig == Rig::First && rng.bool() {
        let low = low.with_kind(6).with_upper(dma.place.rid_pasid);
        [low.into(), 0, 0, 0]
    } else {
        [low.with_kind(2).into(), 0, 0, 0]
    }
}
