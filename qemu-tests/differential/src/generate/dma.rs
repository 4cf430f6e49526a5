//! One request through random tables: it translates, or meets one fault on its way.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::tables::{Place, Plan, Stage, Tables, hole, leaf, link};
use super::{Card, Draft, Make};
use crate::bench::{POOL, ROM_TABLE, Rig};
use crate::case::{Case, Device, Mode, Step};
use crate::entries::{ContextHigh, ContextLow, First, PasidFirst, PasidLow, Root, Second, page};

/// A request and the tables that serve it.
pub(super) struct Dma {
    pub(super) tables: Tables,
    pub(super) place: Place,
    pub(super) address: u64,
    pub(super) write: bool,
    /// Level of the leaf; 0 for pass-through.
    pub(super) leaf_level: u8,
    /// Where the leaf's entry lies.
    pub(super) leaf_at: u64,
    /// Words that steps have changed.
    pub(super) now: BTreeMap<u64, u64>,
}

pub(super) fn cards() -> Vec<Card> {
    let mut cards = Vec::new();
    let mut deal = |mode, hands: &[(u64, &'static str, Make)]| {
        cards.extend(hands.iter().map(|&(count, intent, make)| Card {
            count,
            mode,
            intent,
            make,
        }));
    };
    deal(
        Mode::Legacy,
        &[
            (600, "translates", translates),
            (50, "root absent", root_absent),
            (50, "context absent", context_absent),
            (30, "width unsupported", width_unsupported),
            (20, "type unsupported", type_unsupported),
            (30, "first table in a hole", top_in_hole),
            (60, "beyond the width", beyond_width),
            (120, "right missing", right_missing),
            (60, "lower table in a hole", table_in_hole),
            (50, "root table in a hole", root_in_hole),
            (50, "context table in a hole", context_in_hole),
            (50, "root reserved", root_reserved),
            (50, "context reserved", context_reserved),
            (60, "entry reserved", entry_reserved),
            (90, "leads to the interrupt range", to_interrupts),
            (80, "fault not to be recorded", silent),
        ],
    );
    deal(
        Mode::PassThrough,
        &[
            (699, "translates", translates),
            (40, "root absent", root_absent),
            (40, "context absent", context_absent),
            (30, "root table in a hole", root_in_hole),
            (30, "context table in a hole", context_in_hole),
            (30, "root reserved", root_reserved),
            (40, "context reserved", context_reserved),
            (40, "fault not to be recorded", silent_context),
        ],
    );
    deal(
        Mode::Second,
        &[
            (430, "translates", translates),
            (25, "root absent", root_absent),
            (25, "context absent", context_absent),
            (25, "root table in a hole", root_in_hole),
            (25, "context table in a hole", context_in_hole),
            (25, "root reserved", root_reserved),
            (25, "context reserved", context_reserved),
            (35, "PASID directory in a hole", directory_in_hole),
            (35, "PASID directory entry absent", directory_absent),
            (35, "PASID table in a hole", pasid_in_hole),
            (35, "PASID entry absent", pasid_absent),
            (40, "PASID entry invalid", pasid_invalid),
            (40, "first table in a hole", top_in_hole),
            (50, "beyond the width", beyond_width),
            (110, "right missing", right_missing),
            (50, "lower table in a hole", table_in_hole),
            (50, "entry reserved", entry_reserved),
            (30, "leads to the interrupt range", to_interrupts),
            (20, "fault not to be recorded", silent),
        ],
    );
    deal(
        Mode::First,
        &[
            (530, "translates", translates),
            (100, "sets flags", sets_flags),
            (15, "root absent", root_absent),
            (15, "context absent", context_absent),
            (15, "root table in a hole", root_in_hole),
            (15, "context table in a hole", context_in_hole),
            (15, "root reserved", root_reserved),
            (15, "context reserved", context_reserved),
            (30, "PASID directory in a hole", directory_in_hole),
            (30, "PASID directory entry absent", directory_absent),
            (30, "PASID table in a hole", pasid_in_hole),
            (30, "PASID entry absent", pasid_absent),
            (30, "PASID entry invalid", pasid_invalid),
            (75, "first table in a hole", top_in_hole),
            (75, "not canonical", beyond_width),
            (75, "right missing", right_missing),
            (75, "entry absent", entry_absent),
            (75, "supervisor's page", supervisor_page),
            (75, "lower table in a hole", table_in_hole),
            (75, "entry reserved", entry_reserved),
            (40, "leads to the interrupt range", to_interrupts),
            (75, "flags in a ROM", flags_in_rom),
            (10, "fault not to be recorded", silent),
        ],
    );
    deal(
        Mode::RidPasid,
        &[
            (420, "translates", translates),
            (40, "PASID directory in a hole", directory_in_hole),
            (40, "PASID directory entry absent", directory_absent),
            (40, "PASID table in a hole", pasid_in_hole),
            (40, "PASID entry absent", pasid_absent),
            (40, "PASID entry invalid", pasid_invalid),
            (120, "right missing", right_missing),
            (40, "lower table in a hole", table_in_hole),
            (40, "entry reserved", entry_reserved),
            (40, "first table in a hole", top_in_hole),
            (50, "beyond the width", beyond_width),
            (50, "leads to the interrupt range", to_interrupts),
            (60, "fault not to be recorded", silent),
        ],
    );
    cards
}

impl Dma {
    /// A request that translates.
    pub(super) fn draw(rng: &mut Rng, draft: &Draft) -> Option<Self> {
        let stage = if draft.rig == Rig::First {
            Stage::First
        } else {
            Stage::Second
        };
        let pass_through = draft.mode == Mode::PassThrough;
        let levels = match draft.rig {
            Rig::First => 4,
            _ if draft.rig.bits() == 39 => 3,
            // A pass-through entry names the largest width (§9.3).
            _ if pass_through => 4,
            _ => rng.u8(3..=4),
        };
        let plan = Plan {
            rig: draft.rig,
            device: draft.device,
            stage,
            pass_through,
            rid_pasid: draft.rid_pasid,
            levels,
        };
        let mut tables = Tables::new();
        let place = tables.place(rng, &plan);
        let mut dma = Self {
            tables,
            place,
            address: 0,
            write: draft.device == Device::Tester || rng.bool(),
            leaf_level: 0,
            leaf_at: 0,
            now: BTreeMap::new(),
        };
        if pass_through {
            dma.address = dma.tables.target(rng, 12) | (rng.u64(..1024) * 4);
            return Some(dma);
        }
        dma.address = address(rng, stage, levels)?;
        dma.map(rng)?;
        dma.add_neighbours(rng);
        Some(dma)
    }

    fn map(&mut self, rng: &mut Rng) -> Option<()> {
        let level = match rng.u8(..10) {
            0..=5 => 1,
            6..=7 => 2,
            _ => 3,
        };
        let shift = 12 + 9 * u32::from(level - 1);
        let target = self.tables.target(rng, shift);
        self.leaf_level = level;
        self.leaf_at = self.tables.entry(rng, &self.place, self.address, level)?;
        self.tables
            .set(self.leaf_at, leaf(self.place.stage, level, target));
        let cell = target | self.address & ((1 << shift) - 1);
        let is_free = POOL.contains(&cell) && !self.tables.tables.contains(&(cell & !0xfff));
        is_free.then_some(())
    }

    /// Other mappings that differ from the request's in one bit of the address.
    fn add_neighbours(&mut self, rng: &mut Rng) {
        for _ in 0..rng.u8(..4) {
            let bit = rng.u32(12..12 + 9 * u32::from(self.place.levels) - 1);
            let address = self.address ^ 1 << bit;
            let Some(at) = self.tables.entry(rng, &self.place, address, 1) else {
                continue;
            };
            if self.tables.get(at) == 0 {
                let target = self.tables.target(rng, 12);
                self.tables.set(at, leaf(self.place.stage, 1, target));
            }
        }
    }

    /// What a word holds after the steps so far.
    pub(super) fn current(&self, at: u64) -> u64 {
        self.now.get(&at).copied().unwrap_or(self.tables.get(at))
    }

    /// The entry of a random level on the way, with the level.
    pub(super) fn some_entry(&mut self, rng: &mut Rng) -> Option<(u64, u8)> {
        let level = rng.u8(self.leaf_level..=self.place.levels);
        let at = self.tables.entry(rng, &self.place, self.address, level)?;
        Some((at, level))
    }

    /// The entry of a random level that leads to a table.
    fn some_link(&mut self, rng: &mut Rng) -> Option<u64> {
        if self.leaf_level == self.place.levels {
            return None;
        }
        let level = rng.u8(self.leaf_level + 1..=self.place.levels);
        self.tables.entry(rng, &self.place, self.address, level)
    }

    /// Takes the right that the request needs from an entry.
    pub(super) fn refuse(&mut self, at: u64) {
        let (write, stage) = (self.write, self.place.stage);
        self.tables.change(at, |word| match stage {
            Stage::First => First::from(word).with_write(false).into(),
            Stage::Second if write => Second::from(word).with_write(false).into(),
            Stage::Second => Second::from(word).with_read(false).into(),
        });
    }

    /// The case: the request, and perhaps the same again.
    pub(super) fn finish(self, rng: &mut Rng, draft: &Draft) -> Option<Case> {
        let step = Step::Dma {
            device: draft.device,
            write: self.write,
            address: self.address,
        };
        let times = if rng.u8(..4) == 0 { 2 } else { 1 };
        Some(self.case(draft, vec![step; times]))
    }

    /// A case of these tables.
    pub(super) fn case(self, draft: &Draft, steps: Vec<Step>) -> Case {
        Case {
            number: draft.number,
            intent: draft.intent,
            mode: draft.mode,
            rig: draft.rig,
            root: self.place.root,
            interrupts: None,
            memory: self.tables.memory,
            tables: self.tables.tables,
            targets: self.tables.targets,
            steps,
        }
    }
}

/// An input address that a table of this depth serves, and that is no interrupt's.
fn address(rng: &mut Rng, stage: Stage, levels: u8) -> Option<u64> {
    let bits = 12 + 9 * u32::from(levels);
    let below = rng.u64(..1 << (bits - 2)) * 4;
    let address = match stage {
        Stage::First => ((below << (64 - bits)) as i64 >> (64 - bits)) as u64,
        Stage::Second => below,
    };
    (address >> 20 != 0xfee).then_some(address)
}

/// Makes a request that translates, changes something, and has the case.
pub(super) fn with(
    rng: &mut Rng,
    draft: &Draft,
    change: impl FnOnce(&mut Dma, &mut Rng) -> Option<()>,
) -> Option<Case> {
    let mut dma = Dma::draw(rng, draft)?;
    change(&mut dma, rng)?;
    dma.finish(rng, draft)
}

fn translates(rng: &mut Rng, draft: &Draft) -> Option<Case> {
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

fn sets_flags(rng: &mut Rng, draft: &Draft) -> Option<Case> {
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

fn root_absent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, _| {
        let at = dma.place.root_entry;
        dma.tables
            .change(at, |word| Root::from(word).with_present(false).into());
        Some(())
    })
}

fn root_reserved(rng: &mut Rng, draft: &Draft) -> Option<Case> {
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

fn root_in_hole(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        dma.place.root = hole(rng) | dma.place.root & 0xfff;
        Some(())
    })
}

