//! What the driver stands on: the hardware model as platform, registers and hypervisor, with a
//! step before whatever real CPUs could meet at.

use crate::ram::lock;
use crate::stage::{self, Point, step};
use iommu_core::sync::Rank;
use iommu_core::{
    Coherence, DeviceId, Frame, Hpa, Mmio, Nanoseconds, Observer, Order, OutOfFrames, Platform,
    ResetError, ServiceError, VmEvent, VmHost, VmId,
};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use vtd::Event;
use vtd_model_platform::{ModelMmio, ModelPlatform};

/// The model as a platform, with steps, and without memory now and then.
pub(crate) struct Floor {
    pub(crate) model: Arc<ModelPlatform<Event>>,
    /// One allocation in so many fails; 0 for none.
    failing: AtomicU64,
    seed: u64,
    allocations: AtomicU64,
    failures: AtomicU64,
}

impl Floor {
    pub(crate) fn new(model: Arc<ModelPlatform<Event>>, seed: u64) -> Self {
        Self {
            model,
            failing: AtomicU64::new(0),
            seed,
            allocations: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Lets one allocation in `every` fail from now on; none with 0.
    pub(crate) fn fail_one_in(&self, every: u64) {
        self.failing.store(every, Ordering::Relaxed);
    }

    /// Allocations that were made to fail.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn fails_now(&self) -> bool {
        let every = self.failing.load(Ordering::Relaxed);
        let number = self.allocations.fetch_add(1, Ordering::Relaxed);
        every != 0 && fastrand::Rng::with_seed(self.seed ^ number).u64(..every) == 0
    }
}

impl Platform for Floor {
    fn allocate(&self, order: Order) -> Result<Frame, OutOfFrames> {
        step(Point::Memory);
        if self.fails_now() {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return Err(OutOfFrames { order });
        }
        self.model.allocate(order)
    }

    fn release(&self, frame: Frame) {
        step(Point::Memory);
        self.model.release(frame);
    }

    unsafe fn adopt(&self, hpa: Hpa, order: Order) -> Frame {
        // SAFETY: the caller's promise is the same.
        unsafe { self.model.adopt(hpa, order) }
    }

    fn publish64(&self, frame: &Frame, index: usize, value: u64, coherence: Coherence) {
        step(Point::Store);
        self.model.publish64(frame, index, value, coherence);
    }

    fn publish128(&self, frame: &Frame, index: usize, value: [u64; 2], coherence: Coherence) {
        step(Point::Store);
        self.model.publish128(frame, index, value, coherence);
    }

    fn write_back(&self, frame: &Frame, cells: Range<usize>) {
        step(Point::WriteBack);
        self.model.write_back(frame, cells);
    }

    fn peek(&self, at: Hpa) -> Option<u64> {
        self.model.peek(at)
    }

    fn fence(&self) {
        step(Point::Fence);
        self.model.fence();
    }

    fn now(&self) -> Nanoseconds {
        self.model.now()
    }

    fn relax(&self) {
        self.model.relax();
        step(Point::Wait);
    }

    fn enter(&self, rank: Rank) -> u64 {
        step(Point::Lock);
        stage::hold(rank);
        0
    }

    fn leave(&self, rank: Rank, _: u64) {
        stage::let_go(rank);
        step(Point::Unlock);
    }
}

impl Observer<Event> for Floor {
    fn observe(&self, _: &Event) {}
}

/// A unit's registers, with steps, and with an invalidation queue that can be made to stall.
pub(crate) struct Registers {
    model: ModelMmio<Event>,
    floor: Arc<Floor>,
    illness: Arc<Illness>,
}

/// A unit that is not well: it does not look at its queue for a while, so that writes to the
/// tail reach it late, or it reads rubbish where a descriptor was.
#[derive(Default)]
pub(crate) struct Illness {
    damages: AtomicBool,
    /// In nanoseconds of the platform's clock.
    until: AtomicU64,
    waits: AtomicBool,
    tail: AtomicU64,
}

/// IQT (§11.4.9.2).
const TAIL: usize = 0x88;

impl Illness {
    /// The first descriptor of the next batch is lost on its way.
    pub(crate) fn damage(&self) {
        self.damages.store(true, Ordering::Relaxed);
    }

