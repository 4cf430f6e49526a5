//! Memory of `loom`'s atomics, and a clock that stands still: nobody runs out of time, and
//! whoever waits for what never comes is found by `loom`.

use super::unit::Unit;
use crate::Event;
use iommu_core::sync::Rank;
use iommu_core::sync::atomic::{AtomicU64, Ordering, fence};
use iommu_core::{Coherence, Frame, Hpa, Nanoseconds, Observer, Order, OutOfFrames, Platform};
use loom::sync::Arc;
use loom::thread::ThreadId;
use std::alloc::{Layout, alloc, dealloc};
use std::collections::HashMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::vec::Vec;

/// The first cells of a page. `loom`'s are larger than the machine's; nobody looks.
struct Page(NonNull<AtomicU64>);

// SAFETY: a page owns its cells, which are atomics.
unsafe impl Send for Page {}

impl Page {
    const LAYOUT: Layout = {
        let bytes = Frame::CELLS_IN_PAGE * size_of::<AtomicU64>();
        match Layout::from_size_align(bytes, 4096) {
            Ok(layout) => layout,
            Err(_) => panic!("a layout"),
        }
    };

    /// In place: the stack of a thread of `loom`'s is smaller than a page.
    fn new() -> Self {
        // SAFETY: the layout is not empty, and every cell is written before it is read.
        unsafe {
            let cells: *mut AtomicU64 = alloc(Self::LAYOUT).cast();
            let cells = NonNull::new(cells).expect("memory");
            for index in 0..Frame::CELLS_IN_PAGE {
                cells.add(index).write(AtomicU64::new(0));
            }
            Self(cells)
        }
    }

    fn cell(&self, index: usize) -> NonNull<AtomicU64> {
        assert!(index < Frame::CELLS_IN_PAGE);
        // SAFETY: an index of the page.
        unsafe { self.0.add(index) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: all cells were made by `new`, and nobody has the page any more.
        unsafe {
            for index in 0..Frame::CELLS_IN_PAGE {
                self.0.add(index).drop_in_place();
            }
            dealloc(self.0.as_ptr().cast(), Self::LAYOUT);
        }
    }
}

/// Where the first page is.
const BASE: u64 = 0x10_0000;

/// The machine: pages that are never given back, and the unit, which CPUs wait for.
pub(super) struct Machine {
    pages: Mutex<Vec<Page>>,
    unit: Arc<Unit>,
    /// How much of what the unit did each CPU has waited for.
    seen: Mutex<HashMap<ThreadId, u64>>,
}

impl Machine {
    pub(super) fn new(unit: Arc<Unit>) -> Self {
        Self {
            pages: Mutex::default(),
            unit,
            seen: Mutex::default(),
        }
    }

    /// What hardware reads or writes at an address.
    pub(super) fn with_cell<R>(&self, hpa: u64, act: impl FnOnce(&AtomicU64) -> R) -> R {
        // Locked for the look-up alone: `loom` switches threads at the access.
        let cell: NonNull<AtomicU64> = {
            let pages = self.pages.lock().expect("no panic");
            let page = &pages[((hpa - BASE) >> 12) as usize];
            page.cell((hpa as usize & 0xfff) / 8)
        };
        // SAFETY: pages live as long as the machine, which is borrowed.
        act(unsafe { cell.as_ref() })
    }
}

impl Platform for Machine {
    fn allocate(&self, order: Order) -> Result<Frame, OutOfFrames> {
        assert_eq!(order, Order::PAGE, "a ring of one page");
        let page = Page::new();
        let cells = page.cell(0);
        let mut pages = self.pages.lock().expect("no panic");
        let hpa = Hpa::new(BASE + 4096 * pages.len() as u64);
        pages.push(page);
        // SAFETY: a page of its own for each frame, which is never given back.
        Ok(unsafe { Frame::from_raw(hpa, cells, order) })
    }

    fn release(&self, _: Frame) {}

    unsafe fn adopt(&self, _: Hpa, order: Order) -> Frame {
        unreachable!("the queue adopts no frame of order {order:?}")
    }

    fn publish64(&self, frame: &Frame, index: usize, value: u64, _: Coherence) {
        frame.cells()[index].store(value, Ordering::Release);
    }

    fn publish128(&self, _: &Frame, _: usize, _: [u64; 2], _: Coherence) {
        unreachable!("the queue has no entries of 128 bits")
    }

    fn write_back(&self, _: &Frame, _: Range<usize>) {}

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }

    fn now(&self) -> Nanoseconds {
        Nanoseconds(0)
    }

    fn relax(&self) {
        let thread = loom::thread::current().id();
        let seen = |seen| self.seen.lock().expect("no panic").insert(thread, seen);
        let mut count = seen(0).unwrap_or(0);
        self.unit.progress.wait(&mut count);
        seen(count);
    }

    fn enter(&self, _: Rank) -> u64 {
        0
    }

    fn leave(&self, _: Rank, _: u64) {}
}

impl Observer<Event> for Machine {
    fn observe(&self, _: &Event) {}
}