fn context_in_hole(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let table = page(hole(rng));
        let at = dma.place.root_entry;
        dma.tables
            .change(at, |word| Root::from(word).with_table(table).into());
        Some(())
    })
}

fn context_absent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, _| {
        let at = dma.place.context;
        dma.tables.change(at, |word| word & !1);
        Some(())
    })
}

fn context_reserved(rng: &mut Rng, draft: &Draft) -> Option<Case> {
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

fn width_unsupported(rng: &mut Rng, draft: &Draft) -> Option<Case> {
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

fn type_unsupported(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let kind = if rng.bool() { 1 } else { 3 };
        dma.tables.change(dma.place.context, |word| {
            ContextLow::from(word).with_kind(kind).into()
        });
        Some(())
    })
}

fn top_in_hole(rng: &mut Rng, draft: &Draft) -> Option<Case> {
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

fn directory_in_hole(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let table = hole(rng);
        dma.tables
            .change(dma.place.context, |word| word & 0xfff | table);
        Some(())
    })
}

fn directory_absent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, _| {
        let (directory, _) = dma.place.pasid?;
        dma.tables.change(directory, |word| word & !1);
        Some(())
    })
}

fn pasid_in_hole(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let (directory, _) = dma.place.pasid?;
        let table = hole(rng);
        dma.tables.change(directory, |word| word & 0xfff | table);
        Some(())
    })
}

