//! Mapping: first count what is missing and find out whether anything is in the way, then
//! allocate, then write. After the first write nothing can fail.

use super::memory::{Memory, Reserve};
use super::runs::Cursor;
use super::span::{Piece, Span};
use crate::entry::{Entry, encode_table};
use crate::geometry::span_shift;
use core::ops::Range;
use core::sync::atomic::Ordering;
use iommu_core::{Access, Address, Frame, Hpa, Iova, MapError, PAGE_SIZE, Platform};

impl<P: Platform> Memory<'_, P> {
    /// How many tables must be added to `table`, of `level`, so that `span` can be mapped.
    /// `None` is a table that does not exist yet.
    pub(crate) fn missing_tables(
        &self,
        table: Option<&Frame>,
        level: u8,
        span: Span,
        source: &mut Cursor<'_>,
    ) -> Result<usize, MapError> {
        if level <= 1 {
            source.skip(span.pages());
            return table.map_or(Ok(0), |table| self.expect_free(table, span));
        }
        let mut missing = 0usize;
        for piece in span.pieces(level) {
            let entry = table.and_then(|table| table.load(piece.index)).unwrap_or(0);
            let below = level.saturating_sub(1);
            let added = match self.decode(level, entry) {
                Entry::NotPresent if self.fits_leaf(level, piece, source) => {
                    source.skip(piece.span.pages());
                    0
                }
                Entry::NotPresent => self
                    .missing_tables(None, below, piece.span, source)?
                    .saturating_add(1),
                Entry::Table { address, .. } => {
                    let child = self.view(Hpa::new(address));
                    self.missing_tables(Some(&child), below, piece.span, source)?
                }
                refused => return Err(in_the_way(refused, piece.span)),
            };
            missing = missing.saturating_add(added);
        }
        Ok(missing)
    }

    /// Maps `span` in a table that hardware may reach. Says whether entries that lead to
    /// tables were written, and not leaves alone.
    pub(crate) fn fill(
        &self,
        table: &Frame,
        level: u8,
        span: Span,
        access: Access,
        source: &mut Cursor<'_>,
        reserve: &mut Reserve,
    ) -> bool {
        if level <= 1 {
            self.fill_leaves(table, span, access, source);
            return false;
        }
        let mut linked = false;
        for piece in span.pieces(level) {
            let entry = table.load(piece.index).unwrap_or(0);
            match self.decode(level, entry) {
                Entry::Table { address, .. } => {
                    let child = self.view(Hpa::new(address));
                    let below = level.saturating_sub(1);
                    linked |= self.fill(&child, below, piece.span, access, source, reserve);
                }
                Entry::NotPresent => {
                    let leaf = self.take_leaf(level, piece, access, source);
                    linked |= leaf.is_none();
                    let entry = leaf.unwrap_or_else(|| {
                        self.build_table(level, piece.span, access, source, reserve)
                    });
                    self.publish(table, piece.index, entry);
                }
                // Was looked for before; nobody of ours writes in between.
                Entry::Leaf { .. } | Entry::Reserved => source.skip(piece.span.pages()),
            }
        }
        linked
    }

    /// A new table that maps `span`, as an entry of `level`.
    fn build_table(
        &self,
        level: u8,
        span: Span,
        access: Access,
        source: &mut Cursor<'_>,
        reserve: &mut Reserve,
    ) -> u64 {
        let below = level.saturating_sub(1);
        // The pages were counted by `missing_tables`, so there is one.
        let Some(mut table) = reserve.take() else {
            source.skip(span.pages());
            return 0;
        };
        if below <= 1 {
            self.store_leaves(table.frame(), span, access, source);
        } else {
            for piece in span.pieces(below) {
                let leaf = self.take_leaf(below, piece, access, source);
                let entry = leaf.unwrap_or_else(|| {
                    self.build_table(below, piece.span, access, source, reserve)
                });
                table.store(piece.index, entry);
            }
        }
        let address = table.seal(self, span.entries(below));
        encode_table(self.format, level, address)
    }

    /// Maps `piece` by a leaf of `level`, if one fits.
    fn take_leaf(
        &self,
        level: u8,
        piece: Piece,
        access: Access,
        source: &mut Cursor<'_>,
    ) -> Option<u64> {
        let page = source
            .hpa()
            .filter(|_| self.fits_leaf(level, piece, source))?;
        source.skip(piece.span.pages());
        Some(self.leaf(level, page, access))
    }

    /// Whether a leaf of `level` can map all of `piece`.
    fn fits_leaf(&self, level: u8, piece: Piece, source: &Cursor<'_>) -> bool {
        let leaves = self.config.limits.leaves;
        let accepted = match level {
            2 => leaves.mib2,
            // A 1 GiB page that is cut in two becomes 2 MiB pages.
            3 => leaves.mib2 && leaves.gib1,
            _ => false,
        };
        accepted
            && piece.whole
            && source
                .hpa()
                .is_some_and(|hpa| hpa.is_aligned(span_shift(level)))
            && source.is_contiguous(piece.span.pages())
    }

    /// Stores 4 KiB leaves into a table that hardware may reach.
    fn fill_leaves(&self, table: &Frame, span: Span, access: Access, source: &mut Cursor<'_>) {
        let entries = span.entries(1);
        let mut index = entries.start;
        while let Some((hpa, pages)) = next_pages(&(index..entries.end), source) {
            for entry in self.leaves(hpa, access).take(pages) {
                self.publish_unwritten(table, index, entry);
                index = index.saturating_add(1);
            }
        }
        self.write_back(table, entries);
    }

    /// Stores 4 KiB leaves into a table of our own.
    fn store_leaves(&self, table: &mut Frame, span: Span, access: Access, source: &mut Cursor<'_>) {
        let mut left = span.entries(1);
        while let Some((hpa, pages)) = next_pages(&left, source) {
            let end = left.start.saturating_add(pages);
            let cells = table.cells().get(left.start..end).unwrap_or_default();
            for (cell, entry) in cells.iter().zip(self.leaves(hpa, access)) {
                cell.store(entry, Ordering::Relaxed);
            }
            left.start = end;
        }
    }

    /// The leaves of contiguous 4 KiB pages, without end.
    fn leaves(&self, first: Hpa, access: Access) -> impl Iterator<Item = u64> {
        let mut next = self.leaf(1, first, access);
        core::iter::repeat_with(move || {
            let entry = next;
            // The address field counts pages from bit 12 up.
            next = next.wrapping_add(PAGE_SIZE);
            entry
        })
    }

    /// Fails if anything is mapped in `span`, of a table of 4 KiB leaves.
    fn expect_free(&self, table: &Frame, span: Span) -> Result<usize, MapError> {
        let entries = table.cells().get(span.entries(1)).unwrap_or_default();
        let taken = entries
            .iter()
            .position(|entry| self.is_present(entry.load(Ordering::Relaxed)));
        match taken {
            None => Ok(0),
            Some(pages) => {
                let beyond = (pages as u64).saturating_mul(PAGE_SIZE);
                Err(MapError::Occupied(Iova::new(
                    span.first().saturating_add(beyond),
                )))
            }
        }
    }
}

/// Why an entry that is neither absent nor a table cannot be passed.
pub(crate) fn in_the_way(entry: Entry, span: Span) -> MapError {
    let iova = Iova::new(span.first());
    match entry {
        Entry::Leaf { .. } => MapError::Occupied(iova),
        _ => MapError::Corrupt(iova),
    }
}

/// The next contiguous pages of the source, as many as there are entries at most.
fn next_pages(entries: &Range<usize>, source: &mut Cursor<'_>) -> Option<(Hpa, usize)> {
    if entries.is_empty() {
        return None;
    }
    let (hpa, pages) = source.take(entries.len() as u64)?;
    Some((hpa, pages as usize))
}
