//! Descriptors: good ones, and one that is not, after which the queue must go on.

use fastrand::Rng;

use super::dma::Dma;
use super::{Card, Draft};
use crate::bench::Rig;
use crate::case::{Case, Descriptor, Mode, Step};
use crate::entries::{DescriptorAddress, DescriptorLow};

const CONTEXT_CACHE: u8 = 1;
const IOTLB: u8 = 2;
const INTERRUPT_ENTRIES: u8 = 4;
const PASID_IOTLB: u8 = 6;
const PASID_CACHE: u8 = 7;

pub(super) fn cards() -> Vec<Card> {
    [(Mode::Legacy, 100), (Mode::Second, 90), (Mode::First, 97)]
        .into_iter()
        .map(|(mode, count)| Card {
            count,
            mode,
            intent: "descriptors",
            make: descriptors,
        })
        .collect()
}

/// A request, a run of descriptors, and the request again.
fn descriptors(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    let dma = Dma::draw(rng, draft)?;
    let request = Step::Dma {
        device: draft.device,
        write: dma.write,
        address: dma.address,
    };
    let mut queue: Vec<Descriptor> = (0..rng.u8(1..4)).map(|_| good(rng, draft.rig)).collect();
    if rng.u8(..3) > 0 {
        let at = rng.usize(..=queue.len());
        queue.insert(at, bad(rng, draft.rig));
    }
    let steps = vec![request.clone(), Step::Invalidate(queue), request];
    Some(dma.case(draft, steps))
}

/// A descriptor that is executed; it invalidates something or other.
pub(super) fn good(rng: &mut Rng, rig: Rig) -> Descriptor {
    let domain = rng.u16(..);
    let low = DescriptorLow::new().with_domain(domain);
    let address = DescriptorAddress::new()
        .with_mask(rng.u8(..=18))
        .with_hint(rng.bool())
        .with_page(rng.u64(..1 << 36));
    let kinds = match rig {
        Rig::Legacy { .. } => 4,
        Rig::Second { .. } => 5,
        Rig::First => 6,
    };
    match rng.u8(..kinds) {
        0 => {
            let granularity = rng.u8(1..4);
            let source = if granularity == 3 {
                rng.u32(..1 << 18)
            } else {
                0
            };
            let low = low
                .with_kind(CONTEXT_CACHE)
                .with_granularity(granularity)
                .with_upper(source);
            [low.into(), 0, 0, 0]
        }
        1 => {
            let granularity = rng.u8(1..4);
            let low = low.with_kind(IOTLB).with_granularity(granularity);
            let address = if granularity == 3 { address.into() } else { 0 };
            [low.into(), address, 0, 0]
        }
        2 => {
            let low = DescriptorLow::new()
                .with_kind(INTERRUPT_ENTRIES)
                .with_granularity(1)
                .with_upper(rng.u32(..0x100));
            [low.into(), 0, 0, 0]
        }
        3 => [0x12, 0, 0, 0],
        4 => {
            // Of a domain, of a PASID, or all.
            let low = low
                .with_kind(PASID_CACHE)
                .with_granularity([0, 1, 3][rng.usize(..3)])
                .with_upper(rng.u32(..1 << 20));
            [low.into(), 0, 0, 0]
        }
        _ => {
            let granularity = rng.u8(2..4);
            let low = low
                .with_kind(PASID_IOTLB)
                .with_granularity(granularity)
                .with_upper(rng.u32(..1 << 20));
            let address = if granularity == 3 { address.into() } else { 0 };
            [low.into(), address, 0, 0]
        }
    }
}

/// A descriptor at which the queue stops.
fn bad(rng: &mut Rng, rig: Rig) -> Descriptor {
    let wide = rig.is_scalable();
    let low = |kind, granularity| {
        DescriptorLow::new()
            .with_kind(kind)
            .with_granularity(granularity)
    };
    let too_large = DescriptorAddress::new().with_mask(rng.u8(19..64));
    match rng.u8(..7) {
        // Types that nobody knows.
        0 => [u64::from([0_u8, 10, 11, 12, 15][rng.usize(..5)]), 0, 0, 0],
        1 => [low(CONTEXT_CACHE, 0).into(), 0, 0, 0],
        2 => [low(IOTLB, 0).into(), 0, 0, 0],
        3 => [low(IOTLB, 3).into(), too_large.into(), 0, 0],
        4 => [low(CONTEXT_CACHE, 1).into(), 1 << rng.u32(..64), 0, 0],
        5 => [low(IOTLB, 1).with_upper(1 << rng.u32(..32)).into(), 0, 0, 0],
        _ if wide => {
            let mut words = [low(IOTLB, 1).into(), 0, 0, 0];
            words[rng.usize(2..4)] = 1 << rng.u32(..64);
            words
        }
        _ => {
            let address = DescriptorAddress::new().with_reserved(1 << rng.u8(..5));
            [low(IOTLB, 3).into(), address.into(), 0, 0]
        }
    }
}
