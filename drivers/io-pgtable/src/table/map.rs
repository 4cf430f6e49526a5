//! Mapping: first count what is missing and find out whether anything is in the way, then
//! allocate, then write. After the first write nothing can fail.

use super::memory::{Memory, Reserve};
use super::runs::{Cursor, Runs};
use super::span::Span;
use crate::entry::{Entry, encode_table};
use crate::geometry::span_shift;
use core::iter::{once, repeat_with};
use core::ops::Range;
use core::sync::atomic::Ordering;
use iommu_core::{
    Access, Address, Frame, Hpa, Iova, LeafSizes, MapError, Order, PAGE_SHIFT, PAGE_SIZE, Platform,
};

/// A range on its way into the tables.
#[derive(Clone)]
pub(crate) struct Mapping<'r> {
    source: Cursor<'r>,
    /// Large pages that can occur.
    sizes: LeafSizes,
    access: Access,
}

impl<'r> Mapping<'r> {
    /// `leaves` is what the unit accepts. 1 GiB pages are used only beside 2 MiB ones, into
    /// which they are split.
    pub(crate) fn new(runs: &Runs<'r>, leaves: LeafSizes, access: Access) -> Self {
        let mib2 = leaves.mib2 && runs.longest >= Order::PAGE_2M.pages();
        Self {
            source: runs.cursor(),
            sizes: LeafSizes {
                mib2,
                gib1: mib2 && leaves.gib1,
            },
            access,
        }
    }

    /// How many leaves of `level` can map what comes next, from the start of `span`.
    fn leaves_ahead(&self, level: u8, span: Span) -> u64 {
        let occurs = match level {
            2 => self.sizes.mib2,
            3 => self.sizes.gib1,
            _ => false,
        };
        let shift = span_shift(level);
        let is_aligned =
            || Iova::new(span.first()).is_aligned(shift) && self.source.hpa().is_aligned(shift);
        if !occurs || !is_aligned() {
            return 0;
        }
        let pages_a_leaf = shift.saturating_sub(PAGE_SHIFT);
        let leaves = span.pages() >> pages_a_leaf;
        let contiguous = self.source.contiguous(leaves << pages_a_leaf);
        leaves.min(contiguous >> pages_a_leaf)
    }
}

