//! One request and the tables that serve it.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::Draft;
use super::tables::{Place, Plan, Stage, Tables, leaf};
use crate::bench::{POOL, Rig};
use crate::case::{Case, Device, Mode, Step};
use crate::entries::{First, Second};

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
    pub(super) fn some_link(&mut self, rng: &mut Rng) -> Option<u64> {
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
