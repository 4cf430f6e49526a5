//! The PASID directory of one device and its PASID tables (§9.5, §9.6).

use super::{Change, cell_address, no_memory, words_at};
use crate::explain::Visited;
use crate::tables::frame_number;
use crate::tables::pasid::{PasidDirectoryEntry, PasidEntry};
use alloc::vec::Vec;
use iommu_core::{Coherence, Frame, Hpa, Order, OutOfFrames, Pasid, Platform};

/// PASIDs below 2^15 need a directory of one page; the others one of 2^14 entries.
const SMALL: Order = Order::PAGE;
/// PASIDs in a directory of one page: 512 entries of 64 PASIDs.
const SMALL_PASIDS: u32 = 1 << 15;
/// 128 KiB.
const LARGE_LOG2: u8 = 5;

/// A device's directory and tables.
#[derive(Debug)]
pub(crate) struct Directory {
    frame: Frame,
    /// Sorted by index into the directory.
    tables: Vec<(u16, Frame)>,
    /// What the context entry says; 0 but in tests.
    rid_pasid: u32,
}

fn order_for(pasid: Pasid) -> Order {
    if pasid.as_u32() < SMALL_PASIDS {
        SMALL
    } else {
        Order::new(LARGE_LOG2).unwrap_or(SMALL)
    }
}

/// Index into the directory.
fn directory_index(pasid: Pasid) -> u16 {
    (pasid.as_u32() >> 6) as u16
}

/// First cell of the entry in its table.
fn entry_cell(pasid: Pasid) -> usize {
    ((pasid.as_u32() & 0x3f) as usize) << 3
}

impl Directory {
    /// An empty directory that has a place for `pasid`.
    pub(crate) fn new<P: Platform>(platform: &P, pasid: Pasid) -> Result<Self, OutOfFrames> {
        Ok(Self {
            frame: platform.allocate(order_for(pasid))?,
            tables: Vec::new(),
            rid_pasid: 0,
        })
    }

    pub(crate) fn dispose<P: Platform>(self, platform: &P) {
        platform.release(self.frame);
        for (_, table) in self.tables {
            platform.release(table);
        }
    }

    /// Where it lies, and PDTS: 2^(PDTS+7) entries.
    pub(crate) fn pointer(&self) -> (Hpa, u8) {
        (
            self.frame.hpa(),
            self.frame.order().log2().saturating_add(2),
        )
    }

    pub(crate) fn rid_pasid(&self) -> u32 {
        self.rid_pasid
    }

    #[cfg(feature = "test-hooks")]
    pub(crate) fn set_rid_pasid(&mut self, pasid: Pasid) {
        self.rid_pasid = pasid.as_u32();
    }

    /// Makes the entry of `pasid` what is given. The context entry must be written anew if
    /// the result says so.
    pub(crate) fn set<P: Platform>(
        &mut self,
        platform: &P,
        pasid: Pasid,
        entry: PasidEntry,
        coherence: Coherence,
    ) -> Result<Change, OutOfFrames> {
        match self.find(pasid) {
            Ok(position) => self.rewrite(platform, position, pasid, entry, coherence),
            Err(_) if !entry.word0.p() => Ok(Change::default()),
            Err(position) => self.add_table(platform, position, pasid, entry, coherence),
        }
    }

    /// The first entry of a table: filled out of sight, then linked.
    fn add_table<P: Platform>(
        &mut self,
        platform: &P,
        position: usize,
        pasid: Pasid,
        entry: PasidEntry,
        coherence: Coherence,
    ) -> Result<Change, OutOfFrames> {
        self.tables.try_reserve(1).map_err(no_memory)?;
        let mut table = platform.allocate(Order::PAGE)?;
        let mut change = Change::default();
        if order_for(pasid) > self.frame.order() {
            match self.grow(platform, order_for(pasid), coherence) {
                Ok(retired) => {
                    change.retired = Some(retired);
                    change.context_changed = true;
                }
                Err(error) => {
                    platform.release(table);
                    return Err(error);
                }
            }
        }
        let cell = entry_cell(pasid);
        for (offset, word) in entry.words().into_iter().enumerate() {
            table.store_private(cell.saturating_add(offset), word);
        }
        flush_private(platform, &table, coherence);
        self.link(platform, directory_index(pasid), &table, coherence);
        self.tables
            .insert(position, (directory_index(pasid), table));
        Ok(change)
    }

    /// Replaces the directory by a larger one with the same entries. The context entry
    /// leads to the old one until it is written anew.
    fn grow<P: Platform>(
        &mut self,
        platform: &P,
        order: Order,
        coherence: Coherence,
    ) -> Result<Frame, OutOfFrames> {
        let mut larger = platform.allocate(order)?;
        for index in 0..Frame::CELLS_IN_PAGE {
            if let Some(word) = self.frame.load(index) {
                larger.store_private(index, word);
            }
        }
        flush_private(platform, &larger, coherence);
        let small = core::mem::replace(&mut self.frame, larger);
        Ok(small)
    }

    fn link<P: Platform>(&self, platform: &P, index: u16, table: &Frame, coherence: Coherence) {
        let entry = PasidDirectoryEntry::new()
            .with_p(true)
            .with_smptblptr(frame_number(table.hpa()));
        platform.publish64(
            &self.frame,
            usize::from(index),
            entry.into_bits(),
            coherence,
        );
    }

