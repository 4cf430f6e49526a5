//! The model as a platform on which every entry is a point where another thread may go on.

use crate::rig;
use iommu_core::sync::Rank;
use iommu_core::{
    Coherence, Frame, Hpa, Mmio, Nanoseconds, Observer, Order, OutOfFrames, Platform,
};
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread::{self, ThreadId};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use vtd::Event;
use vtd_model_platform::ModelMmio;

/// The platform.
pub(crate) struct Switching {
    pub(crate) model: Arc<rig::Platform>,
    /// Looking at it is where threads are switched.
    point: AtomicBool,
    /// Locks that each thread holds. `shuttle`'s threads are one to the machine, so the
    /// model's own check would mix them up.
    held: Mutex<HashMap<ThreadId, Vec<Rank>>>,
}

impl Switching {
    pub(crate) fn new(model: Arc<rig::Platform>) -> Arc<Self> {
        Arc::new(Self {
            model,
            point: AtomicBool::new(false),
            held: Mutex::default(),
        })
    }

    fn switch(&self) {
        self.point.load(Ordering::SeqCst);
    }

    fn held<R>(&self, act: impl FnOnce(&mut Vec<Rank>) -> R) -> R {
        let mut held = self.held.lock().expect("no panic");
        act(held.entry(thread::current().id()).or_default())
    }
}

impl Platform for Switching {
    fn allocate(&self, order: Order) -> Result<Frame, OutOfFrames> {
        self.switch();
        self.model.allocate(order)
    }

    fn release(&self, frame: Frame) {
        self.switch();
        self.model.release(frame);
    }

    unsafe fn adopt(&self, hpa: Hpa, order: Order) -> Frame {
        // SAFETY: the caller's promise is the same.
        unsafe { self.model.adopt(hpa, order) }
    }

    fn publish64(&self, frame: &Frame, index: usize, value: u64, coherence: Coherence) {
        self.switch();
        self.model.publish64(frame, index, value, coherence);
    }

    fn publish128(&self, frame: &Frame, index: usize, value: [u64; 2], coherence: Coherence) {
        self.switch();
        self.model.publish128(frame, index, value, coherence);
    }

    fn exchange64(
        &self,
        frame: &Frame,
        index: usize,
        current: u64,
        value: u64,
        coherence: Coherence,
    ) -> Result<(), u64> {
        self.switch();
        self.model
            .exchange64(frame, index, current, value, coherence)
    }

    fn write_back(&self, frame: &Frame, cells: Range<usize>) {
        self.switch();
        self.model.write_back(frame, cells);
    }

    fn peek(&self, at: Hpa) -> Option<u64> {
        self.model.peek(at)
    }

    fn fence(&self) {
        self.switch();
        self.model.fence();
    }

    fn now(&self) -> Nanoseconds {
        self.switch();
        self.model.now()
    }

    fn relax(&self) {
        self.model.relax();
        thread::yield_now();
    }

    fn enter(&self, rank: Rank) -> u64 {
        self.switch();
        self.held(|held| {
            let highest = held.iter().max().copied();
            assert!(
                highest.is_none_or(|highest| rank > highest),
                "{rank:?} taken while {highest:?} is held"
            );
            held.push(rank);
        });
        0
    }

    fn leave(&self, rank: Rank, _: u64) {
        self.held(|held| {
            let place = held.iter().rposition(|&other| other == rank);
            held.remove(place.expect("a lock that is given back was taken"));
        });
        self.switch();
    }
}

impl Observer<Event> for Switching {
    fn observe(&self, _: &Event) {}
}

/// Registers of the only unit.
pub(crate) struct SwitchingMmio {
    platform: Arc<Switching>,
    registers: ModelMmio<Event>,
}

impl SwitchingMmio {
    pub(crate) fn new(platform: &Arc<Switching>) -> Self {
        Self {
            platform: platform.clone(),
            registers: ModelMmio::new(&platform.model, 0),
        }
    }
}

impl Mmio for SwitchingMmio {
    fn size(&self) -> usize {
        self.registers.size()
    }

    fn read32(&self, offset: usize) -> u32 {
        self.platform.switch();
        self.registers.read32(offset)
    }

    fn read64(&self, offset: usize) -> u64 {
        self.platform.switch();
        self.registers.read64(offset)
    }

    fn write32(&self, offset: usize, value: u32) {
        self.platform.switch();
        self.registers.write32(offset, value);
    }

    fn write64(&self, offset: usize, value: u64) {
        self.platform.switch();
        self.registers.write64(offset, value);
    }
}
