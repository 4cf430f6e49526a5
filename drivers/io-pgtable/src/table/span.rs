//! Page-aligned ranges of input addresses, cut at the borders of entries.

use crate::geometry::{index_of, span_shift};
use core::iter;
use core::ops::Range;
use iommu_core::{Address, AddressRange, Iova, PAGE_SHIFT};

/// A page-aligned, non-empty range: first and last byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    first: u64,
    last: u64,
}

/// The part of a span that one entry translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    /// The entry's index.
    pub(crate) index: usize,
    pub(crate) span: Span,
    /// The entry translates nothing else.
    pub(crate) whole: bool,
}

impl Span {
    /// The same range, if both ends are page-aligned.
    pub(crate) fn of(range: AddressRange<Iova>) -> Option<Self> {
        range.is_page_aligned().then(|| Self {
            first: range.first().as_u64(),
            last: range.last().as_u64(),
        })
    }

    /// All that the entry translates which `level` has for `iova`.
    pub(crate) fn of_entry(iova: u64, level: u8) -> Self {
        let within = Iova::new(iova);
        let first = within.align_down(span_shift(level)).as_u64();
        Self {
            first,
            last: last_beside(iova, level),
        }
    }

    /// From address 0 to `last`, which ends a page.
    pub(crate) fn up_to(last: u64) -> Self {
        Self { first: 0, last }
    }

    pub(crate) fn first(self) -> u64 {
        self.first
    }

    /// The range again. Both ends are in order by construction, so there always is one.
    pub(crate) fn range(self) -> Option<AddressRange<Iova>> {
        AddressRange::inclusive(Iova::new(self.first), Iova::new(self.last)).ok()
    }

    pub(crate) fn pages(self) -> u64 {
        let last_page = self.last >> PAGE_SHIFT;
        let first_page = self.first >> PAGE_SHIFT;
        last_page.saturating_sub(first_page).saturating_add(1)
    }

    /// The smallest range that holds both.
    pub(crate) fn hull(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }

    /// Whether one entry of `level` translates all of it.
    pub(crate) fn is_within_one_entry(self, level: u8) -> bool {
        last_beside(self.first, level) >= self.last
    }

    /// Whether it begins and ends where entries of `level` do.
    pub(crate) fn is_aligned(self, level: u8) -> bool {
        Iova::new(self.first).is_aligned(span_shift(level))
            && last_beside(self.last, level) == self.last
    }

    /// The entries that the range uses of the one table of `level` that it lies in.
    pub(crate) fn entries(self, level: u8) -> Range<usize> {
        let last = index_of(self.last, level);
        index_of(self.first, level)..last.saturating_add(1)
    }

    /// The first `count` of the [`entries`](Self::entries).
    pub(crate) fn first_entries(self, level: u8, count: u64) -> Range<usize> {
        let start = index_of(self.first, level);
        start..start.saturating_add(count as usize)
    }

    /// What the first `count` entries of `level` translate, at least one, and the rest.
    pub(crate) fn split_entries(self, level: u8, count: u64) -> (Self, Option<Self>) {
        let further = count.saturating_sub(1) << span_shift(level);
        let end = last_beside(self.first.saturating_add(further), level);
        let taken = Self {
            first: self.first,
            last: end.min(self.last),
        };
        let rest = end.checked_add(1).filter(|_| end < self.last);
        let rest = rest.map(|first| Self {
            first,
            last: self.last,
        });
        (taken, rest)
    }

    /// Cuts the range into what the single entries of one table of `level` translate, from
    /// the lowest up.
    pub(crate) fn pieces(self, level: u8) -> impl Iterator<Item = Piece> {
        let mut next = Some(self.first);
        iter::from_fn(move || {
            let first = next?;
            let end = last_beside(first, level);
            let last = end.min(self.last);
            next = last.checked_add(1).filter(|_| last < self.last);
            Some(Piece {
                index: index_of(first, level),
                span: Self { first, last },
                whole: last == end && Iova::new(first).is_aligned(span_shift(level)),
            })
        })
    }
}

impl Span {
    /// The first and the last of the [`pieces`](Self::pieces), if they are two.
    pub(crate) fn end_pieces(self, level: u8) -> [Option<Piece>; 2] {
        let first = self.pieces(level).next();
        let end = Self {
            first: Self::of_entry(self.last, level).first.max(self.first),
            last: self.last,
        };
        let last = end.pieces(level).next();
        [first, last.filter(|_| first != last)]
    }
}

/// The last byte that the entry translates which `level` has for `iova`.
fn last_beside(iova: u64, level: u8) -> u64 {
    iova | !(u64::MAX << span_shift(level))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn span(first: u64, last: u64) -> Span {
        Span { first, last }
    }

    #[test]
    fn pieces_are_cut_at_the_borders_of_entries() {
        let pieces: Vec<_> = span(0x1f_f000, 0x60_0fff).pieces(2).collect();
        let expected = [
            (0, span(0x1f_f000, 0x1f_ffff), false),
            (1, span(0x20_0000, 0x3f_ffff), true),
            (2, span(0x40_0000, 0x5f_ffff), true),
            (3, span(0x60_0000, 0x60_0fff), false),
        ];
        let expected = expected.map(|(index, span, whole)| Piece { index, span, whole });
        assert_eq!(pieces, expected);
    }

    #[test]
    fn entries_are_split_off_from_the_front() {
        let all = span(0x1f_f000, 0x60_0fff);
        let (one, rest) = all.split_entries(2, 1);
        assert_eq!(
            (one, rest),
            (span(0x1f_f000, 0x1f_ffff), Some(span(0x20_0000, 0x60_0fff)))
        );
        let (two, rest) = rest.unwrap().split_entries(2, 2);
        assert_eq!(
            (two, rest),
            (span(0x20_0000, 0x5f_ffff), Some(span(0x60_0000, 0x60_0fff)))
        );
        assert_eq!(rest.unwrap().split_entries(2, 1), (rest.unwrap(), None));
        let top = span(u64::MAX << 21, u64::MAX);
        assert_eq!(top.split_entries(2, 1), (top, None));
    }

    #[test]
    fn the_end_pieces_are_the_first_and_the_last() {
        for (first, last) in [
            (0x1f_f000, 0x60_0fff),
            (0x20_0000, 0x3f_ffff),
            (0x20_1000, 0x20_1fff),
        ] {
            let all: Vec<_> = span(first, last).pieces(2).collect();
            let ends = span(first, last).end_pieces(2);
            assert_eq!(ends[0].as_ref(), all.first());
            assert_eq!(ends[1].as_ref(), all.get(1..).and_then(|rest| rest.last()));
        }
    }

    #[test]
    fn the_last_piece_may_end_with_the_address_space() {
        let pieces: Vec<_> = span(u64::MAX << 12, u64::MAX).pieces(4).collect();
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].index, 511);
    }

    #[test]
    fn a_range_knows_whether_entries_begin_and_end_with_it() {
        assert!(span(0x20_0000, 0x5f_ffff).is_aligned(2));
        assert!(!span(0x20_1000, 0x5f_ffff).is_aligned(2));
        assert!(!span(0x20_0000, 0x5f_efff).is_aligned(2));
        assert!(span(0x20_0000, 0x3f_ffff).is_within_one_entry(2));
        assert!(!span(0x20_0000, 0x40_0fff).is_within_one_entry(2));
    }
}
