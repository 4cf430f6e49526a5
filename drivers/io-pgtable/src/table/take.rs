//! Unmapping that tells what it takes: for whoever counts who may reach a page, or must
//! know whether it was written.

use super::memory::{Memory, Reserve};
use super::span::{Piece, Span};
use super::unmap::Withdrawn;
use super::{PageTable, Unmapped};
use crate::entry::{Entry, is_dirty};
use crate::geometry::span_shift;
use iommu_core::{
    Access, AddressRange, Frame, Hpa, Iova, MapError, Order, PAGE_SHIFT, Platform, Stage,
};

/// A page that was taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Taken {
    /// Where it was mapped.
    pub iova: Iova,
    /// What was mapped there.
    pub page: Hpa,
    /// Its size.
    pub order: Order,
    /// What was allowed.
    pub access: Access,
    /// A second-stage page that hardware has marked as written through, up to the moment
    /// that it was taken away. Always true in the first stage.
    pub dirty: bool,
}

/// Whoever is told.
pub(crate) type Tell<'t> = &'t mut dyn FnMut(&Taken);

impl PageTable {
    /// Like [`unmap`](Self::unmap), and tells every page that goes away, once it cannot be
    /// reached by a walk of the tables any more. Large pages that are split at the range's
    /// ends are told in parts.
    pub fn unmap_telling<P: Platform>(
        &mut self,
        platform: &P,
        range: AddressRange<Iova>,
        tell: Tell<'_>,
    ) -> Result<Unmapped, MapError> {
        self.unmap_with(
            platform,
            range,
            |memory, root, level, span, reserve, out| {
                memory.take_leaves(root, level, span, reserve, out, tell);
                // Drops the tables that are empty now.
                memory.clear(root, level, span, reserve, out);
            },
        )
    }
}

impl<P: Platform> Memory<'_, P> {
    /// Takes every leaf of `span` away, by one exchange each, and leaves the tables.
    fn take_leaves(
        &self,
        table: &Frame,
        level: u8,
        span: Span,
        reserve: &mut Reserve,
        out: &mut Withdrawn,
        tell: Tell<'_>,
    ) {
        for piece in span.pieces(level) {
            let entry = table.load(piece.index).unwrap_or(0);
            if !self.is_present(entry) {
                continue;
            }
            let below = level.saturating_sub(1);
            let child = match self.decode(level, entry) {
                Entry::Leaf { .. } if piece.whole => {
                    self.take_leaf(table, level, piece, out, tell);
                    None
                }
                Entry::Leaf { .. } => self.split_page(table, level, piece, reserve, out),
                Entry::Table { address, .. } => Some(Hpa::new(address)),
                Entry::NotPresent | Entry::Reserved => None,
            };
            if let Some(address) = child {
                let child = self.view(address);
                self.take_leaves(&child, below, piece.span, reserve, out, tell);
            }
        }
    }

    fn take_leaf(
        &self,
        table: &Frame,
        level: u8,
        piece: Piece,
        out: &mut Withdrawn,
        tell: Tell<'_>,
    ) {
        let entry = self.exchange(table, piece.index, 0);
        out.note(piece.span);
        if let Entry::Leaf {
            address, access, ..
        } = self.decode(level, entry)
        {
            let pages_log2 = span_shift(level).saturating_sub(PAGE_SHIFT) as u8;
            tell(&Taken {
                iova: Iova::new(piece.span.first()),
                page: Hpa::new(address),
                order: Order::new(pages_log2).unwrap_or(Order::PAGE),
                access,
                dirty: self.format.stage() == Stage::First || is_dirty(entry),
            });
        }
    }
}
