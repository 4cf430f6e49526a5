//! The marks that hardware leaves in second-stage leaves that are written through (§3.7.2).
//!
//! Hardware sets a mark by an atomic exchange, and only when it has none cached: so a mark
//! is cleared by an exchange too, and after that hardware must forget the leaf, or it would
//! go on writing without another mark (§6.2.4).

use super::PageTable;
use super::memory::{Memory, Reserve};
use super::span::Span;
use super::unmap::Withdrawn;
use crate::entry::{Entry, is_dirty, is_large};
use iommu_core::{
    AddressRange, DirtyBitmap, DirtyRead, Frame, Hpa, Iova, LargePages, MapError, OutOfFrames,
    Platform,
};

impl PageTable {
    /// Prepares for hardware that marks what is written: clears all marks, unless they are
    /// being tracked already, and splits large pages if that is wanted.
    ///
    /// A split changes no translation, so nothing need be told; but what is told when
    /// hardware is made to mark must cover paging structures too.
    pub fn begin_tracking<P: Platform>(
        &mut self,
        platform: &P,
        large: LargePages,
    ) -> Result<(), OutOfFrames> {
        let memory = self.memory(platform);
        let level = self.format.levels();
        let root = memory.view(self.root);
        let split = large == LargePages::Split;
        let added = if split {
            memory.tables_for_all_splits(&root, level)
        } else {
            0
        };
        let mut reserve = memory.reserve(added)?;
        let mut out = Withdrawn::nothing();
        if split {
            memory.split_all(&root, level, self.whole(), &mut reserve, &mut out);
        }
        memory.give_back(reserve);
        if self.tracking.is_none() {
            let mut sweep = Sweep {
                read: DirtyRead::Clear,
                bitmap: None,
                cleared: None,
            };
            memory.sweep(&root, level, self.whole(), &mut sweep);
        }
        self.tables = self.tables.saturating_add(out.added);
        self.tracking = Some(large);
        Ok(())
    }

    /// Large pages are made again. Hardware marks no more, or what it marks does not matter.
    pub fn end_tracking(&mut self) {
        self.tracking = None;
    }

    /// Whether [`begin_tracking`](Self::begin_tracking) was called last.
    pub fn is_tracking(&self) -> bool {
        self.tracking.is_some()
    }

    /// Marks in the bitmap what was written within its range, in one walk. Gives the range
    /// in which marks were cleared: there hardware must forget leaves.
    ///
    /// A large page that reaches beyond the range is told, and keeps its mark.
    pub fn read_dirty<P: Platform>(
        &mut self,
        platform: &P,
        read: DirtyRead,
        bitmap: &mut DirtyBitmap<'_>,
    ) -> Result<Option<AddressRange<Iova>>, MapError> {
        let span = self.check_range(bitmap.range())?;
        let memory = self.memory(platform);
        let root = memory.view(self.root);
        let mut sweep = Sweep {
            read,
            bitmap: Some(bitmap),
            cleared: None,
        };
        memory.sweep(&root, self.format.levels(), span, &mut sweep);
        Ok(sweep.cleared.and_then(Span::range))
    }

    /// All that the tables translate, were they full.
    fn whole(&self) -> Span {
        // Second-stage addresses begin at 0 and are as wide as both format and unit.
        let bits = self.format.input_bits().min(self.config.iova_bits).min(63);
        Span::up_to((1u64 << bits).wrapping_sub(1))
    }
}

/// A walk over marks.
struct Sweep<'b, 'w> {
    read: DirtyRead,
    bitmap: Option<&'b mut DirtyBitmap<'w>>,
    /// Where marks were cleared.
    cleared: Option<Span>,
}

impl<P: Platform> Memory<'_, P> {
    fn sweep(&self, table: &Frame, level: u8, span: Span, sweep: &mut Sweep<'_, '_>) {
        for piece in span.pieces(level) {
            let entry = table.load(piece.index).unwrap_or(0);
            if !self.is_present(entry) {
                continue;
            }
            if level > 1 && !is_large(entry) {
                if let Entry::Table { address, .. } = self.decode(level, entry) {
                    let child = self.view(Hpa::new(address));
                    self.sweep(&child, level.saturating_sub(1), piece.span, sweep);
                }
                continue;
            }
            if !is_dirty(entry) {
                continue;
            }
            if let (Some(bitmap), Some(range)) = (&mut sweep.bitmap, piece.span.range()) {
                bitmap.mark(&range);
            }
            let clears = sweep.read == DirtyRead::Clear && piece.whole;
            if clears && self.clear_dirty(table, piece.index) {
                let before = sweep.cleared;
                sweep.cleared = Some(before.map_or(piece.span, |before| before.hull(piece.span)));
            }
        }
    }

    /// How many tables it takes to have no large page left.
    fn tables_for_all_splits(&self, table: &Frame, level: u8) -> usize {
        if level <= 1 {
            return 0;
        }
        let below = level.saturating_sub(1);
        let tables_of = |entry| match self.decode(level, entry) {
            Entry::Table { address, .. } => {
                self.tables_for_all_splits(&self.view(Hpa::new(address)), below)
            }
            Entry::Leaf { .. } => (2..level).fold(1, |tables: usize, _| {
                tables
                    .saturating_mul(Frame::CELLS_IN_PAGE)
                    .saturating_add(1)
            }),
            Entry::NotPresent | Entry::Reserved => 0,
        };
        (0..Frame::CELLS_IN_PAGE)
            .filter_map(|index| table.load(index))
            .map(tables_of)
            .fold(0, usize::saturating_add)
    }

    fn split_all(
        &self,
        table: &Frame,
        level: u8,
        span: Span,
        reserve: &mut Reserve,
        out: &mut Withdrawn,
    ) {
        if level <= 1 {
            return;
        }
        for piece in span.pieces(level) {
            let entry = table.load(piece.index).unwrap_or(0);
            let child = match self.decode(level, entry) {
                Entry::Table { address, .. } => Some(Hpa::new(address)),
                Entry::Leaf { .. } => self.split_page(table, level, piece, reserve, out),
                Entry::NotPresent | Entry::Reserved => None,
            };
            if let Some(address) = child {
                let child = self.view(address);
                let below = level.saturating_sub(1);
                self.split_all(&child, below, piece.span, reserve, out);
            }
        }
    }
}
