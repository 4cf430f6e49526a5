//! How tables are read, made and changed: the only place of this crate that touches
//! memory.
//!
//! # Invariants that the `unsafe` here rests on
//! 1. Every entry of a table that decodes as [`Entry::Table`] was made by
//!    [`encode_table`](crate::encode_table) of a page that the platform allocated and that
//!    was leaked into the entry; the page is released only after the entry is gone. The
//!    root is such a page too.
//! 2. All functions of one [`PageTable`](super::PageTable) are given the same memory by
//!    their platform; its maker promised that.
//! 3. One table page has one entry that leads to it, so a page is owned once.

use super::TableConfig;
use crate::entry::{Entry, decode, encode_leaf, is_present, with_dirty, without_dirty};
use crate::spec::SecondStageEntry;
use core::mem::{self, ManuallyDrop};
use core::ops::{Deref, Range};
use core::sync::atomic::Ordering;
use iommu_core::sync::atomic::AtomicU64;
use iommu_core::{
    Access, Coherence, Frame, FrameList, Hpa, Order, OutOfFrames, Platform, Stage, TableFormat,
};

/// A table's memory, its format, and what the unit accepts.
pub(crate) struct Memory<'a, P> {
    pub(crate) platform: &'a P,
    pub(crate) format: TableFormat,
    pub(crate) config: &'a TableConfig,
}

/// A table page that stays where it is.
pub(crate) struct View(ManuallyDrop<Frame>);

impl Deref for View {
    type Target = Frame;

    fn deref(&self) -> &Frame {
        &self.0
    }
}

impl<P: Platform> Memory<'_, P> {
    /// The table page at an address that an [`Entry::Table`] or the root gave.
    pub(crate) fn view(&self, address: Hpa) -> View {
        View(ManuallyDrop::new(self.adopt(address)))
    }

    /// Puts a table page that no entry leads to any more on the list.
    pub(crate) fn withdraw(&self, address: Hpa, frames: &mut FrameList) {
        // A single page is never refused.
        let _ = frames.push(self.adopt(address)).map_err(mem::forget);
    }

    fn adopt(&self, address: Hpa) -> Frame {
        // SAFETY: invariants 1 and 2: such a page of this platform. Invariant 3: its one
        // owner is the entry, which a view leaves alone and which is gone when the page is
        // withdrawn.
        unsafe { self.platform.adopt(address, Order::PAGE) }
    }

    pub(crate) fn decode(&self, level: u8, entry: u64) -> Entry {
        decode(self.format, level, entry, &self.config.limits)
    }

    pub(crate) fn is_present(&self, entry: u64) -> bool {
        is_present(self.format, entry)
    }

    /// Whether no entry of the table is present.
    ///
    /// Every unmapping of a part of a table ends with this, so entries are looked at many at
    /// a time.
    pub(crate) fn is_empty(&self, table: &Frame) -> bool {
        let any_of = |entries: &[AtomicU64]| {
            entries
                .iter()
                .fold(0, |bits, entry| bits | entry.load(Ordering::Relaxed))
        };
        let mut many = table.cells().chunks(TOGETHER);
        many.all(|entries| !self.is_present(any_of(entries)))
    }

    /// A leaf entry with the attributes that this table's leaves have.
    pub(crate) fn leaf(&self, level: u8, page: Hpa, access: Access) -> u64 {
        let leaf = encode_leaf(self.format, level, page, access);
        let snoops = self.config.snoop && self.config.limits.snoop_control;
        if leaf == 0 || self.format.stage() == Stage::First {
            return leaf;
        }
        let memory_type = self.config.memory_type.map_or(0, |kind| kind as u8);
        SecondStageEntry::from_bits(leaf)
            .with_snoop(snoops)
            .with_memory_type(memory_type & 7)
            .into_bits()
    }

    /// Stores one entry of a table that hardware can reach, or could.
    pub(crate) fn publish(&self, table: &Frame, index: usize, entry: u64) {
        let coherence = self.config.coherence;
        self.platform.publish64(table, index, entry, coherence);
    }

    /// Puts an entry in the place of one in which hardware sets flags, and tells which one
    /// that was, with all flags that it had at that moment.
    pub(crate) fn exchange(&self, table: &Frame, index: usize, entry: u64) -> u64 {
        let mut known = table.load(index).unwrap_or(0);
        for _ in 0..EXCHANGES {
            let coherence = self.config.coherence;
            let done = self
                .platform
                .exchange64(table, index, known, entry, coherence);
            match done {
                Ok(()) => return known,
                Err(found) => known = found,
            }
        }
        self.publish(table, index, entry);
        with_dirty(known)
    }

    /// Clears the dirty flag of a leaf. Says whether that was done.
    pub(crate) fn clear_dirty(&self, table: &Frame, index: usize) -> bool {
        let mut known = table.load(index).unwrap_or(0);
        for _ in 0..EXCHANGES {
            let clean = without_dirty(known);
            let coherence = self.config.coherence;
            let done = self
                .platform
                .exchange64(table, index, known, clean, coherence);
            match done {
                Ok(()) => return true,
                Err(found) => known = found,
            }
        }
        false
    }

    /// Stores one of several entries that are written back together.
    pub(crate) fn publish_unwritten(&self, table: &Frame, index: usize, entry: u64) {
        let coherence = Coherence::Snooped;
        self.platform.publish64(table, index, entry, coherence);
    }

    /// Brings stored entries to hardware that does not snoop.
    pub(crate) fn write_back(&self, table: &Frame, entries: Range<usize>) {
        if self.config.coherence == Coherence::WriteBack && !entries.is_empty() {
            self.platform.write_back(table, entries);
        }
    }

    /// Allocates all pages that an operation will need, or none.
    pub(crate) fn reserve(&self, pages: usize) -> Result<Reserve, OutOfFrames> {
        let mut reserve = Reserve(FrameList::new());
        for _ in 0..pages {
            match self.platform.allocate(Order::PAGE) {
                Ok(frame) => {
                    // A single page is never refused.
                    let _ = reserve.0.push(frame).map_err(mem::forget);
                }
                Err(error) => {
                    self.give_back(reserve);
                    return Err(error);
                }
            }
        }
        Ok(reserve)
    }

    /// Releases what an operation did not need: hardware never knew these pages.
    pub(crate) fn give_back(&self, mut reserve: Reserve) {
        while let Some(frame) = reserve.0.pop() {
            self.platform.release(frame);
        }
    }
}

/// Entries whose presence is looked at together: one is, if any is.
const TOGETHER: usize = 64;

/// Between two looks at an entry hardware can set two flags, so more attempts mean that
/// somebody else writes there.
const EXCHANGES: u32 = 8;

/// Pages for tables to come.
#[must_use = "pages that are not used go back to their platform"]
pub(crate) struct Reserve(FrameList);

/// Cells that a list of frames uses for its links.
const LINK_CELLS: Range<usize> = 0..2;

impl Reserve {
    /// An empty table. Hardware that does not snoop may read the list's links where nothing
    /// is stored over them; they are not present, like the zeroes that belong there.
    pub(crate) fn take(&mut self) -> Option<Frame> {
        let mut frame = self.0.pop()?;
        for index in LINK_CELLS {
            frame.store_private(index, 0);
        }
        Some(frame)
    }
}
