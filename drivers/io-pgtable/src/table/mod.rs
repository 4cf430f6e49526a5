//! Tables that own their pages and are changed by ranges.
//!
//! Each operation decides before it acts: what can fail (something in the way, no memory)
//! is found out before the first entry is written. It enters each table once, those on the
//! way to where it may fail once more for that look ahead.
//!
//! A table other than the root is never empty: the unmapping that takes its last entry
//! drops it. So table memory is bounded by what is mapped, and a large page fits wherever
//! nothing is mapped.

mod dirty;
mod map;
mod memory;
mod runs;
mod span;
mod take;
mod unmap;

use crate::entry::{Entry, Limits};
use crate::geometry::{in_width, index_of, span_shift};
use iommu_core::{
    Access, Address, AddressRange, Coherence, Frame, FrameList, Hpa, Iova, LargePages, LeafSizes,
    MapError, MemoryType, Order, OutOfFrames, Platform, Run, TableFormat,
};
use map::{Mapping, in_the_way};
use memory::{Memory, Reserve, View};
use runs::Runs;
use span::Span;
pub use take::Taken;
use unmap::Withdrawn;

/// What the unit that reads a table accepts, and how it reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TableConfig {
    /// What it accepts in entries. Large leaves are used only if
    /// [`leaves`](Limits::leaves) allows them, in the first stage too; 1 GiB leaves only
    /// together with 2 MiB ones.
    pub limits: Limits,
    /// Bits of input address that the unit translates (MGAW).
    pub iova_bits: u8,
    /// Whether its walks snoop the CPU's caches.
    pub coherence: Coherence,
    /// Set SNP in second-stage leaves, so that accesses with No Snoop are coherent all the
    /// same. Does nothing without [`snoop_control`](Limits::snoop_control).
    pub snoop: bool,
    /// EMT of second-stage leaves, for entries with EMTE = 1. Does nothing in the first
    /// stage.
    pub memory_type: Option<MemoryType>,
}

/// A root table and all tables below it.
///
/// Dropping it leaks them: only [`destroy`](Self::destroy) gives them back, and only the
/// owner knows when hardware has forgotten them.
#[must_use = "tables that are dropped are leaked; destroy them"]
#[derive(Debug)]
pub struct PageTable {
    root: Hpa,
    format: TableFormat,
    config: TableConfig,
    /// Pages of table memory, the root included.
    tables: usize,
    /// Hardware marks leaves that are written through.
    tracking: Option<LargePages>,
}

/// What a mapping changed.
#[must_use = "a unit in caching mode must be told"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Mapped {
    /// Where entries that were not present became present. A unit with CAP.CM = 1 must be
    /// told for a second-stage table (§6.5.3.3).
    pub range: AddressRange<Iova>,
    /// Only leaf entries were written (IH may be 1).
    pub leaf_only: bool,
}

/// What an unmapping changed.
#[must_use = "hardware may still use what was taken away, and these frames"]
#[derive(Debug)]
pub struct Unmapped {
    /// Pages of tables. Hold them until hardware has been told, then release them.
    pub frames: FrameList,
    /// Only leaf entries were written (IH may be 1).
    pub leaf_only: bool,
    /// Where hardware must forget translations; `None` if nothing was mapped. Wider than
    /// the range asked for where a large page was split: all of it must be invalidated
    /// (§6.5.3.2).
    pub changed: Option<AddressRange<Iova>>,
}

/// Where requests are interrupts and not translated (§3.15).
const INTERRUPTS: (Iova, Iova) = (Iova::new(0xfee0_0000), Iova::new(0xfeef_ffff));

impl PageTable {
    /// An empty table: every address faults.
    ///
    /// # Safety
    /// Every later call for this table is given a platform that hands out and adopts the
    /// frames of the same memory as `platform` does.
    pub unsafe fn new<P: Platform>(
        platform: &P,
        format: TableFormat,
        config: TableConfig,
    ) -> Result<Self, OutOfFrames> {
        let root = platform.allocate(Order::PAGE)?.leak();
        Ok(Self {
            root,
            format,
            config,
            tables: 1,
            tracking: None,
        })
    }

    /// The root table, for the entry that leads to it.
    pub fn root(&self) -> Hpa {
        self.root
    }

    /// The format of the tables.
    pub fn format(&self) -> TableFormat {
        self.format
    }

