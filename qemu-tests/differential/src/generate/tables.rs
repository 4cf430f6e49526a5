//! Tables under construction: frames that are drawn at random, words, and where the entries
//! that serve one request lie.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use crate::bench::{HOLE, POOL, Rig};
use crate::case::Device;
use crate::entries::{
    ContextHigh, ContextLow, Directory, First, PasidDomain, PasidFirst, PasidLow, RidPasid, Root,
    ScalableContext, Second, page,
};

/// Which paging structure a table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    First,
    Second,
}

/// Words of memory.
pub(super) struct Tables {
    pub(super) memory: BTreeMap<u64, u64>,
    pub(super) tables: BTreeSet<u64>,
    pub(super) targets: BTreeSet<u64>,
}

impl Tables {
    pub(super) fn new() -> Self {
        Self {
            memory: BTreeMap::new(),
            tables: BTreeSet::new(),
            targets: BTreeSet::new(),
        }
    }

    /// A frame for a table.
    pub(super) fn frame(&mut self, rng: &mut Rng) -> u64 {
        self.frames(rng, 1)
    }

    /// Consecutive frames for a table.
    pub(super) fn frames(&mut self, rng: &mut Rng, count: u64) -> u64 {
        loop {
            let first = rng.u64(page(POOL.start)..page(POOL.end) - count) << 12;
            let all = (0..count).map(|at| first + (at << 12));
            if all.clone().all(|frame| self.is_unused(frame)) {
                self.tables.extend(all);
                return first;
            }
        }
    }

    fn is_unused(&self, frame: u64) -> bool {
        !self.tables.contains(&frame) && !self.targets.contains(&frame)
    }

    /// A page of `shift` bits for data. A large one may hold tables too, but not at the place
    /// that is asked for.
    pub(super) fn target(&mut self, rng: &mut Rng, shift: u32) -> u64 {
        if shift == 30 {
            let target = rng.u64(..2) << 30;
            self.targets.insert(target);
            return target;
        }
        loop {
            let target = rng.u64(POOL.start >> shift..POOL.end >> shift) << shift;
            if self.is_unused(target) {
                self.targets.insert(target);
                return target;
            }
        }
    }

    pub(super) fn set(&mut self, at: u64, word: u64) {
        self.memory.insert(at, word);
    }

    pub(super) fn get(&self, at: u64) -> u64 {
        self.memory.get(&at).copied().unwrap_or(0)
    }

    /// Changes a word.
    pub(super) fn change(&mut self, at: u64, change: impl FnOnce(u64) -> u64) {
        let word = change(self.get(at));
        self.set(at, word);
    }
}

/// An address where no memory is.
pub(super) fn hole(rng: &mut Rng) -> u64 {
    rng.u64(page(HOLE.start)..page(HOLE.end)) << 12
}

/// Where the entries of one request lie.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) stage: Stage,
    pub(super) levels: u8,
    /// RTADDR.
    pub(super) root: u64,
    /// The half of the root entry that serves the device.
    pub(super) root_entry: u64,
    pub(super) context: u64,
    /// PASID directory and table entry, in scalable mode.
    pub(super) pasid: Option<(u64, u64)>,
    /// The PASID that the context entry names.
    pub(super) rid_pasid: u32,
    pub(super) domain: u16,
    /// First table of the paging structure.
    pub(super) top: u64,
}

/// What a place is made with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) rig: Rig,
    pub(super) device: Device,
    pub(super) stage: Stage,
    pub(super) pass_through: bool,
    pub(super) rid_pasid: u32,
    pub(super) levels: u8,
}

const FIRST_STAGE: u8 = 1;
const SECOND_STAGE: u8 = 2;
const PASS_THROUGH: u8 = 4;
const LEGACY_PASS_THROUGH: u8 = 2;

impl Tables {
    /// Root, context and, in scalable mode, PASID tables that lead to an empty paging
    /// structure, with neighbours that lead elsewhere.
    pub(super) fn place(&mut self, rng: &mut Rng, plan: &Plan) -> Place {
        let root = self.frame(rng);
        let devfn = u64::from(plan.device.source() & 0xff);
        let context_table = self.frame(rng);
        let top = self.frame(rng);
        let domain = rng.u16(1..);
        let present = Root::new()
            .with_present(true)
            .with_table(page(context_table));
        let scalable = plan.rig.is_scalable();
        let upper = scalable && devfn >= 0x80;
        let root_entry = root + if upper { 8 } else { 0 };
        self.set(root_entry, present.into());
        let mut place = Place {
            stage: plan.stage,
            levels: plan.levels,
            root: root | if scalable { 0x400 } else { 0 },
            root_entry,
            context: context_table + (devfn & 0x7f) * 32,
            pasid: None,
            rid_pasid: plan.rid_pasid,
            domain,
            top,
        };
        if scalable {
            self.scalable(rng, plan, &mut place);
        } else {
            place.context = context_table + devfn * 16;
            self.legacy(plan, &place);
        }
        place
    }

