//! Unmapping: first count the tables that splits will need, then allocate, then write.
//!
//! A large page that the range covers only in part is split in steps that hardware may see
//! in any order: a table of smaller pages that translates exactly as the large page did
//! takes its place by one store, so that for no address size and frame, or size and
//! rights, change together (§6.5.3.3); only then are entries of that table cleared.

use super::memory::{Memory, Reserve};
use super::span::{Piece, Span};
use crate::entry::{Entry, encode_table, first_part, is_dirty, is_large, with_dirty};
use crate::geometry::span_shift;
use core::sync::atomic::Ordering;
use iommu_core::{Frame, FrameList, Hpa, Platform, Stage};

/// What an unmapping took away so far.
pub(crate) struct Withdrawn {
    /// Pages of tables that no entry leads to any more.
    pub(crate) frames: FrameList,
    /// Entries that lead, or led, to tables changed too.
    pub(crate) links: bool,
    /// Where translations went away, or changed their size.
    pub(crate) changed: Option<Span>,
    /// Tables that splits added.
    pub(crate) added: usize,
}

impl Withdrawn {
    pub(crate) const fn nothing() -> Self {
        Self {
            frames: FrameList::new(),
            links: false,
            changed: None,
            added: 0,
        }
    }

    pub(crate) fn note(&mut self, span: Span) {
        self.changed = Some(self.changed.map_or(span, |before| before.hull(span)));
    }
}