    /// No more of that. A stall takes its time.
    pub(crate) fn recover(&self) {
        self.damages.store(false, Ordering::Relaxed);
    }

    pub(crate) fn stall(&self, until: Nanoseconds) {
        self.until.fetch_max(until.0, Ordering::Relaxed);
    }

    pub(crate) fn stalls(&self, now: Nanoseconds) -> bool {
        now.0 < self.until.load(Ordering::Relaxed)
    }
}

impl Registers {
    pub(crate) fn new(floor: &Arc<Floor>, unit: usize, illness: &Arc<Illness>) -> Self {
        Self {
            model: ModelMmio::new(&floor.model, unit),
            floor: Arc::clone(floor),
            illness: Arc::clone(illness),
        }
    }

    fn catch_up(&self) {
        if self.illness.waits.load(Ordering::Relaxed)
            && !self.illness.stalls(self.floor.model.now())
        {
            self.illness.waits.store(false, Ordering::Relaxed);
            let tail = self.illness.tail.load(Ordering::Relaxed);
            self.model.write64(TAIL, tail);
        }
    }
}

/// IQA (§11.4.9.3).
const QUEUE: usize = 0x90;

impl Registers {
    /// Puts a descriptor without a type where the first new one was.
    fn damage(&self, tail: u64) {
        let address = self.model.read64(QUEUE) & !0xfff;
        let at = self.model.read64(TAIL);
        if at != tail {
            self.floor.model.as_hardware(|machine| {
                machine.write_u128(address + at, [0, 0]);
                machine.written_back(address + at, 16);
            });
        }
    }
}

impl Mmio for Registers {
    fn size(&self) -> usize {
        self.model.size()
    }

    fn read32(&self, offset: usize) -> u32 {
        step(Point::Register);
        self.catch_up();
        self.model.read32(offset)
    }

    fn read64(&self, offset: usize) -> u64 {
        step(Point::Register);
        self.catch_up();
        self.model.read64(offset)
    }

    fn write32(&self, offset: usize, value: u32) {
        step(Point::Register);
        self.catch_up();
        self.model.write32(offset, value);
    }

    fn write64(&self, offset: usize, value: u64) {
        step(Point::Register);
        if offset == TAIL && self.illness.stalls(self.floor.model.now()) {
            self.illness.tail.store(value, Ordering::Relaxed);
            self.illness.waits.store(true, Ordering::Relaxed);
            return;
        }
        if offset == TAIL && self.illness.damages.swap(false, Ordering::Relaxed) {
            self.damage(value);
        }
        self.catch_up();
        self.model.write64(offset, value);
    }
}

/// The hypervisor around: devices can always be reset, and guests be told.
#[derive(Default)]
pub(crate) struct Around {
    pub(crate) notified: AtomicU64,
    pub(crate) resets: AtomicU64,
    /// Devices that are programmed to cache translations and to ask for pages.
    asking: Mutex<BTreeSet<u16>>,
}

impl Around {
    /// Does something on behalf of a device that may ask for pages; it may for as long as
    /// that takes. `None` if it may not.
    pub(crate) fn while_asking<R>(&self, source: u16, act: impl FnOnce() -> R) -> Option<R> {
        let asking = lock(&self.asking);
        asking.contains(&source).then(act)
    }
}

/// A reference to it.
#[derive(Clone)]
pub(crate) struct Host(pub(crate) Arc<Around>, pub(crate) Arc<Floor>);

impl VmHost for Host {
    fn notify(&self, _: VmId, _: VmEvent) {
        step(Point::Host);
        self.0.notified.fetch_add(1, Ordering::Relaxed);
    }

    fn stop_pasid(&self, _: iommu_core::Slot) -> Result<(), ResetError> {
        step(Point::Host);
        Ok(())
    }

    fn set_page_requests(&self, device: DeviceId, on: bool) -> Result<(), ServiceError> {
        step(Point::Host);
        let (mut asking, source) = (lock(&self.0.asking), device.source.bits());
        self.1
            .model
            .with_machine(|machine| machine.switch_ats(source, on));
        if on {
            asking.insert(source);
        } else {
            asking.remove(&source);
        }
        Ok(())
    }

    fn reset(&self, _: DeviceId) -> Result<(), ResetError> {
        step(Point::Host);
        self.0.resets.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