fn pasid_absent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, _| {
        let (_, entry) = dma.place.pasid?;
        dma.tables.change(entry, |word| word & !1);
        Some(())
    })
}

fn pasid_invalid(rng: &mut Rng, draft: &Draft) -> Option<Case> {
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

fn beyond_width(rng: &mut Rng, draft: &Draft) -> Option<Case> {
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

fn right_missing(rng: &mut Rng, draft: &Draft) -> Option<Case> {
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

fn entry_absent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let (at, _) = dma.some_entry(rng)?;
        let zero = rng.bool();
        dma.tables
            .change(at, |word| if zero { 0 } else { word & !1 });
        Some(())
    })
}

fn supervisor_page(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let (at, _) = dma.some_entry(rng)?;
        dma.tables
            .change(at, |word| First::from(word).with_user(false).into());
        Some(())
    })
}

fn table_in_hole(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        let at = dma.some_link(rng)?;
        let table = hole(rng);
        dma.tables.set(at, link(dma.place.stage, table));
        Some(())
    })
}

fn entry_reserved(rng: &mut Rng, draft: &Draft) -> Option<Case> {
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

fn to_interrupts(rng: &mut Rng, draft: &Draft) -> Option<Case> {
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

fn flags_in_rom(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, rng| {
        // The ROM's table becomes the last one of the walk; its entry lacks what is needed.
        let link_at = dma.tables.entry(rng, &dma.place, dma.address, 2)?;
        dma.tables.set(link_at, link(Stage::First, ROM_TABLE));
        let index = dma.address >> 12 & 3;
        // QEMU takes D alone for enough where both are to be set.
        (index == 0 || index == 3 && !dma.write).then_some(())
    })
}

/// QEMU silences no reserved bit of a context entry, so that the entry is absent.
fn silent_context(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |dma, _| {
        let low = dma.place.context;
        dma.tables.change(low, |word| word & !1 | 2);
        Some(())
    })
}

/// A fault that is qualified, under an entry with FPD set.
fn silent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
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