    /// What the tables were made for.
    pub fn config(&self) -> &TableConfig {
        &self.config
    }

    /// Pages of table memory in use, the root included.
    pub fn table_pages(&self) -> usize {
        self.tables
    }

    /// Maps runs of host memory, one after the other, from `iova` on, in pages as large as
    /// addresses and unit allow. All or nothing.
    pub fn map<P: Platform>(
        &mut self,
        platform: &P,
        iova: Iova,
        runs: &[Run],
        access: Access,
    ) -> Result<Mapped, MapError> {
        self.map_behind(platform, iova, runs, access, || Ok(()))
    }

    /// The same, and does something else before the first entry is written, when nothing but
    /// that can fail any more.
    pub fn map_behind<P: Platform>(
        &mut self,
        platform: &P,
        iova: Iova,
        runs: &[Run],
        access: Access,
        before: impl FnOnce() -> Result<(), MapError>,
    ) -> Result<Mapped, MapError> {
        self.check_access(access)?;
        let runs = Runs::check(runs, self.config.limits.host_bits)?;
        let range = AddressRange::of_pages(iova, runs.total).map_err(|error| match error {
            iommu_core::RangeError::Wraps => MapError::BeyondWidth(iova),
            _ => MapError::Malformed,
        })?;
        let span = self.check_range(range)?;
        let interrupts = AddressRange::inclusive(INTERRUPTS.0, INTERRUPTS.1);
        if let Some(hit) = interrupts.ok().and_then(|them| them.intersection(&range)) {
            return Err(MapError::InterruptRange(hit.first()));
        }

        let memory = self.memory(platform);
        let (top, level) = self.lowest_table_around(&memory, span)?;
        let mut mapping = Mapping::new(&runs, self.leaves(), access);
        let missing = memory.missing_tables(Some(&top), level, span, &mut mapping.clone())?;
        let mut reserve = memory.reserve(missing)?;
        if let Err(error) = before() {
            memory.give_back(reserve);
            return Err(error);
        }
        let linked = memory.fill::<true>(&top, level, span, &mut mapping, &mut reserve);
        memory.give_back(reserve);
        self.tables = self.tables.saturating_add(missing);
        Ok(Mapped {
            range,
            leaf_only: !linked,
        })
    }

    /// Takes away whatever is mapped in a page-aligned range, splitting large pages at its
    /// ends. Fails only if the range is none of this table, or a split needs memory that
    /// is not there, and then changes nothing.
    pub fn unmap<P: Platform>(
        &mut self,
        platform: &P,
        range: AddressRange<Iova>,
    ) -> Result<Unmapped, MapError> {
        self.unmap_with(
            platform,
            range,
            |memory, root, level, span, reserve, out| {
                memory.clear(root, level, span, reserve, out);
            },
        )
    }

