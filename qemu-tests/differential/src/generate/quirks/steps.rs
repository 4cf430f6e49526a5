//! Descriptors, and what is remembered from one request to the next.

use fastrand::Rng;

use crate::bench::Rig;
use crate::case::{Case, Descriptor, Device, Step};
use crate::entries::{PasidLow, Second};
use crate::generate::Draft;
use crate::generate::dma::Dma;

fn queue(rng: &mut Rng, draft: &Draft, words: Descriptor) -> Option<Case> {
    let dma = Dma::draw(rng, draft)?;
    Some(dma.case(draft, vec![Step::Invalidate(vec![words])]))
}

pub(super) fn device_tlb(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    const DEVICE_TLB: u64 = 3;
    let source = u64::from(draft.device.source());
    queue(rng, draft, [source << 32 | DEVICE_TLB, 0x1000, 0, 0])
}

pub(super) fn pasid_cache(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    const PASID_CACHE: u64 = 0x37;
    let word = 1 << rng.u32(..64);
    queue(rng, draft, [PASID_CACHE, word, 0, 0])
}

pub(super) fn wait_without_effect(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    const FENCE: u64 = 0x40;
    const WAIT: u64 = 5;
    queue(rng, draft, [FENCE | WAIT, 0, 0, 0])
}

/// A page is read, and then written without the right to.
pub(super) fn denied_hit(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    if draft.device == Device::Tester {
        return None;
    }
    let mut dma = Dma::draw(rng, draft)?;
    dma.tables.change(dma.leaf_at, |word| {
        Second::from(word).with_write(false).into()
    });
    let steps = [false, true]
        .map(|write| Step::Dma {
            device: draft.device,
            write,
            address: dma.address,
        })
        .to_vec();
    Some(dma.case(draft, steps))
}

/// P of a PASID entry is cleared, and all but the context cache invalidated.
pub(super) fn present_bit(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    detach(rng, draft, |word| word & !1)
}

/// A pass-through entry becomes another, and all but the context cache is invalidated.
pub(super) fn pass_through_ends(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    detach(rng, draft, |word| PasidLow::from(word).with_kind(0).into())
}

fn detach(rng: &mut Rng, draft: &Draft, change: fn(u64) -> u64) -> Option<Case> {
    const PASID_CACHE: Descriptor = [0x37, 0, 0, 0];
    const IOTLB: Descriptor = [0x12, 0, 0, 0];
    if draft.rig
        == (Rig::Legacy {
            bits: draft.rig.bits(),
        })
    {
        return None;
    }
    let dma = Dma::draw(rng, draft)?;
    let (_, at) = dma.place.pasid?;
    let request = Step::Dma {
        device: draft.device,
        write: dma.write,
        address: dma.address,
    };
    let value = change(dma.tables.get(at));
    let steps = vec![
        request.clone(),
        Step::Store { at, value },
        Step::Invalidate(vec![PASID_CACHE, IOTLB]),
        request,
    ];
    Some(dma.case(draft, steps))
}
