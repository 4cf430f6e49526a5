//! One table below the root, and at level 1 the counters of its pages.

use super::counts::{Counts, position};
use crate::spec::PagePermission;
use iommu_core::{
    Access, Coherence, Frame, Hpa, Order, OutOfFrames, PAGE_SHIFT, PAGE_SIZE, Platform,
};

/// Pages that a table of level 1 governs: 256 entries of 32 pages.
pub(super) const PAGES: u64 = 1 << 13;

/// Pages of one entry of level 1, in two words of 16 each.
const PER_ENTRY: u64 = 32;

/// Order of the counters: 8,192 pages of 16 bits.
const COUNTERS_LOG2: u8 = 2;

/// Level, and the host addresses that a table governs, by their upper bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    level: u8,
    region: u64,
}

/// Address bits below those that select a table of the level, or an entry of the one above.
const fn shift_of(level: u8) -> u32 {
    match level {
        1 => 25,
        2 => 33,
        _ => 41,
    }
}

impl Place {
    /// The table of a level that governs a page.
    pub(super) fn of(level: u8, page: Hpa) -> Self {
        Self {
            level,
            region: page.as_u64() >> shift_of(level),
        }
    }

    /// The table that leads to this one. Level 4 is the root.
    pub(super) fn above(self) -> Self {
        Self {
            level: self.level.saturating_add(1),
            region: self.region >> 8,
        }
    }

    /// The first cell of the entry there.
    pub(super) fn cell_above(self) -> usize {
        (self.region as usize & 0xff) << 1
    }
}

/// A table.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) table: Frame,
    /// At level 1.
    counters: Option<Frame>,
    /// An entry leads to it.
    pub(super) linked: bool,
    /// Counters went down since the entries were written.
    pub(super) pending: bool,
}

impl Node {
    pub(super) fn new<P: Platform>(platform: &P, place: Place) -> Result<Self, OutOfFrames> {
        let table = platform.allocate(Order::PAGE)?;
        let counters = if place.level == 1 {
            let order = Order::new(COUNTERS_LOG2).unwrap_or(Order::PAGE);
            match platform.allocate(order) {
                Ok(counters) => Some(counters),
                Err(error) => {
                    platform.release(table);
                    return Err(error);
                }
            }
        } else {
            None
        };
        Ok(Self {
            place,
            table,
            counters,
            linked: false,
            pending: false,
        })
    }

    pub(super) fn pages(&self) -> usize {
        let counters = self.counters.as_ref().map_or(0, |it| it.order().pages());
        (counters as usize).saturating_add(1)
    }

    /// Gives all memory back: hardware never knew the table.
    pub(super) fn release<P: Platform>(self, platform: &P) {
        let table = self.give_up(platform);
        platform.release(table);
    }

    /// Gives the counters back, which hardware never sees, and hands the table out.
    pub(super) fn give_up<P: Platform>(self, platform: &P) -> Frame {
        if let Some(counters) = self.counters {
            platform.release(counters);
        }
        self.table
    }

    /// The first page of the region, at level 1.
    pub(super) fn first_page(&self) -> Hpa {
        Hpa::new(self.place.region << shift_of(self.place.level))
    }

    /// Whether one more place can be counted for each of these pages; otherwise the first
    /// that cannot.
    pub(super) fn room(&self, page: Hpa, pages: u64, access: Access) -> Result<(), Hpa> {
        for (index, at) in indices(page, pages) {
            let counts = self.counts(index);
            let full = access.reads() && counts.reads == u8::MAX
                || access.writes() && counts.writes == u8::MAX;
            if full {
                return Err(at);
            }
        }
        Ok(())
    }

    /// Changes the counters of pages.
    pub(super) fn count(
        &mut self,
        page: Hpa,
        pages: u64,
        access: Access,
        change: impl Fn(u8) -> u8,
    ) {
        for (index, _) in indices(page, pages) {
            let mut counts = self.counts(index);
            if access.reads() {
                counts.reads = change(counts.reads);
            }
            if access.writes() {
                counts.writes = change(counts.writes);
            }
            let (cell, shift) = position(index);
            if let Some(counters) = &mut self.counters {
                let word = counters.load(cell).unwrap_or(0);
                counters.store_private(cell, counts.within(word, shift));
            }
        }
    }

    /// Writes the entries of pages as the counters have it. `adds`: what is shown already
    /// and not counted any more stays until it is revoked.
    pub(super) fn show<P: Platform>(
        &self,
        platform: &P,
        page: Hpa,
        pages: u64,
        coherence: Coherence,
        adds: bool,
    ) {
        let first = index_of(page);
        let last = first.saturating_add(pages.saturating_sub(1));
        for entry in first / PER_ENTRY..=last / PER_ENTRY {
            let cell = (entry as usize) << 1;
            let shown = [cell, cell | 1].map(|cell| self.table.load(cell).unwrap_or(0));
            let first_page = entry.saturating_mul(PER_ENTRY);
            let mut words = [
                self.permissions(first_page),
                self.permissions(first_page.saturating_add(PER_ENTRY / 2)),
            ];
            if adds {
                for (word, shown) in words.iter_mut().zip(shown) {
                    *word |= shown;
                }
            }
            if words != shown {
                platform.publish128(&self.table, cell, words, coherence);
            }
        }
    }

    /// What the entry of a page permits.
    pub(super) fn shown(&self, page: Hpa) -> Access {
        let index = index_of(page);
        let word = self.table.load((index >> 4) as usize).unwrap_or(0);
        let bits = word.checked_shr((index as u32 & 15) << 2).unwrap_or(0);
        let permission = PagePermission::from_bits(bits as u8 & 0xf);
        match (permission.read(), permission.write()) {
            (true, true) => Access::READ_WRITE,
            (true, false) => Access::READ,
            (false, true) => Access::WRITE,
            (false, false) => Access::NONE,
        }
    }

    /// PPi of 16 pages by their counters.
    fn permissions(&self, first: u64) -> u64 {
        (0..16u64).fold(0, |word, offset| {
            let counts = self.counts(first.saturating_add(offset));
            let permission = PagePermission::new()
                .with_read(counts.reads > 0)
                .with_write(counts.writes > 0);
            word | u64::from(permission.into_bits()) << (offset << 2)
        })
    }

    fn counts(&self, index: u64) -> Counts {
        let (cell, shift) = position(index);
        let word = self.counters.as_ref().and_then(|it| it.load(cell));
        Counts::of(word.unwrap_or(0), shift)
    }
}

/// The index of a page in its region.
fn index_of(page: Hpa) -> u64 {
    page.as_u64() >> PAGE_SHIFT & PAGES.wrapping_sub(1)
}

/// The pages of a piece of one region: index and address.
fn indices(page: Hpa, pages: u64) -> impl Iterator<Item = (u64, Hpa)> {
    let first = index_of(page);
    let address = page.as_u64();
    (0..pages).map(move |offset| {
        let at = address.wrapping_add(offset.wrapping_mul(PAGE_SIZE));
        (first.wrapping_add(offset), Hpa::new(at))
    })
}
