//! Sizes that are powers of two.

use crate::{PAGE_SHIFT, PAGE_SIZE};

/// A number of pages that is a power of two, by its logarithm: order 0 is one page of
/// 4 KiB, order 9 is 2 MiB, order 18 is 1 GiB. VT-d calls the same number an address mask
/// (AM) in invalidation descriptors (§6.5.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Order(u8);

impl Order {
    /// One 4 KiB page.
    pub const PAGE: Self = Self(0);
    /// 2 MiB.
    pub const PAGE_2M: Self = Self(9);
    /// 1 GiB.
    pub const PAGE_1G: Self = Self(18);
    /// 2^52 pages: the whole of a 64-bit space.
    pub const MAX: Self = Self(52);

    /// `2^log2` pages, or `None` beyond a 64-bit space.
    pub const fn new(log2: u8) -> Option<Self> {
        if log2 <= Self::MAX.0 {
            Some(Self(log2))
        } else {
            None
        }
    }

    /// The smallest order of at least `bytes` bytes.
    pub const fn for_bytes(bytes: u64) -> Self {
        let mut log2 = 0;
        // At most 52 rounds; the shift stays below 64 by the loop's bound.
        while log2 < Self::MAX.0 && (PAGE_SIZE << log2) < bytes {
            log2 = log2.saturating_add(1);
        }
        Self(log2)
    }

    /// The logarithm: 0 for one page.
    pub const fn log2(self) -> u8 {
        self.0
    }

    /// Pages of 4 KiB.
    pub const fn pages(self) -> u64 {
        1 << self.0
    }

    /// Log2 of the size in bytes: 12 for one page, 64 for the whole space.
    pub const fn shift(self) -> u32 {
        PAGE_SHIFT.saturating_add(self.0 as u32)
    }

    /// Size in bytes; saturates for the whole space.
    pub const fn bytes(self) -> u64 {
        match 1u64.checked_shl(self.shift()) {
            Some(bytes) => bytes,
            None => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up_to_the_next_order() {
        assert_eq!(Order::for_bytes(0), Order::PAGE);
        assert_eq!(Order::for_bytes(4096), Order::PAGE);
        assert_eq!(Order::for_bytes(4097).pages(), 2);
        assert_eq!(Order::for_bytes(2 << 20), Order::PAGE_2M);
        assert_eq!(Order::for_bytes(u64::MAX), Order::MAX);
    }

    #[test]
    fn an_order_beyond_the_space_does_not_exist() {
        assert_eq!(Order::new(53), None);
        assert_eq!(Order::new(52), Some(Order::MAX));
    }
}
