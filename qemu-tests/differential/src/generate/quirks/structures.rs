//! Root, context and PASID entries.

use fastrand::Rng;

use crate::case::Case;
use crate::entries::{PasidLow, RidPasid, ScalableContext};
use crate::generate::Draft;
use crate::generate::dma;
use crate::generate::structures::spoil_context;

pub(super) fn other_half(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let at = dma.place.root_entry ^ 8;
        dma.tables.set(at, 1 << rng.u32(1..12));
        Some(())
    })
}

pub(super) fn pass_through_pointer(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    if draft.rig.is_scalable() {
        return None;
    }
    dma::with(rng, draft, |dma, rng| {
        let bit = rng.u32(u32::from(draft.rig.bits())..64);
        dma.tables.change(dma.place.context, |word| word | 1 << bit);
        Some(())
    })
}

pub(super) fn context_flags(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let at = dma.place.context;
        match rng.u8(..4) {
            0 => dma.tables.change(at, |word| {
                ScalableContext::from(word).with_device_tlb(true).into()
            }),
            1 => dma.tables.change(at, |word| {
                ScalableContext::from(word).with_pasid_enable(true).into()
            }),
            2 => dma.tables.change(at, |word| {
                ScalableContext::from(word).with_page_requests(true).into()
            }),
            // RID_PRIV.
            _ => dma
                .tables
                .change(at + 8, |word| RidPasid::from(word).with_rest(1).into()),
        }
        Some(())
    })
}

pub(super) fn directory_size(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, _| {
        dma.tables.change(dma.place.context, |word| {
            ScalableContext::from(word).with_directory_size(0).into()
        });
        (draft.rid_pasid == 0 || draft.rid_pasid >> 13 != 0).then_some(())
    })
}

pub(super) fn directory_reserved(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let (directory, _) = dma.place.pasid?;
        let bit = rng.u32(2..12);
        dma.tables.change(directory, |word| word | 1 << bit);
        Some(())
    })
}

pub(super) fn pasid_zero(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, _| {
        let (_, entry) = dma.place.pasid?;
        for word in 0..3 {
            dma.tables.set(entry + 8 * word, 0);
        }
        Some(())
    })
}

pub(super) fn pasid_silent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        const FAULT_DISABLE: u64 = 2;
        let (directory, entry) = dma.place.pasid?;
        if rng.bool() {
            dma.tables.change(directory, |word| word | FAULT_DISABLE);
            dma.tables.change(entry, |word| word & !1);
        } else {
            dma.tables.change(entry, |word| {
                let word = word | FAULT_DISABLE;
                PasidLow::from(word).with_kind(7).into()
            });
        }
        Some(())
    })
}

pub(super) fn pasid_reserved(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let (_, entry) = dma.place.pasid?;
        let (word, bit) = match rng.u64(..4) {
            0 => (0, [5, 10, 11][rng.usize(..3)]),
            1 => (1, rng.u32(16..23)),
            2 => (2, 1),
            _ => (rng.u64(3..8), rng.u32(..64)),
        };
        dma.tables.change(entry + 8 * word, |word| word | 1 << bit);
        Some(())
    })
}

pub(super) fn other_stage(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, _| {
        let (_, entry) = dma.place.pasid?;
        dma.tables
            .change(entry, |word| PasidLow::from(word).with_kind(2).into());
        Some(())
    })
}

pub(super) fn context_silent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        const FAULT_DISABLE: u64 = 2;
        spoil_context(rng, draft, dma);
        dma.tables
            .change(dma.place.context, |word| word | FAULT_DISABLE);
        Some(())
    })
}
