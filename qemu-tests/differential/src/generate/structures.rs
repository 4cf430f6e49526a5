//! Faults of root, context and PASID entries.

use fastrand::Rng;

use super::Draft;
use super::dma::{Dma, with};
use super::tables::{Stage, hole};
use crate::case::{Case, Mode};
use crate::entries::{ContextHigh, ContextLow, PasidFirst, PasidLow, Root, page};

pub(super) fn root_absent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, _| {
        let at = dma.place.root_entry;
        dma.tables
            .change(at, |word| Root::from(word).with_present(false).into());
        Some(())
    })
}

pub(super) fn root_reserved(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let at = dma.place.root_entry;
        let bits = u32::from(draft.rig.bits());
        if !draft.rig.is_scalable() && rng.bool() {
            dma.tables.set(at + 8, 1 << rng.u32(..64));
            return Some(());
        }
        let bit = one_of(rng, 1..12, bits..64);
        dma.tables.change(at, |word| word | 1 << bit);
        Some(())
    })
}

fn one_of(rng: &mut Rng, low: std::ops::Range<u32>, high: std::ops::Range<u32>) -> u32 {
    if rng.bool() {
        rng.u32(low)
    } else {
        rng.u32(high)
    }
}

pub(super) fn root_in_hole(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        dma.place.root = hole(rng) | dma.place.root & 0xfff;
        Some(())
    })
}

pub(super) fn context_in_hole(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let table = page(hole(rng));
        let at = dma.place.root_entry;
        dma.tables
            .change(at, |word| Root::from(word).with_table(table).into());
        Some(())
    })
}

pub(super) fn context_absent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, _| {
        let at = dma.place.context;
        dma.tables.change(at, |word| word & !1);
        Some(())
    })
}

pub(super) fn context_reserved(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        spoil_context(rng, draft, dma);
        Some(())
    })
}

pub(super) fn spoil_context(rng: &mut Rng, draft: &Draft, dma: &mut Dma) {
    let bits = u32::from(draft.rig.bits());
    let (word, bit) = if draft.rig.is_scalable() {
        match rng.u64(..4) {
            0 => (0, one_of(rng, 5..9, bits..64)),
            1 => (1, rng.u32(21..64)),
            word => (word, rng.u32(..64)),
        }
    } else if rng.bool() {
        // Of a pass-through entry the pointer is ignored, but not by QEMU.
        let pointer = if draft.mode == Mode::PassThrough {
            4..12
        } else {
            bits..64
        };
        (0, one_of(rng, 4..12, pointer))
    } else {
        (1, one_of(rng, 7..8, 24..64))
    };
    let at = dma.place.context + 8 * word;
    dma.tables.change(at, |word| word | 1 << bit);
}

pub(super) fn width_unsupported(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let widths: &[u8] = if draft.rig.bits() == 39 {
            &[0, 2, 3, 4, 5, 6, 7]
        } else {
            &[0, 3, 4, 5, 6, 7]
        };
        let width = widths[rng.usize(..widths.len())];
        dma.tables.change(dma.place.context + 8, |word| {
            ContextHigh::from(word).with_width(width).into()
        });
        Some(())
    })
}

pub(super) fn type_unsupported(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let kind = if rng.bool() { 1 } else { 3 };
        dma.tables.change(dma.place.context, |word| {
            ContextLow::from(word).with_kind(kind).into()
        });
        Some(())
    })
}

pub(super) fn top_in_hole(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let table = page(hole(rng));
        let tables = &mut dma.tables;
        match dma.place.pasid {
            None => tables.change(dma.place.context, |word| {
                ContextLow::from(word).with_table(table).into()
            }),
            Some((_, entry)) if dma.place.stage == Stage::First => {
                tables.change(entry + 16, |word| {
                    PasidFirst::from(word).with_first(table).into()
                });
            }
            Some((_, entry)) => {
                tables.change(entry, |word| PasidLow::from(word).with_second(table).into());
            }
        }
        Some(())
    })
}

pub(super) fn directory_in_hole(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let table = hole(rng);
        dma.tables
            .change(dma.place.context, |word| word & 0xfff | table);
        Some(())
    })
}

pub(super) fn directory_absent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, _| {
        let (directory, _) = dma.place.pasid?;
        dma.tables.change(directory, |word| word & !1);
        Some(())
    })
}

pub(super) fn pasid_in_hole(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let (directory, _) = dma.place.pasid?;
        let table = hole(rng);
        dma.tables.change(directory, |word| word & 0xfff | table);
        Some(())
    })
}

pub(super) fn pasid_absent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, _| {
        let (_, entry) = dma.place.pasid?;
        dma.tables.change(entry, |word| word & !1);
        Some(())
    })
}

pub(super) fn pasid_invalid(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let (_, entry) = dma.place.pasid?;
        // The model's unit has a second stage too where QEMU's has a first.
        let kinds: &[u8] = if dma.place.stage == Stage::First {
            &[0, 3, 5, 6, 7]
        } else {
            &[0, 1, 3, 5, 6, 7]
        };
        let widths: &[u8] = if draft.rig.bits() == 39 {
            &[0, 2, 3, 4, 5, 6, 7]
        } else {
            &[0, 3, 4, 5, 6, 7]
        };
        let tables = &mut dma.tables;
        match (rng.u8(..3), dma.place.stage) {
            (0, _) => {
                let kind = kinds[rng.usize(..kinds.len())];
                tables.change(entry, |word| PasidLow::from(word).with_kind(kind).into());
            }
            (_, Stage::First) => {
                let mode = rng.u8(1..4);
                tables.change(entry + 16, |word| {
                    PasidFirst::from(word).with_mode(mode).into()
                });
            }
            (_, Stage::Second) => {
                let width = widths[rng.usize(..widths.len())];
                tables.change(entry, |word| PasidLow::from(word).with_width(width).into());
            }
        }
        Some(())
    })
}

/// QEMU silences no reserved bit of a context entry, so that the entry is absent.
pub(super) fn silent_context(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, _| {
        let low = dma.place.context;
        dma.tables.change(low, |word| word & !1 | 2);
        Some(())
    })
}
