//! Where registers and memory come from.

use iommu_core::Hpa;

/// Words of a page.
pub const PAGE_WORDS: usize = 512;

/// A page of tables, as it was read at one time.
pub type Page = [u64; PAGE_WORDS];

/// One unit's registers, and the memory that its tables lie in.
pub trait Source {
    /// The 32-bit register at a byte offset; `None` if there is none.
    fn read32(&self, offset: usize) -> Option<u32>;

    /// The 64-bit register at a byte offset; `None` if there is none.
    fn read64(&self, offset: usize) -> Option<u64>;

    /// Copies the page at a page-aligned address; `false` if it cannot be read.
    fn page(&self, at: Hpa, page: &mut Page) -> bool;
}

impl<S: Source + ?Sized> Source for &S {
    fn read32(&self, offset: usize) -> Option<u32> {
        (**self).read32(offset)
    }

    fn read64(&self, offset: usize) -> Option<u64> {
        (**self).read64(offset)
    }

    fn page(&self, at: Hpa, page: &mut Page) -> bool {
        (**self).page(at, page)
    }
}