    /// Unmaps by `clear`, once nothing can fail any more.
    fn unmap_with<P: Platform>(
        &mut self,
        platform: &P,
        range: AddressRange<Iova>,
        clear: impl FnOnce(&Memory<'_, P>, &Frame, u8, Span, &mut Reserve, &mut Withdrawn),
    ) -> Result<Unmapped, MapError> {
        let span = self.check_range(range)?;
        let memory = self.memory(platform);
        let root = memory.view(self.root);
        let level = self.format.levels();
        let added = if self.may_cut(span) {
            memory.tables_for_splits(Some(&root), level, span)
        } else {
            0
        };
        let mut reserve = memory.reserve(added)?;
        let mut out = Withdrawn::nothing();
        clear(&memory, &root, level, span, &mut reserve, &mut out);
        memory.give_back(reserve);
        self.tables = self
            .tables
            .saturating_add(out.added)
            .saturating_sub(out.frames.len());
        Ok(Unmapped {
            frames: out.frames,
            leaf_only: !out.links,
            changed: out.changed.and_then(Span::range),
        })
    }

    /// Where a request to `iova` would end, and what it may do there. `None` if it would
    /// fault whatever it wants.
    pub fn translate<P: Platform>(&self, platform: &P, iova: Iova) -> Option<(Hpa, Access)> {
        if !in_width(self.format, iova, self.config.iova_bits) {
            return None;
        }
        let memory = self.memory(platform);
        let mut allowed = Access::READ_WRITE;
        let mut table = memory.view(self.root);
        for level in (1..=self.format.levels()).rev() {
            let entry = table.load(index_of(iova.as_u64(), level))?;
            match memory.decode(level, entry) {
                Entry::Table {
                    address, access, ..
                } => {
                    allowed = allowed.intersection(access);
                    table = memory.view(Hpa::new(address));
                }
                Entry::Leaf {
                    address, access, ..
                } => {
                    let offset = iova.offset_in(span_shift(level));
                    let hpa = Hpa::new(address).checked_add(offset)?;
                    return Some((hpa, allowed.intersection(access)));
                }
                Entry::NotPresent | Entry::Reserved => return None,
            }
        }
        None
    }

    /// Reads the entries that a request to `iova` meets, from the root down to the one
    /// that ends the walk: its level, where it lies, and its bits.
    pub fn walk<P: Platform>(&self, platform: &P, iova: Iova, step: &mut dyn FnMut(u8, Hpa, u64)) {
        let memory = self.memory(platform);
        let mut address = self.root;
        for level in (1..=self.format.levels()).rev() {
            let index = index_of(iova.as_u64(), level);
            let Some(entry) = memory.view(address).load(index) else {
                return;
            };
            let offset = (index as u64).saturating_mul(size_of::<u64>() as u64);
            step(level, address.checked_add(offset).unwrap_or(address), entry);
            match memory.decode(level, entry) {
                Entry::Table { address: next, .. } => address = Hpa::new(next),
                _ => return,
            }
        }
    }

    /// Gives up all tables. Nothing may lead to the root any more; hold the pages until
    /// hardware has been told.
    pub fn destroy<P: Platform>(self, platform: &P) -> FrameList {
        let mut frames = FrameList::new();
        let level = self.format.levels();
        self.memory(platform)
            .withdraw_all(self.root, level, &mut frames);
        frames
    }

    /// Large leaves that are made at this time.
    fn leaves(&self) -> LeafSizes {
        match self.tracking {
            Some(LargePages::Split) => LeafSizes {
                mib2: false,
                gib1: false,
            },
            _ => self.config.limits.leaves,
        }
    }

    fn memory<'a, P: Platform>(&'a self, platform: &'a P) -> Memory<'a, P> {
        Memory {
            platform,
            format: self.format,
            config: &self.config,
        }
    }

    fn check_access(&self, access: Access) -> Result<(), MapError> {
        if access.is_none() {
            return Err(MapError::NoAccess);
        }
        let first_stage = self.format.stage() == iommu_core::Stage::First;
        if first_stage && !access.reads() {
            return Err(MapError::AccessUnsupported(access));
        }
        Ok(())
    }

    /// The range, if the format translates all of it and it is not two pieces around the
    /// hole between the canonical halves.
    fn check_range(&self, range: AddressRange<Iova>) -> Result<Span, MapError> {
        for end in [range.first(), range.last()] {
            if !in_width(self.format, end, self.config.iova_bits) {
                return Err(MapError::BeyondWidth(end));
            }
        }
        let upper_half = |iova: Iova| iova.as_u64() >> 63 != 0;
        if upper_half(range.first()) != upper_half(range.last()) {
            return Err(MapError::BeyondWidth(range.last()));
        }
        Span::of(range).ok_or(MapError::Malformed)
    }

    /// Whether a large page could lie across an end of the span.
    fn may_cut(&self, span: Span) -> bool {
        let leaves = self.config.limits.leaves;
        leaves.mib2 && !span.is_aligned(if leaves.gib1 { 3 } else { 2 })
    }

    /// The lowest table that translates all of `span`, and its level.
    fn lowest_table_around<P: Platform>(
        &self,
        memory: &Memory<'_, P>,
        span: Span,
    ) -> Result<(View, u8), MapError> {
        let mut table = memory.view(self.root);
        let mut level = self.format.levels();
        while level > 1 && span.is_within_one_entry(level) {
            let entry = table.load(index_of(span.first(), level)).unwrap_or(0);
            match memory.decode(level, entry) {
                Entry::NotPresent => break,
                Entry::Table { address, .. } => table = memory.view(Hpa::new(address)),
                refused => return Err(in_the_way(refused, span)),
            }
            level = level.saturating_sub(1);
        }
        Ok((table, level))
    }
}