impl<P: Platform> Memory<'_, P> {
    /// How many tables must be added to `table`, of `level`, so that `span` can be mapped.
    /// `None` is a table that does not exist yet.
    pub(crate) fn missing_tables(
        &self,
        table: Option<&Frame>,
        level: u8,
        span: Span,
        mapping: &mut Mapping<'_>,
    ) -> Result<usize, MapError> {
        if level <= 1 {
            if mapping.sizes.mib2 {
                mapping.source.skip(span.pages());
            }
            return table.map_or(Ok(0), |table| self.expect_free(table, span));
        }
        let below = level.saturating_sub(1);
        let mut missing = 0usize;
        let mut rest = Some(span);
        while let Some(span) = rest {
            let leaves = mapping.leaves_ahead(level, span);
            let entries = span.first_entries(level, leaves);
            let free = table.map_or(entries.len(), |table| self.free_entries(table, entries));
            if free > 0 {
                let (taken, behind) = span.split_entries(level, free as u64);
                mapping.source.skip(taken.pages());
                rest = behind;
                continue;
            }
            let (piece, behind) = span.split_entries(level, 1);
            let index = piece.entries(level).start;
            let entry = table.and_then(|table| table.load(index)).unwrap_or(0);
            let added = match self.decode(level, entry) {
                Entry::NotPresent => self
                    .missing_tables(None, below, piece, mapping)?
                    .saturating_add(1),
                Entry::Table { address, .. } => {
                    let child = self.view(Hpa::new(address));
                    self.missing_tables(Some(&child), below, piece, mapping)?
                }
                refused => return Err(in_the_way(refused, piece)),
            };
            missing = missing.saturating_add(added);
            rest = behind;
        }
        Ok(missing)
    }

    /// Maps `span` in a table: one that hardware may reach if `LIVE`, or an empty one of
    /// our own. Says whether entries that lead to tables were written, and not leaves
    /// alone.
    pub(crate) fn fill<const LIVE: bool>(
        &self,
        table: &Frame,
        level: u8,
        span: Span,
        mapping: &mut Mapping<'_>,
        reserve: &mut Reserve,
    ) -> bool {
        let linked = if level <= 1 {
            self.fill_pages::<LIVE>(table, span.entries(1), mapping);
            false
        } else {
            self.fill_entries::<LIVE>(table, level, span, mapping, reserve)
        };
        self.write_back(table, span.entries(level));
        linked
    }

    fn fill_entries<const LIVE: bool>(
        &self,
        table: &Frame,
        level: u8,
        span: Span,
        mapping: &mut Mapping<'_>,
        reserve: &mut Reserve,
    ) -> bool {
        let below = level.saturating_sub(1);
        let mut linked = false;
        let mut rest = Some(span);
        while let Some(span) = rest {
            let ahead = mapping.leaves_ahead(level, span);
            if ahead > 0 {
                let (taken, behind) = span.split_entries(level, ahead);
                let first = self.leaf(level, mapping.source.hpa(), mapping.access);
                let entries = leaves(first, span_shift(level));
                self.store::<LIVE>(table, taken.entries(level), entries);
                mapping.source.skip(taken.pages());
                rest = behind;
                continue;
            }
            let (piece, behind) = span.split_entries(level, 1);
            let index = piece.entries(level).start;
            let entry = if LIVE { table.load(index) } else { None };
            match self.decode(level, entry.unwrap_or(0)) {
                Entry::Table { address, .. } => {
                    let child = self.view(Hpa::new(address));
                    linked |= self.fill::<true>(&child, below, piece, mapping, reserve);
                }
                Entry::NotPresent => {
                    linked = true;
                    let address = self.build(below, piece, mapping, reserve);
                    let entry = address.map_or(0, |table| encode_table(self.format, level, table));
                    self.store::<LIVE>(table, index..index.wrapping_add(1), once(entry));
                }
                // Was looked for before; nobody of ours writes in between.
                Entry::Leaf { .. } | Entry::Reserved => mapping.source.skip(piece.pages()),
            }
            rest = behind;
        }
        linked
    }

    /// A new table of `level` that maps `span`.
    fn build(
        &self,
        level: u8,
        span: Span,
        mapping: &mut Mapping<'_>,
        reserve: &mut Reserve,
    ) -> Option<Hpa> {
        // The pages were counted by `missing_tables`, so there is one.
        let table = reserve.take()?;
        self.fill::<false>(&table, level, span, mapping, reserve);
        Some(table.leak())
    }

    /// Stores 4 KiB leaves.
    fn fill_pages<const LIVE: bool>(
        &self,
        table: &Frame,
        mut left: Range<usize>,
        mapping: &mut Mapping<'_>,
    ) {
        // All leaves are alike but for the address, which is 0 here.
        let template = self.leaf(1, Hpa::new(0), mapping.access);
        while !left.is_empty() {
            let singles = mapping.source.take_single_pages(left.len());
            let end = left.start.saturating_add(singles.len());
            let scattered = singles.iter().map(|run| template | run.hpa.as_u64());
            self.store::<LIVE>(table, left.start..end, scattered);

            let (hpa, pages) = mapping.source.take(end.abs_diff(left.end) as u64);
            left.start = end.saturating_add(pages as usize);
            let contiguous = leaves(template | hpa.as_u64(), PAGE_SHIFT);
            self.store::<LIVE>(table, end..left.start, contiguous);
            if singles.is_empty() && pages == 0 {
                return;
            }
        }
    }

    /// Stores as many entries as there are places for them.
    #[inline(always)]
    fn store<const LIVE: bool>(
        &self,
        table: &Frame,
        places: Range<usize>,
        mut entries: impl Iterator<Item = u64>,
    ) {
        if LIVE {
            for (index, entry) in places.zip(entries) {
                self.publish_unwritten(table, index, entry);
            }
            return;
        }
        for cell in table.cells().get(places).unwrap_or_default() {
            cell.store(entries.next().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// How many of these entries, from the first on, are not present.
    fn free_entries(&self, table: &Frame, entries: Range<usize>) -> usize {
        let cells = table.cells().get(entries).unwrap_or_default();
        cells
            .iter()
            .take_while(|entry| !self.is_present(entry.load(Ordering::Relaxed)))
            .count()
    }

    /// Fails if anything is mapped in `span`, of a table of 4 KiB leaves.
    fn expect_free(&self, table: &Frame, span: Span) -> Result<usize, MapError> {
        let entries = span.entries(1);
        let free = self.free_entries(table, entries.clone());
        if free == entries.len() {
            return Ok(0);
        }
        let beyond = (free as u64).saturating_mul(PAGE_SIZE);
        Err(MapError::Occupied(Iova::new(
            span.first().saturating_add(beyond),
        )))
    }
}

/// The leaves of contiguous memory, without end; each spans `1 << shift` bytes.
fn leaves(first: u64, shift: u32) -> impl Iterator<Item = u64> {
    // The address field counts bytes from bit 12 up, so the next leaf is one span further.
    let (mut next, step) = (first, 1u64 << shift);
    repeat_with(move || {
        let entry = next;
        next = next.wrapping_add(step);
        entry
    })
}

/// Why an entry that is neither absent nor a table cannot be passed.
pub(crate) fn in_the_way(entry: Entry, span: Span) -> MapError {
    let iova = Iova::new(span.first());
    match entry {
        Entry::Leaf { .. } => MapError::Occupied(iova),
        _ => MapError::Corrupt(iova),
    }
}
