//! The kernel's memory for tables: a region of RAM, handed out in aligned blocks.
//!
//! # What the `unsafe` here rests on
//! The region is the kernel's alone, mapped for as long as the kernel runs, and a block is
//! marked as taken from its allocation to its release.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use iommu_core::{Frame, Hpa, Order, PAGE_SIZE};

/// Pages in the region: enough for a queue, and for tables of a few devices.
pub const PAGES: usize = 512;

/// A region of RAM.
pub struct Frames {
    at: Hpa,
    cells: NonNull<AtomicU64>,
    taken: [AtomicBool; PAGES],
}

// SAFETY: cells are atomic, and a block has one owner.
unsafe impl Send for Frames {}
// SAFETY: as above.
unsafe impl Sync for Frames {}

impl Frames {
    /// The region at physical address `at`, which the kernel sees at `cells`.
    ///
    /// # Safety
    /// [`PAGES`] zeroed pages, aligned to their size in both address spaces, that are
    /// mapped for ever and nobody else's.
    pub unsafe fn new(at: Hpa, cells: NonNull<AtomicU64>) -> Self {
        let taken = [const { AtomicBool::new(false) }; PAGES];
        Self { at, cells, taken }
    }

    /// A zeroed block, if there is one.
    pub fn take(&self, order: Order) -> Option<Frame> {
        let pages = order.pages() as usize;
        let first = (0..PAGES)
            .step_by(pages)
            .find(|&first| first + pages <= PAGES && self.claim(first, pages))?;
        let mut frame = self.frame(first, order);
        frame.clear_private();
        Some(frame)
    }

    /// Takes a block back.
    pub fn give_back(&self, frame: Frame) {
        let first = self.page_of(frame.hpa());
        for page in &self.taken[first..first + frame.order().pages() as usize] {
            page.store(false, Ordering::Release);
        }
    }

    /// The block at an address again.
    pub fn again(&self, hpa: Hpa, order: Order) -> Frame {
        self.frame(self.page_of(hpa), order)
    }

    /// The cell at an address, if it lies in the region.
    pub fn cell(&self, hpa: Hpa) -> Option<&AtomicU64> {
        let offset = hpa.as_u64().checked_sub(self.at.as_u64())?;
        let within = offset < PAGES as u64 * PAGE_SIZE && offset.is_multiple_of(8);
        // SAFETY: within the region, which is mapped for ever.
        within.then(|| unsafe { self.cells.add(offset as usize / 8).as_ref() })
    }

    fn claim(&self, first: usize, pages: usize) -> bool {
        let block = &self.taken[first..first + pages];
        for (claimed, page) in block.iter().enumerate() {
            if page.swap(true, Ordering::Acquire) {
                for page in &block[..claimed] {
                    page.store(false, Ordering::Release);
                }
                return false;
            }
        }
        true
    }

    fn page_of(&self, hpa: Hpa) -> usize {
        ((hpa.as_u64() - self.at.as_u64()) / PAGE_SIZE) as usize
    }

    fn frame(&self, first: usize, order: Order) -> Frame {
        let hpa = Hpa::new(self.at.as_u64() + first as u64 * PAGE_SIZE);
        // SAFETY: a block of the region, and whoever asks is its only owner.
        unsafe { Frame::from_raw(hpa, self.cells.add(first * Frame::CELLS_IN_PAGE), order) }
    }
}
