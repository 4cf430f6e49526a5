//! Memory and time for the driver; whoever waits sees time fly.

use iommu_core::sync::Rank;
use iommu_core::{Coherence, Frame, Hpa, Nanoseconds, Observer, Order, OutOfFrames, Platform};
use std::ops::Range;
use test_platform::TestPlatform;
use vtd::Event;

/// A test platform whose waiting loops take 10 ms a turn, so that every time limit is
/// reached after some hundred turns.
pub(super) struct Machine {
    pub(super) memory: TestPlatform,
}

impl Machine {
    pub(super) fn new(pages: usize) -> Self {
        Self {
            memory: TestPlatform::new(pages),
        }
    }
}

impl Observer<Event> for Machine {
    fn observe(&self, event: &Event) {
        // Whoever logs formats it.
        if !matches!(event, Event::RegisterWritten { .. } | Event::Queued { .. }) {
            let _ = format!("{event:?}");
        }
    }
}

impl Platform for Machine {
    fn allocate(&self, order: Order) -> Result<Frame, OutOfFrames> {
        self.memory.allocate(order)
    }
    fn release(&self, frame: Frame) {
        self.memory.release(frame)
    }
    unsafe fn adopt(&self, hpa: Hpa, order: Order) -> Frame {
        // SAFETY: the caller's promise is the same.
        unsafe { self.memory.adopt(hpa, order) }
    }
    fn publish64(&self, frame: &Frame, index: usize, value: u64, coherence: Coherence) {
        self.memory.publish64(frame, index, value, coherence)
    }
    fn publish128(&self, frame: &Frame, index: usize, value: [u64; 2], coherence: Coherence) {
        self.memory.publish128(frame, index, value, coherence)
    }
    fn write_back(&self, frame: &Frame, cells: Range<usize>) {
        self.memory.write_back(frame, cells)
    }
    fn peek(&self, at: Hpa) -> Option<u64> {
        self.memory.device_load(at)
    }
    fn fence(&self) {
        self.memory.fence()
    }
    fn now(&self) -> Nanoseconds {
        self.memory.now()
    }
    fn relax(&self) {
        self.memory.advance(Nanoseconds::from_millis(10));
    }
    fn enter(&self, rank: Rank) -> u64 {
        self.memory.enter(rank)
    }
    fn leave(&self, rank: Rank, state: u64) {
        self.memory.leave(rank, state)
    }
}
