//! Frames of table memory: owned values with a physical address and atomic cells.
//!
//! # Invariants that the `unsafe` here rests on
//! 1. Whoever calls [`Frame::from_raw`] promises that the cells stay mapped, readable and
//!    writable for as long as the `Frame` exists, that no other `Frame` covers them, and
//!    that they are page-aligned.
//! 2. Hardware may read the cells at any time, and the CPU's other threads too; both only
//!    through 64-bit accesses, which are atomic, so no data race can arise.
//! 3. A [`FrameList`] owns its frames. The links lie in the first two cells of each.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::{Address, Hpa, Order, PAGE_SHIFT};
use core::fmt;
use core::mem;
use core::ptr::NonNull;

/// A naturally aligned block of `2^order` pages, owned.
///
/// Dropping a frame leaks it: only [`Platform::release`](crate::Platform::release) gives
/// it back, and only its owner knows when hardware has forgotten it.
#[must_use = "a frame that is dropped is leaked; release it to its platform"]
pub struct Frame {
    hpa: Hpa,
    cells: NonNull<AtomicU64>,
    order: Order,
}

// SAFETY: a frame owns its cells (invariant 1) and they are atomic (invariant 2).
unsafe impl Send for Frame {}
// SAFETY: shared access goes through atomic cells only (invariant 2).
unsafe impl Sync for Frame {}

impl Frame {
    /// 64-bit cells in a page of 4 KiB.
    ///
    /// `loom`, which keeps a history of each, gets as many as its tests use.
    pub const CELLS_IN_PAGE: usize = if cfg!(loom) { 16 } else { 512 };

    /// Makes a frame of memory that the caller owns.
    ///
    /// # Safety
    /// `cells` points to `order.bytes()` bytes, aligned to their size as `hpa` is, mapped
    /// for reading and writing for as long as the frame exists, initialised, not covered
    /// by another frame, and accessed by nobody except through this frame's cells and by
    /// hardware through `hpa`.
    pub unsafe fn from_raw(hpa: Hpa, cells: NonNull<AtomicU64>, order: Order) -> Self {
        debug_assert!(hpa.is_aligned(order.shift()));
        debug_assert!(cells.addr().get().trailing_zeros() >= PAGE_SHIFT);
        Self { hpa, cells, order }
    }

    /// Takes the frame apart again, for the platform that made it.
    pub fn into_raw(self) -> (Hpa, NonNull<AtomicU64>, Order) {
        (self.hpa, self.cells, self.order)
    }

    /// Gives the value up and keeps the memory: from now on whoever knows the address is
    /// responsible for it, and makes it a frame again by
    /// [`Platform::adopt`](crate::Platform::adopt).
    pub fn leak(self) -> Hpa {
        self.hpa
    }

    /// Where hardware finds the frame.
    pub fn hpa(&self) -> Hpa {
        self.hpa
    }

    /// How large it is.
    pub fn order(&self) -> Order {
        self.order
    }

    /// The frame's memory as 64-bit cells.
    ///
    /// Plain stores are for frames that hardware cannot reach yet; for the others there is
    /// [`Platform::publish64`](crate::Platform::publish64).
    pub fn cells(&self) -> &[AtomicU64] {
        let count = Self::CELLS_IN_PAGE << self.order.log2();
        // SAFETY: invariant 1: `count` cells from `cells` on are ours while `self` lives.
        unsafe { core::slice::from_raw_parts(self.cells.as_ptr(), count) }
    }

    /// The value of a cell, or `None` beyond the end of the frame.
    pub fn load(&self, index: usize) -> Option<u64> {
        self.cells()
            .get(index)
            .map(|cell| cell.load(Ordering::Acquire))
    }

    /// Stores into a frame that hardware cannot reach yet. Says whether the cell exists.
    pub fn store_private(&mut self, index: usize, value: u64) -> bool {
        self.cells()
            .get(index)
            .map(|cell| cell.store(value, Ordering::Relaxed))
            .is_some()
    }

    /// Zeroes a frame that hardware cannot reach.
    pub fn clear_private(&mut self) {
        for cell in self.cells() {
            cell.store(0, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}, order {})", self.hpa, self.order.log2())
    }
}

/// A list of single-page frames that costs no memory of its own, so that giving a page up
/// cannot fail.
///
/// The links are kept in the frames. Hardware that still holds a pointer to such a frame
/// (until the invalidation that is owed for it) may read the two link cells as table
/// entries. They are page-aligned addresses, with bits 11:0 zero: not present in the first
/// stage (P = 0) and in the second (R = W = 0), so a walk through them ends there. Only
/// pages all of whose translations are being withdrawn may be put on the list.
#[must_use = "frames on a list that is dropped are leaked"]
#[derive(Default)]
pub struct FrameList {
    head: Option<Frame>,
    length: usize,
}

