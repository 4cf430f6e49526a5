//! The frame allocator: naturally aligned powers of two of pages, from a buddy system that
//! lives in the direct map.
//!
//! Invariants that the `unsafe` here rests on:
//! 1. The heap holds only ranges given to [`add`], whose callers vouch that they are free
//!    memory, mapped at the direct map's address.
//! 2. A block's address in the direct map and its physical address have the same alignment
//!    (the direct map starts on a multiple of every block size).

use crate::platform::KernelPlatform;
use boot::layout;
use buddy_system_allocator::Heap;
use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{AddressRange, Frame, Hpa, Order, OutOfFrames, Platform};

/// The largest block: 2^18 pages, 1 GiB.
const MAX_ORDER: Order = Order::PAGE_1G;
/// The heap's orders count bytes, from 2^0 on.
const HEAP_ORDERS: usize = 31;

struct Frames {
    heap: Heap<HEAP_ORDERS>,
    least_free: u64,
    failures: u64,
}

/// Memory, in pages of 4 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub struct FrameCounters {
    /// All that was ever free.
    pub total: u64,
    /// Free now.
    pub free: u64,
    /// The least that was ever free.
    pub least_free: u64,
    /// Requests that could not be met.
    pub failures: u64,
}

static FRAMES: Mutex<Frames> = Mutex::new(
    Rank::Memory,
    Frames {
        heap: Heap::new(),
        least_free: u64::MAX,
        failures: 0,
    },
);

/// Gives ranges to the allocator.
///
/// # Safety
/// They are page-aligned, free, mapped in the direct map, and stay both.
pub(super) unsafe fn add(ranges: &[AddressRange<Hpa>]) {
    let mut frames = FRAMES.lock(&KernelPlatform);
    for range in ranges {
        let first = layout::direct_map(range.first());
        let last = layout::direct_map(range.last());
        if let (Some(first), Some(last)) = (first, last) {
            // SAFETY: the caller's promise.
            unsafe { frames.heap.add_to_heap(first as usize, last as usize + 1) };
        }
    }
}

/// How much memory there is.
pub fn counters() -> FrameCounters {
    let frames = FRAMES.lock(&KernelPlatform);
    let free = frames.free();
    FrameCounters {
        total: pages(frames.heap.stats_total_bytes()),
        free,
        least_free: frames.least_free.min(free),
        failures: frames.failures,
    }
}

impl Frames {
    fn free(&self) -> u64 {
        pages(self.heap.stats_total_bytes() - self.heap.stats_alloc_actual())
    }
}

fn pages(bytes: usize) -> u64 {
    bytes as u64 / iommu_core::PAGE_SIZE
}

fn layout_of(order: Order) -> Option<Layout> {
    let bytes = usize::try_from(order.bytes()).ok()?;
    (order <= MAX_ORDER)
        .then(|| Layout::from_size_align(bytes, bytes).ok())
        .flatten()
}

/// A zeroed block.
pub(crate) fn allocate(order: Order) -> Result<Frame, OutOfFrames> {
    let layout = layout_of(order).ok_or(OutOfFrames { order })?;
    let block = {
        let mut frames = FRAMES.lock(&KernelPlatform);
        let block = frames.heap.alloc(layout);
        match block {
            Ok(_) => frames.least_free = frames.least_free.min(frames.free()),
            Err(()) => frames.failures += 1,
        }
        block.map_err(|()| OutOfFrames { order })?
    };
    // SAFETY: the block is ours, mapped, and as long as its layout says.
    unsafe { block.as_ptr().write_bytes(0, layout.size()) };
    let hpa = layout::direct_map_to_hpa(block.addr().get() as u64).ok_or(OutOfFrames { order })?;
    // SAFETY: invariants 1 and 2: owned, zeroed, aligned, mapped for ever.
    let frame = unsafe { Frame::from_raw(hpa, block.cast::<AtomicU64>(), order) };
    // A unit that does not snoop must find the zeroes in memory.
    KernelPlatform.write_back(&frame, 0..layout.size() / 8);
    Ok(frame)
}

/// Takes a block back.
pub(crate) fn release(frame: Frame) {
    let (_, cells, order) = frame.into_raw();
    if let Some(layout) = layout_of(order) {
        let mut frames = FRAMES.lock(&KernelPlatform);
        // SAFETY: every frame came from `allocate` with this layout, and the caller owned it.
        unsafe { frames.heap.dealloc(cells.cast(), layout) };
    }
}

/// The frame at `hpa` again.
///
/// # Safety
/// As [`Platform::adopt`].
pub(crate) unsafe fn adopt(hpa: Hpa, order: Order) -> Frame {
    let address = layout::DIRECT_MAP | hpa.as_u64();
    let cells = core::ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: the caller's promise: `allocate` made this frame from the direct map, so its
    // address is not null.
    unsafe { Frame::from_raw(hpa, NonNull::new_unchecked(cells), order) }
}
