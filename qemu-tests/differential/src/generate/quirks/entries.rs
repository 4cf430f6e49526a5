//! Paging entries, and what is decided around them.

use fastrand::Rng;

use crate::bench::ROM_TABLE;
use crate::case::Case;
use crate::entries::{First, PasidDomain, PasidLow, Second};
use crate::generate::Draft;
use crate::generate::dma;
use crate::generate::entries::reserved_bit;
use crate::generate::tables::{Stage, hole, leaf, link};

pub(super) fn right_above_fault(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        dma.write |= dma.place.stage == Stage::First;
        let (at, level) = dma.some_entry(rng)?;
        let is_leaf = level == dma.leaf_level;
        // The entry's own reserved bit, or a table below that is not there.
        if is_leaf || rng.bool() {
            let bit = reserved_bit(rng, dma, level, draft);
            dma.tables.change(at, |word| word | 1 << bit);
        } else {
            let table = hole(rng);
            dma.tables.set(at, link(dma.place.stage, table));
        }
        dma.refuse(at);
        Some(())
    })
}

pub(super) fn all_ones(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let (at, _) = dma.some_entry(rng)?;
        dma.tables.set(at, u64::MAX);
        Some(())
    })
}

pub(super) fn narrow_first_stage(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let (_, entry) = dma.place.pasid?;
        let width = rng.u8(..2);
        dma.tables
            .change(entry, |word| PasidLow::from(word).with_width(width).into());
        Some(())
    })
}

pub(super) fn far_beyond(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        dma.address |= 1 << rng.u32(u32::from(draft.rig.bits())..64);
        Some(())
    })
}

pub(super) fn pass_through_beyond(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        dma.address |= 1 << rng.u32(u32::from(draft.rig.bits())..63);
        Some(())
    })
}

pub(super) fn around_interrupts(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    const MEGABYTE: u64 = 1 << 20;
    dma::with(rng, draft, |dma, _| {
        let target = match dma.leaf_level {
            2 => 0xfee0_0000,
            3 => 0xc000_0000,
            _ => return None,
        };
        dma.tables
            .set(dma.leaf_at, leaf(dma.place.stage, dma.leaf_level, target));
        // Outside of the range itself: in its large page's second half.
        dma.address |= MEGABYTE;
        (dma.address >> 20 != 0xfee && (dma.address & 0x3fff_ffff | 0xc000_0000) >> 20 != 0xfee)
            .then_some(())
    })
}

pub(super) fn unsnooped(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let (_, entry) = dma.place.pasid?;
        dma.tables.change(entry + 8, |word| {
            PasidDomain::from(word).with_walk_snoop(false).into()
        });
        let (at, _) = dma.some_entry(rng)?;
        dma.tables
            .change(at, |word| First::from(word).with_accessed(false).into());
        Some(())
    })
}

/// A request by a walk that does not snoop, to a leaf that has D alone: a read adds A.
pub(super) fn one_flag_unsnooped(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, _| {
        let (_, entry) = dma.place.pasid?;
        dma.tables.change(entry + 8, |word| {
            PasidDomain::from(word).with_walk_snoop(false).into()
        });
        dma.tables.change(dma.leaf_at, |word| {
            let leaf = First::from(word).with_accessed(false);
            leaf.with_dirty(true).into()
        });
        Some(())
    })
}

pub(super) fn one_flag(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let at = dma.tables.entry(rng, &dma.place, dma.address, 2)?;
        dma.tables.set(at, link(Stage::First, ROM_TABLE));
        dma.write = true;
        matches!(dma.address >> 12 & 3, 2 | 3).then_some(())
    })
}

pub(super) fn snoop_bit(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, _| {
        dma.tables.change(dma.leaf_at, |word| {
            Second::from(word).with_snoop(true).into()
        });
        Some(())
    })
}

pub(super) fn one_flag_in_ram(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, _| {
        dma.write = true;
        dma.tables.change(dma.leaf_at, |word| {
            First::from(word).with_dirty(false).into()
        });
        Some(())
    })
}
