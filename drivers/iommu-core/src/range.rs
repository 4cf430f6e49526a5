//! Ranges of addresses that cannot wrap.

use crate::{Address, PAGE_SHIFT, PAGE_SIZE};

/// A non-empty range of addresses in one space: first and *last* byte, so that the top
/// page of the space can be named too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct AddressRange<A> {
    first: A,
    last: A,
}

/// Why a range was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RangeError {
    /// A length of 0 bytes, or a last byte below the first.
    Empty,
    /// The range runs beyond the end of the address space.
    Wraps,
    /// Start or length is not a multiple of the page size.
    Misaligned,
}

impl<A: Address> AddressRange<A> {
    /// From the first to the last byte, both within.
    pub fn inclusive(first: A, last: A) -> Result<Self, RangeError> {
        if first <= last {
            Ok(Self { first, last })
        } else {
            Err(RangeError::Empty)
        }
    }

    /// `bytes` bytes from `first` on.
    pub fn of_bytes(first: A, bytes: u64) -> Result<Self, RangeError> {
        let beyond_first = bytes.checked_sub(1).ok_or(RangeError::Empty)?;
        let last = first.checked_add(beyond_first).ok_or(RangeError::Wraps)?;
        Ok(Self { first, last })
    }

    /// `pages` pages of 4 KiB from the page-aligned `first` on.
    pub fn of_pages(first: A, pages: u64) -> Result<Self, RangeError> {
        if !first.is_aligned(PAGE_SHIFT) {
            return Err(RangeError::Misaligned);
        }
        if pages == 0 {
            return Err(RangeError::Empty);
        }
        // The last byte, computed so that 2^52 pages from 0 still fit.
        let last_page = pages
            .checked_sub(1)
            .and_then(|n| n.checked_mul(PAGE_SIZE))
            .and_then(|bytes| first.checked_add(bytes))
            .ok_or(RangeError::Wraps)?;
        Ok(Self {
            first,
            last: A::from_u64(last_page.as_u64() | (PAGE_SIZE - 1)),
        })
    }

    /// The page that holds `address`.
    pub fn page_of(address: A) -> Self {
        let first = address.align_down(PAGE_SHIFT);
        Self {
            first,
            last: A::from_u64(first.as_u64() | (PAGE_SIZE - 1)),
        }
    }

    /// The first byte.
    pub fn first(&self) -> A {
        self.first
    }

    /// The last byte, which is within the range.
    pub fn last(&self) -> A {
        self.last
    }

    /// Length in bytes; `None` only for the whole space of 2^64 bytes.
    pub fn bytes(&self) -> Option<u64> {
        self.last
            .as_u64()
            .checked_sub(self.first.as_u64())?
            .checked_add(1)
    }

    /// Number of 4 KiB pages that the range touches.
    pub fn pages(&self) -> u64 {
        let first = self.first.as_u64() >> PAGE_SHIFT;
        let last = self.last.as_u64() >> PAGE_SHIFT;
        // At most 2^52, so neither step can overflow.
        last.saturating_sub(first).saturating_add(1)
    }

    /// Whether start and end lie on page boundaries.
    pub fn is_page_aligned(&self) -> bool {
        self.first.is_aligned(PAGE_SHIFT) && self.last.offset_in(PAGE_SHIFT) == PAGE_SIZE - 1
    }

    /// Whether `address` lies within.
    pub fn contains(&self, address: A) -> bool {
        self.first <= address && address <= self.last
    }

    /// Whether all of `other` lies within.
    pub fn covers(&self, other: &Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether the two have a byte in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The bytes that both have.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        Self::inclusive(self.first.max(other.first), self.last.min(other.last)).ok()
    }

    /// One range for both, if they overlap or touch.
    pub fn merged(&self, other: &Self) -> Option<Self> {
        let touches = |lower: &Self, upper: &Self| {
            lower
                .last
                .checked_add(1)
                .is_none_or(|next| next >= upper.first)
        };
        let (lower, upper) = if self.first <= other.first {
            (self, other)
        } else {
            (other, self)
        };
        touches(lower, upper).then(|| Self {
            first: lower.first,
            last: lower.last.max(upper.last),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Iova;

    fn bytes(first: u64, last: u64) -> AddressRange<Iova> {
        AddressRange::inclusive(Iova::new(first), Iova::new(last)).unwrap()
    }

    #[test]
    fn the_top_page_can_be_named() {
        let top = AddressRange::of_pages(Iova::new(!0xfff), 1).unwrap();
        assert_eq!(top.last(), Iova::new(u64::MAX));
        assert_eq!(
            AddressRange::of_pages(Iova::new(!0xfff), 2),
            Err(RangeError::Wraps)
        );
    }

    #[test]
    fn the_whole_space_is_a_range_of_2_to_the_52_pages() {
        let all = AddressRange::of_pages(Iova::new(0), 1 << 52).unwrap();
        assert_eq!(all.pages(), 1 << 52);
        assert_eq!(all.bytes(), None);
    }

    #[test]
    fn empty_and_misaligned_ranges_are_refused() {
        assert_eq!(
            AddressRange::of_pages(Iova::new(0), 0),
            Err(RangeError::Empty)
        );
        assert_eq!(
            AddressRange::of_pages(Iova::new(1), 1),
            Err(RangeError::Misaligned)
        );
        assert_eq!(
            AddressRange::of_bytes(Iova::new(0), 0),
            Err(RangeError::Empty)
        );
        assert_eq!(
            AddressRange::of_bytes(Iova::new(2), u64::MAX),
            Err(RangeError::Wraps)
        );
    }

    #[test]
    fn neighbours_merge_and_strangers_do_not() {
        assert_eq!(
            bytes(0, 0xfff).merged(&bytes(0x1000, 0x1fff)),
            Some(bytes(0, 0x1fff))
        );
        assert_eq!(
            bytes(0x1000, 0x1fff).merged(&bytes(0, 0xfff)),
            Some(bytes(0, 0x1fff))
        );
        assert_eq!(bytes(0, 0xfff).merged(&bytes(0x2000, 0x2fff)), None);
        assert_eq!(
            bytes(0, u64::MAX).merged(&bytes(5, 6)),
            Some(bytes(0, u64::MAX))
        );
    }

    #[test]
    fn a_byte_across_a_page_boundary_touches_two_pages() {
        assert_eq!(bytes(0xfff, 0x1000).pages(), 2);
        assert!(!bytes(0xfff, 0x1000).is_page_aligned());
    }
}
