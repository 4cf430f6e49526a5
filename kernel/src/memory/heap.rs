//! The heap: a fixed piece of memory for what libraries keep in `Vec` and `Arc`.
//!
//! It never grows. After the start its users ask by `try_reserve` and the like.

use super::frames;
use crate::platform::KernelPlatform;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{Order, OutOfFrames};
use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;

/// 4 MiB.
const ORDER: Order = match Order::new(10) {
    Some(order) => order,
    None => panic!(),
};

struct Heap(Mutex<Talc<Manual, DefaultBinning>>);

#[global_allocator]
static HEAP: Heap = Heap(Mutex::new(Rank::Memory, Talc::new(Manual)));

// SAFETY: talc hands out valid, unshared blocks; the lock admits one user at a time.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise: the size is not 0.
        unsafe { self.0.lock(&KernelPlatform).allocate(layout) }
            .map_or(null_mut(), core::ptr::NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise: allocated here with this layout.
        unsafe { self.0.lock(&KernelPlatform).deallocate(block, layout) }
    }
}

/// Gives the heap its memory.
pub(super) fn start() -> Result<(), OutOfFrames> {
    let frame = frames::allocate(ORDER)?;
    let (_, cells, order) = frame.into_raw();
    // SAFETY: the frame is ours and stays the heap's for ever.
    let claimed = unsafe {
        HEAP.0
            .lock(&KernelPlatform)
            .claim(cells.as_ptr().cast(), order.bytes() as usize)
    };
    claimed.map(|_| ()).ok_or(OutOfFrames { order })
}

/// The heap's use, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub struct HeapCounters {
    /// Handed out now.
    pub used: usize,
    /// Free now, in all pieces together.
    pub free: usize,
}

/// How full the heap is.
pub fn counters() -> HeapCounters {
    let heap = HEAP.0.lock(&KernelPlatform);
    let counters = heap.counters();
    HeapCounters {
        used: counters.allocated_bytes,
        free: counters.available_bytes,
    }
}