    fn legacy(&mut self, plan: &Plan, place: &Place) {
        let kind = if plan.pass_through {
            LEGACY_PASS_THROUGH
        } else {
            0
        };
        let low = ContextLow::new()
            .with_present(true)
            .with_kind(kind)
            .with_table(page(place.top));
        let high = ContextHigh::new()
            .with_width(plan.levels - 2)
            .with_domain(place.domain);
        self.set(place.context, low.into());
        self.set(place.context + 8, high.into());
    }

    fn scalable(&mut self, rng: &mut Rng, plan: &Plan, place: &mut Place) {
        // The directory has 2^(PDTS + 7) entries of 8 bytes (§9.4).
        let needed = plan.rid_pasid >> 13;
        let smallest = (32 - needed.leading_zeros()) as u8;
        let size = rng.u8(smallest..=7);
        let pages = (1_u64 << (size + 7)).div_ceil(512);
        let directory = self.frames(rng, pages);
        let table = self.frame(rng);
        let context = ScalableContext::new()
            .with_present(true)
            .with_directory_size(size)
            .with_directory(page(directory));
        self.set(place.context, context.into());
        let pasid = RidPasid::new().with_pasid(plan.rid_pasid);
        self.set(place.context + 8, pasid.into());
        let directory_entry = directory + u64::from(plan.rid_pasid >> 6) * 8;
        let entry = Directory::new().with_present(true).with_table(page(table));
        self.set(directory_entry, entry.into());
        let pasid_entry = table + u64::from(plan.rid_pasid & 0x3f) * 64;
        place.pasid = Some((directory_entry, pasid_entry));
        let kind = match plan.stage {
            _ if plan.pass_through => PASS_THROUGH,
            Stage::First => FIRST_STAGE,
            Stage::Second => SECOND_STAGE,
        };
        let mut low = PasidLow::new().with_present(true).with_kind(kind);
        let mut domain = PasidDomain::new().with_domain(place.domain);
        let mut first = PasidFirst::new();
        if plan.rig == Rig::First {
            // QEMU's first stage takes AW for its width, so it is written even there.
            low.set_width(2);
            domain.set_walk_snoop(true);
            first.set_first(page(place.top));
        } else {
            low.set_width(plan.levels - 2);
            low.set_second(page(place.top));
        }
        self.set(pasid_entry, low.into());
        self.set(pasid_entry + 8, domain.into());
        self.set(pasid_entry + 16, first.into());
    }

    /// Where the entry of `level` for `address` lies; tables above it are added. `None` if a
    /// large page is in the way.
    pub(super) fn entry(
        &mut self,
        rng: &mut Rng,
        place: &Place,
        address: u64,
        level: u8,
    ) -> Option<u64> {
        const LARGE: u64 = 0x80;
        let mut table = place.top;
        for at in (level + 1..=place.levels).rev() {
            let entry = slot(table, at, address);
            if self.get(entry) == 0 {
                let next = self.frame(rng);
                self.set(entry, link(place.stage, next));
            }
            if self.get(entry) & LARGE != 0 {
                return None;
            }
            table = self.get(entry) & 0x0000_ffff_ffff_f000;
        }
        Some(slot(table, level, address))
    }
}

fn slot(table: u64, level: u8, address: u64) -> u64 {
    table + ((address >> (12 + 9 * (level - 1))) & 0x1ff) * 8
}

/// An entry with all rights that leads to a table.
pub(super) fn link(stage: Stage, table: u64) -> u64 {
    match stage {
        Stage::First => First::new()
            .with_present(true)
            .with_write(true)
            .with_user(true)
            .with_accessed(true)
            .with_page(page(table))
            .into(),
        Stage::Second => Second::new()
            .with_read(true)
            .with_write(true)
            .with_page(page(table))
            .into(),
    }
}

/// An entry with all rights that maps a page of `level`.
pub(super) fn leaf(stage: Stage, level: u8, target: u64) -> u64 {
    match stage {
        Stage::First => First::from(link(stage, target))
            .with_dirty(true)
            .with_large(level > 1)
            .into(),
        Stage::Second => Second::from(link(stage, target))
            .with_large(level > 1)
            .into(),
    }
}