impl<P: Platform> Memory<'_, P> {
    /// How many tables splits will add if `span` is unmapped from `table` of `level`. Only
    /// the entries at its two ends can be cut. `None` stands for a table that a split will
    /// make: all of its entries are leaves.
    pub(crate) fn tables_for_splits(&self, table: Option<&Frame>, level: u8, span: Span) -> usize {
        if level <= 1 {
            return 0;
        }
        let below = level.saturating_sub(1);
        let mut added = 0usize;
        for piece in span.end_pieces(level).into_iter().flatten() {
            if piece.whole {
                continue;
            }
            let entry = table.and_then(|table| table.load(piece.index));
            let tables = match entry.map(|entry| self.decode(level, entry)) {
                None | Some(Entry::Leaf { .. }) => self
                    .tables_for_splits(None, below, piece.span)
                    .saturating_add(1),
                Some(Entry::Table { address, .. }) => {
                    let child = self.view(Hpa::new(address));
                    self.tables_for_splits(Some(&child), below, piece.span)
                }
                Some(Entry::NotPresent | Entry::Reserved) => 0,
            };
            added = added.saturating_add(tables);
        }
        added
    }

    /// Unmaps `span` from `table`, and drops the tables below that become empty.
    pub(crate) fn clear(
        &self,
        table: &Frame,
        level: u8,
        span: Span,
        reserve: &mut Reserve,
        out: &mut Withdrawn,
    ) {
        if level <= 1 {
            return self.clear_leaves(table, span, out);
        }
        let mut leaves_cleared = false;
        for piece in span.pieces(level) {
            let entry = table.load(piece.index).unwrap_or(0);
            // Most entries are one of these two, which costs less to see than to decode.
            if !self.is_present(entry) {
                continue;
            }
            if level <= 3 && piece.whole && is_large(entry) {
                self.publish_unwritten(table, piece.index, 0);
                out.note(piece.span);
                leaves_cleared = true;
                continue;
            }
            match self.decode(level, entry) {
                Entry::Table { address, .. } => {
                    self.clear_table(table, level, piece, Hpa::new(address), reserve, out);
                }
                Entry::Leaf { .. } => self.clear_part(table, level, piece, reserve, out),
                // Not ours. Nothing is known of what lies below, so nothing there is
                // touched; but nobody shall reach it.
                Entry::NotPresent | Entry::Reserved => {
                    self.publish(table, piece.index, 0);
                    out.links = true;
                    out.note(piece.span);
                }
            }
        }
        if leaves_cleared {
            self.write_back(table, span.entries(level));
        }
    }

    fn clear_leaves(&self, table: &Frame, span: Span, out: &mut Withdrawn) {
        let mut cleared = false;
        for piece in span.pieces(1) {
            let entry = table.load(piece.index).unwrap_or(0);
            if self.is_present(entry) {
                self.publish_unwritten(table, piece.index, 0);
                out.note(piece.span);
                cleared = true;
            }
        }
        if cleared {
            self.write_back(table, span.entries(1));
        }
    }

    /// Clears the part of a table's span that `piece` is, and drops the table if nothing
    /// is left in it.
    fn clear_table(
        &self,
        parent: &Frame,
        level: u8,
        piece: Piece,
        address: Hpa,
        reserve: &mut Reserve,
        out: &mut Withdrawn,
    ) {
        let below = level.saturating_sub(1);
        if piece.whole {
            self.publish(parent, piece.index, 0);
            out.links = true;
            out.note(piece.span);
            return self.withdraw_all(address, below, &mut out.frames);
        }
        let child = self.view(address);
        self.clear(&child, below, piece.span, reserve, out);
        if self.is_empty(&child) {
            self.publish(parent, piece.index, 0);
            out.links = true;
            self.withdraw(address, &mut out.frames);
        }
    }

    /// Splits a large page, and clears the part of it that `piece` is.
    fn clear_part(
        &self,
        table: &Frame,
        level: u8,
        piece: Piece,
        reserve: &mut Reserve,
        out: &mut Withdrawn,
    ) {
        if let Some(address) = self.split_page(table, level, piece, reserve, out) {
            let child = self.view(address);
            self.clear(&child, level.saturating_sub(1), piece.span, reserve, out);
        }
    }

    /// Puts a table in the place of the large page that the piece lies in. It translates as
    /// the page did, and what hardware has marked in the page is marked in all of it.
    pub(crate) fn split_page(
        &self,
        table: &Frame,
        level: u8,
        piece: Piece,
        reserve: &mut Reserve,
        out: &mut Withdrawn,
    ) -> Option<Hpa> {
        out.links = true;
        out.note(Span::of_entry(piece.span.first(), level));
        let large = table.load(piece.index).unwrap_or(0);
        let Some(address) = self.parts(level, large, reserve) else {
            // Cannot be, the pages were counted. More goes than was asked for, rather
            // than less.
            self.publish(table, piece.index, 0);
            return None;
        };
        out.added = out.added.saturating_add(1);
        let entry = encode_table(self.format, level, address);
        let replaced = self.exchange(table, piece.index, entry);
        let second_stage = self.format.stage() == Stage::Second;
        if second_stage && is_dirty(replaced) && !is_dirty(large) {
            self.mark_all(&self.view(address));
        }
        Some(address)
    }

    /// A table that translates as the large page does.
    fn parts(&self, level: u8, large: u64, reserve: &mut Reserve) -> Option<Hpa> {
        let below = level.saturating_sub(1);
        let step = 1u64.checked_shl(span_shift(below))?;
        let table = reserve.take()?;
        let mut entry = first_part(self.format, below, large);
        for cell in table.cells() {
            cell.store(entry, Ordering::Relaxed);
            entry = entry.wrapping_add(step);
        }
        self.write_back(&table, 0..Frame::CELLS_IN_PAGE);
        Some(table.leak())
    }

    /// Marks every leaf of a table as written through: hardware marked the page that they
    /// were part of at the last moment.
    fn mark_all(&self, table: &Frame) {
        for index in 0..Frame::CELLS_IN_PAGE {
            let entry = table.load(index).unwrap_or(0);
            self.publish(table, index, with_dirty(entry));
        }
    }

    /// Puts a table that no entry leads to any more, and all tables below it, on the list.
    pub(crate) fn withdraw_all(&self, address: Hpa, level: u8, frames: &mut FrameList) {
        if level > 1 {
            let table = self.view(address);
            for index in 0..Frame::CELLS_IN_PAGE {
                let entry = table.load(index).unwrap_or(0);
                // Most entries are one of these, which costs less to see than to decode.
                if !self.is_present(entry) || is_large(entry) {
                    continue;
                }
                if let Entry::Table { address, .. } = self.decode(level, entry) {
                    self.withdraw_all(Hpa::new(address), level.saturating_sub(1), frames);
                }
            }
        }
        self.withdraw(address, frames);
    }
}
