//! Ranges as hardware names them: size-aligned blocks of pages or of interrupt indices.

use arrayvec::ArrayVec;
use iommu_core::{Address, AddressRange, Iova, Order, PAGE_SHIFT};

/// A size-aligned block of pages, as page-selective invalidations name them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Block {
    /// First address, a multiple of the block's size.
    pub first: Iova,
    /// Number of pages.
    pub order: Order,
}

/// A size-aligned block of interrupt indices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IndexBlock {
    /// First index, a multiple of the block's size.
    pub first: u16,
    /// 2^mask entries, at most ECAP.MHMV.
    pub mask: u8,
}

/// The size-aligned blocks that make up a range exactly, in ascending order, none larger
/// than `limit`.
#[derive(Clone, Debug)]
pub struct Blocks {
    next_page: u64,
    pages_left: u64,
    limit: Order,
}

impl Blocks {
    /// The blocks of `range`, whose ends are rounded outwards to pages.
    pub fn of(range: AddressRange<Iova>, limit: Order) -> Self {
        Self {
            next_page: range.first().as_u64() >> PAGE_SHIFT,
            pages_left: range.pages(),
            limit,
        }
    }
}

impl Iterator for Blocks {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        if self.pages_left == 0 {
            return None;
        }
        // The largest power of two that divides the start and fits into the rest.
        let aligned = self.next_page.trailing_zeros().min(52) as u8;
        let fits = self.pages_left.ilog2().min(52) as u8;
        let order = Order::new(aligned.min(fits).min(self.limit.log2()))?;
        let first = Iova::from_u64(self.next_page << PAGE_SHIFT);
        self.next_page = self.next_page.saturating_add(order.pages());
        self.pages_left = self.pages_left.saturating_sub(order.pages());
        Some(Block { first, order })
    }
}

/// The largest block that page-selective invalidations of a unit can name, given the
/// largest aligned block within the range: `None` if pages so large that they might lie in
/// the range cannot be named whole, so that only a coarser scope drops them for certain
/// (§6.5.3.2: a large page is invalidated by a mask of its size or more).
pub const fn block_limit(largest: Order, mask_limit: u8) -> Option<Order> {
    let page = if largest.log2() >= 18 {
        18
    } else if largest.log2() >= 9 {
        9
    } else {
        0
    };
    if page > mask_limit {
        return None;
    }
    Order::new(mask_limit)
}

/// Index blocks that make up `count` entries from `first` on, none larger than
/// 2^`limit` entries. At most 32 are needed for any run of 65,536.
pub fn index_blocks(first: u16, count: u16, limit: u8) -> ArrayVec<IndexBlock, 32> {
    let mut blocks = ArrayVec::new();
    let (mut next, mut left) = (u32::from(first), u32::from(count));
    while left > 0 {
        let aligned = next.trailing_zeros().min(15) as u8;
        let fits = left.ilog2() as u8;
        let mask = aligned.min(fits).min(limit & 0xf);
        if blocks
            .try_push(IndexBlock {
                first: next as u16,
                mask,
            })
            .is_err()
        {
            // Only with a small limit: the caller then invalidates everything.
            blocks.clear();
            return blocks;
        }
        next = next.saturating_add(1 << mask);
        left = left.saturating_sub(1 << mask);
    }
    blocks
}