    fn rewrite<P: Platform>(
        &mut self,
        platform: &P,
        position: usize,
        pasid: Pasid,
        entry: PasidEntry,
        coherence: Coherence,
    ) -> Result<Change, OutOfFrames> {
        let cell = entry_cell(pasid);
        let Some((_, table)) = self.tables.get(position) else {
            return Ok(Change::default());
        };
        let old = load_entry(table, cell);
        let words = entry.words();
        let replaces = old.word0.p() && entry.word0.p();
        // Hardware fetches the entry in pieces of 128 bits, so changes of two pieces must not
        // be seen apart.
        let first_stage = entry.word0.pgtt().uses_first_stage() && old.word2 != entry.word2;
        let tables = first_stage || (old.word0, old.word1) != (entry.word0, entry.word1);
        let permissions = (old.word4, old.word5) != (entry.word4, entry.word5);
        if replaces && (first_stage || (tables && permissions)) {
            return self.replace_table(platform, position, pasid, entry, coherence);
        }
        let word = |offset: usize| words.get(offset).copied().unwrap_or(0);
        let store = |offset: usize| {
            let pair = [word(offset), word(offset.saturating_add(1))];
            platform.publish128(table, cell.saturating_add(offset), pair, coherence);
        };
        if entry.word0.p() && permissions {
            store(4);
        }
        if entry.word0.p() && entry.word0.pgtt().uses_first_stage() {
            platform.publish64(table, cell.saturating_add(2), word(2), coherence);
        }
        store(0);
        Ok(Change {
            hitless: replaces,
            ..Change::default()
        })
    }

    /// Copies the table with one entry changed, and puts the copy in its place.
    fn replace_table<P: Platform>(
        &mut self,
        platform: &P,
        position: usize,
        pasid: Pasid,
        entry: PasidEntry,
        coherence: Coherence,
    ) -> Result<Change, OutOfFrames> {
        let mut copy = platform.allocate(Order::PAGE)?;
        let Some((index, table)) = self.tables.get_mut(position) else {
            platform.release(copy);
            return Ok(Change::default());
        };
        let index = *index;
        for cell in 0..Frame::CELLS_IN_PAGE {
            if let Some(word) = table.load(cell) {
                copy.store_private(cell, word);
            }
        }
        let cell = entry_cell(pasid);
        for (offset, word) in entry.words().into_iter().enumerate() {
            copy.store_private(cell.saturating_add(offset), word);
        }
        flush_private(platform, &copy, coherence);
        let old = core::mem::replace(table, copy);
        if let Some((_, table)) = self.tables.get(position) {
            self.link(platform, index, table, coherence);
        }
        Ok(Change {
            hitless: true,
            table_replaced: true,
            retired: Some(old),
            ..Change::default()
        })
    }

    /// Zeroes what was left of an entry that is not present.
    pub(crate) fn finish_removal<P: Platform>(
        &self,
        platform: &P,
        pasid: Pasid,
        coherence: Coherence,
    ) {
        let Ok(position) = self.find(pasid) else {
            return;
        };
        if let Some((_, table)) = self.tables.get(position) {
            let cell = entry_cell(pasid);
            if !load_entry(table, cell).word0.p() {
                platform.publish64(table, cell.saturating_add(2), 0, coherence);
                platform.publish128(table, cell.saturating_add(4), [0, 0], coherence);
            }
        }
    }

    /// The directory entry above `pasid`, and the table entry if there is a table.
    pub(crate) fn entries(&self, pasid: Pasid) -> (Option<Visited>, Option<Visited>) {
        let index = directory_index(pasid);
        let directory = self.frame.load(usize::from(index)).map(|_| Visited {
            at: cell_address(&self.frame, usize::from(index)),
            index,
            words: words_at(&self.frame, usize::from(index), 1),
        });
        let cell = entry_cell(pasid);
        let table = self.find(pasid).ok().and_then(|at| self.tables.get(at));
        let entry = table.map(|(_, table)| Visited {
            at: cell_address(table, cell),
            index: (pasid.as_u32() & 0x3f) as u16,
            words: words_at(table, cell, PasidEntry::CELLS),
        });
        (directory, entry)
    }

    /// Tells every entry that is not all zeroes.
    pub(crate) fn inspect(&self, tell: &mut dyn FnMut(Pasid, PasidEntry)) {
        for (index, table) in &self.tables {
            for offset in 0..0x40u32 {
                let Some(pasid) = Pasid::new(u32::from(*index) << 6 | offset) else {
                    continue;
                };
                let entry = load_entry(table, entry_cell(pasid));
                if entry != PasidEntry::default() {
                    tell(pasid, entry);
                }
            }
        }
    }

    fn find(&self, pasid: Pasid) -> Result<usize, usize> {
        self.tables
            .binary_search_by_key(&directory_index(pasid), |(index, _)| *index)
    }
}

/// Makes what was stored plainly visible to hardware that does not snoop.
fn flush_private<P: Platform>(platform: &P, table: &Frame, coherence: Coherence) {
    if coherence == Coherence::WriteBack {
        platform.write_back(table, 0..Frame::CELLS_IN_PAGE);
    }
}

fn load_entry(table: &Frame, cell: usize) -> PasidEntry {
    PasidEntry::from_words(words_at(table, cell, PasidEntry::CELLS))
}
