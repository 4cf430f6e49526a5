//! What paging entries make of a request.

use fastrand::Rng;

use super::Draft;
use super::dma::{Dma, with};
use super::tables::{Stage, hole, leaf, link};
use crate::bench::ROM_TABLE;
use crate::case::Case;
use crate::entries::{First, Second};

pub(super) fn translates(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        // A right that is not asked for may be missing, in the second stage either.
        if rng.bool() && dma.leaf_level > 0 {
            let (write, stage) = (dma.write, dma.place.stage);
            dma.tables.change(dma.leaf_at, |word| match stage {
                Stage::First if !write => First::from(word).with_write(false).into(),
                Stage::Second if write => Second::from(word).with_read(false).into(),
                Stage::Second => Second::from(word).with_write(false).into(),
                Stage::First => word,
            });
        }
        ignored_bits(rng, dma);
        Some(())
    })
}

/// Bits that no unit looks at.
fn ignored_bits(rng: &mut Rng, dma: &mut Dma) {
    const OF_FIRST: u64 = 0xfff0_0000_0000_0b18;
    const OF_SECOND: u64 = 0x9ff0_0000_0000_047c;
    if dma.leaf_level == 0 || rng.bool() {
        return;
    }
    let mask = match dma.place.stage {
        Stage::First => OF_FIRST,
        Stage::Second => OF_SECOND,
    };
    let noise = rng.u64(..) & mask;
    if let Some((at, _)) = dma.some_entry(rng) {
        dma.tables.change(at, |word| word | noise);
    }
}

pub(super) fn sets_flags(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let (at, _) = dma.some_entry(rng)?;
        dma.tables.change(at, |word| {
            First::from(word)
                .with_accessed(false)
                .with_dirty(false)
                .into()
        });
        Some(())
    })
}

pub(super) fn beyond_width(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        dma.address = match dma.place.stage {
            // Any bit from 47 up that is not like the others (§3.6).
            Stage::First => dma.address ^ 1 << rng.u32(47..64),
            // Beyond the table and not beyond the unit, which cuts its records there.
            Stage::Second if dma.place.levels == 3 && draft.rig.bits() == 48 => {
                dma.address | 1 << rng.u32(39..48)
            }
            Stage::Second => return None,
        };
        Some(())
    })
}

pub(super) fn right_missing(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        dma.write |= dma.place.stage == Stage::First;
        let (at, _) = dma.some_entry(rng)?;
        if rng.u8(..4) == 0 && dma.place.stage == Stage::Second {
            // No right at all.
            dma.tables.change(at, |word| word & !3);
        } else {
            dma.refuse(at);
        }
        Some(())
    })
}

pub(super) fn entry_absent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let (at, _) = dma.some_entry(rng)?;
        let zero = rng.bool();
        dma.tables
            .change(at, |word| if zero { 0 } else { word & !1 });
        Some(())
    })
}

pub(super) fn supervisor_page(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let (at, _) = dma.some_entry(rng)?;
        dma.tables
            .change(at, |word| First::from(word).with_user(false).into());
        Some(())
    })
}

pub(super) fn table_in_hole(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let at = dma.some_link(rng)?;
        let table = hole(rng);
        dma.tables.set(at, link(dma.place.stage, table));
        Some(())
    })
}

pub(super) fn entry_reserved(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let (at, level) = dma.some_entry(rng)?;
        let bit = reserved_bit(rng, dma, level, draft);
        dma.tables.change(at, |word| word | 1 << bit);
        Some(())
    })
}

/// A bit that the entry of a level may not have set (§9.7, §9.8), and that QEMU refuses too.
pub(super) fn reserved_bit(rng: &mut Rng, dma: &Dma, level: u8, draft: &Draft) -> u32 {
    const SNOOP: u32 = 11;
    const MERGED: u32 = 62;
    const LARGE: u32 = 7;
    let is_leaf = level == dma.leaf_level;
    let mut bits: Vec<u32> = (u32::from(draft.rig.bits())..52).collect();
    if level == 4 {
        bits.push(LARGE);
    }
    let lowest = match dma.place.stage {
        Stage::First => 13,
        Stage::Second => 12,
    };
    if is_leaf {
        bits.extend(lowest..12 + 9 * u32::from(level - 1));
    }
    if dma.place.stage == Stage::Second {
        bits.push(MERGED);
        // In scalable mode QEMU takes SNP of a leaf for good.
        if !(is_leaf && draft.rig.is_scalable()) {
            bits.push(SNOOP);
        }
    }
    bits[rng.usize(..bits.len())]
}

pub(super) fn to_interrupts(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        if dma.leaf_level != 1 {
            return None;
        }
        let target = 0xfee0_0000 | rng.u64(..256) << 12;
        dma.tables
            .set(dma.leaf_at, leaf(dma.place.stage, 1, target));
        Some(())
    })
}

pub(super) fn flags_in_rom(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        // The ROM's table becomes the last one of the walk; its entry lacks what is needed.
        let link_at = dma.tables.entry(rng, &dma.place, dma.address, 2)?;
        dma.tables.set(link_at, link(Stage::First, ROM_TABLE));
        let index = dma.address >> 12 & 3;
        // QEMU takes D alone for enough where both are to be set.
        (index == 0 || index == 3 && !dma.write).then_some(())
    })
}

/// A fault that is qualified, under an entry with FPD set.
pub(super) fn silent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        const FAULT_DISABLE: u64 = 2;
        let holder = match (dma.place.pasid, rng.u8(..3)) {
            (Some((directory, _)), 1) => directory,
            (Some((_, entry)), 2) => entry,
            _ => dma.place.context,
        };
        dma.tables.change(holder, |word| word | FAULT_DISABLE);
        let (at, level) = dma.some_entry(rng)?;
        match rng.u8(..3) {
            0 => dma.tables.set(at, 0),
            1 => {
                let bit = reserved_bit(rng, dma, level, draft);
                dma.tables.change(at, |word| word | 1 << bit);
            }
            _ if dma.leaf_level == 1 => {
                let target = 0xfee0_0000 | rng.u64(..256) << 12;
                dma.tables
                    .set(dma.leaf_at, leaf(dma.place.stage, 1, target));
            }
            _ => return None,
        }
        Some(())
    })
}