/// Cell of a listed frame that holds the next frame's address in this CPU's view.
const NEXT_CELLS: usize = 0;
/// Cell of a listed frame that holds the next frame's physical address.
const NEXT_HPA: usize = 1;

impl FrameList {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            head: None,
            length: 0,
        }
    }

    /// Number of frames on the list.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no frame on the list.
    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Puts a single page on the list. A larger frame comes back as the error.
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if frame.order != Order::PAGE {
            return Err(frame);
        }
        let (next_cells, next_hpa) = match self.head.take() {
            Some(next) => (
                next.cells.as_ptr().expose_provenance() as u64,
                next.hpa.as_u64(),
            ),
            None => (0, 0),
        };
        if let [cells, hpa, ..] = frame.cells() {
            const { assert!(NEXT_CELLS == 0 && NEXT_HPA == 1) };
            cells.store(next_cells, Ordering::Relaxed);
            hpa.store(next_hpa, Ordering::Relaxed);
        }
        self.head = Some(frame);
        self.length = self.length.saturating_add(1);
        Ok(())
    }

    /// Takes a page off the list. Its first two cells hold rubbish.
    pub fn pop(&mut self) -> Option<Frame> {
        let frame = self.head.take()?;
        self.length = self.length.saturating_sub(1);
        if let [cells, hpa, ..] = frame.cells() {
            let address = cells.load(Ordering::Relaxed) as usize;
            let next = NonNull::new(core::ptr::with_exposed_provenance_mut(address));
            let hpa = Hpa::new(hpa.load(Ordering::Relaxed));
            self.head = next.map(|cells| Frame {
                hpa,
                cells,
                order: Order::PAGE,
            });
        }
        Some(frame)
    }

    /// Moves all frames of `other` to this list.
    pub fn append(&mut self, mut other: FrameList) {
        while let Some(frame) = other.pop() {
            // Every listed frame is a single page, so it cannot come back.
            let _ = self.push(frame).map_err(mem::forget);
        }
    }
}

impl fmt::Debug for FrameList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameList({} pages)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::vec::Vec;

    const PAGE: Layout = match Layout::from_size_align(4096, 4096) {
        Ok(layout) => layout,
        Err(_) => panic!(),
    };

    fn frame(hpa: u64) -> Frame {
        // SAFETY: a fresh page of our own, given back by `free`.
        unsafe {
            let cells = NonNull::new(alloc_zeroed(PAGE).cast()).unwrap();
            Frame::from_raw(Hpa::new(hpa), cells, Order::PAGE)
        }
    }

    fn free(frame: Frame) {
        let (_, cells, _) = frame.into_raw();
        // SAFETY: allocated by `frame` with the same layout.
        unsafe { dealloc(cells.as_ptr().cast(), PAGE) }
    }

    #[test]
    fn frames_come_back_with_their_addresses() {
        let mut list = FrameList::new();
        for hpa in [0x1000, 0x2000, 0x3000] {
            list.push(frame(hpa)).unwrap();
        }
        assert_eq!(list.len(), 3);
        let mut hpas = Vec::new();
        while let Some(frame) = list.pop() {
            hpas.push(frame.hpa().as_u64());
            free(frame);
        }
        hpas.sort();
        assert_eq!(hpas, [0x1000, 0x2000, 0x3000]);
        assert!(list.is_empty());
    }

    #[test]
    fn links_read_as_entries_are_not_present_in_either_stage() {
        let mut list = FrameList::new();
        list.push(frame(0x1000)).unwrap();
        list.push(frame(0x2000)).unwrap();
        let top = list.pop().unwrap();
        for index in 0..2 {
            assert_eq!(top.load(index).unwrap() & 0xfff, 0);
        }
        free(top);
        free(list.pop().unwrap());
    }

    #[test]
    fn lists_join() {
        let (mut one, mut two) = (FrameList::new(), FrameList::new());
        one.push(frame(0x1000)).unwrap();
        two.push(frame(0x2000)).unwrap();
        two.push(frame(0x3000)).unwrap();
        one.append(two);
        assert_eq!(one.len(), 3);
        while let Some(frame) = one.pop() {
            free(frame);
        }
    }

    #[test]
    fn a_cell_beyond_the_end_does_not_exist() {
        let mut page = frame(0x1000);
        assert!(page.store_private(511, 7));
        assert!(!page.store_private(512, 7));
        assert_eq!(page.load(511), Some(7));
        assert_eq!(page.load(512), None);
        free(page);
    }
}
