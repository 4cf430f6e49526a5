//! Locks that an interrupt handler wanted while its own CPU held them.

use crate::rig::{self, FREEDOMS, ONE, Plan, device, range, read, slot};
use iommu_core::sync::Rank;
use iommu_core::{
    Access, Attachment, Backend, Batch, Coherence, DomainSpec, Frame, Hpa, Iova, Nanoseconds,
    Observer, Order, OutOfFrames, Owed, Platform, Run, TableFormat,
};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use vtd::{Discovered, Driver, Event, UnitConfig, UnitDescription};
use vtd_model::Config;
use vtd_model_platform::ModelMmio;

type Handler = Box<dyn Fn() + Send>;

/// One CPU, on which an interrupt comes whenever one can: at the end of each section in
/// which they are off, and in every turn of a waiting loop outside of one.
struct Interrupted {
    model: Arc<rig::Platform>,
    /// Sections that this CPU is in.
    depth: AtomicUsize,
    handling: AtomicBool,
    handler: Mutex<Option<Handler>>,
    handled: AtomicUsize,
    /// Turns that the handler has spent waiting for something.
    turns: AtomicUsize,
}

impl Interrupted {
    fn interrupt(&self) {
        if self.depth.load(Ordering::Relaxed) > 0 || self.handling.load(Ordering::Relaxed) {
            return;
        }
        let handler = self.handler.lock().expect("no panic");
        if let Some(handler) = &*handler {
            self.handling.store(true, Ordering::Relaxed);
            self.turns.store(0, Ordering::Relaxed);
            handler();
            self.handled.fetch_add(1, Ordering::Relaxed);
            self.handling.store(false, Ordering::Relaxed);
        }
    }
}

impl Platform for Interrupted {
    fn allocate(&self, order: Order) -> Result<Frame, OutOfFrames> {
        self.model.allocate(order)
    }

    fn release(&self, frame: Frame) {
        self.model.release(frame);
    }

    unsafe fn adopt(&self, hpa: Hpa, order: Order) -> Frame {
        // SAFETY: the caller's promise is the same.
        unsafe { self.model.adopt(hpa, order) }
    }

    fn publish64(&self, frame: &Frame, index: usize, value: u64, coherence: Coherence) {
        self.model.publish64(frame, index, value, coherence);
    }

    fn publish128(&self, frame: &Frame, index: usize, value: [u64; 2], coherence: Coherence) {
        self.model.publish128(frame, index, value, coherence);
    }

    fn write_back(&self, frame: &Frame, cells: Range<usize>) {
        self.model.write_back(frame, cells);
    }

    fn fence(&self) {
        self.model.fence();
    }

    fn now(&self) -> Nanoseconds {
        self.model.now()
    }

    fn relax(&self) {
        // What the handler waits for is held by whom it has interrupted, who cannot go on.
        if self.handling.load(Ordering::Relaxed) {
            let turns = self.turns.fetch_add(1, Ordering::Relaxed);
            assert!(turns < 100_000, "the handler waits for its own CPU");
        }
        self.model.relax();
        self.interrupt();
    }

    fn enter(&self, rank: Rank) -> u64 {
        let state = self.model.enter(rank);
        self.depth.fetch_add(1, Ordering::Relaxed);
        state
    }

    fn leave(&self, rank: Rank, state: u64) {
        self.model.leave(rank, state);
        self.depth.fetch_sub(1, Ordering::Relaxed);
        self.interrupt();
    }
}

impl Observer<Event> for Interrupted {
    fn observe(&self, event: &Event) {
        self.model.observe(event);
    }
}

#[test]
fn xsa_467_a_fault_handler_finds_no_lock_that_its_own_cpu_holds() {
    for freedom in FREEDOMS {
        let plan = Plan::new(Config::legacy()).freedom(freedom);
        let model = plan.platform();
        let platform = Arc::new(Interrupted {
            model: Arc::clone(&model),
            depth: AtomicUsize::new(0),
            handling: AtomicBool::new(false),
            handler: Mutex::new(None),
            handled: AtomicUsize::new(0),
            turns: AtomicUsize::new(0),
        });
        let description = UnitDescription {
            index: 0,
            segment: iommu_core::Segment(0),
            register_base: Hpa::new(0xfed9_0000),
            host_bits: plan.units[0].host_bits,
        };
        let config = UnitConfig {
            mode: plan.mode,
            interrupts: plan.interrupts,
            fault_message: Some(rig::FAULT_MESSAGE),
            page_requests: None,
        };
        let mmio = ModelMmio::new(&model, 0);
        let unit = Discovered::open(description, mmio, &platform).expect("the unit answers");
        let ready = unit
            .quiesce(&platform, plan.limits)
            .and_then(|unit| unit.prepare(&platform, &config))
            .expect("it comes up");
        let scopes = Box::new(|_| Some(0));
        let driver = Driver::new(Arc::clone(&platform), vec![ready], scopes, &plan.driver)
            .expect("memory")
            .enable()
            .expect("it translates");
        let driver = Arc::new(driver);
        let own = Arc::clone(&driver);
        let hardware = Arc::clone(&model);
        *platform.handler.lock().expect("no panic") = Some(Box::new(move || {
            // There is always one more fault to be read.
            hardware.with_machine(|machine| machine.request(&read(0x00f8, 0x9000)));
            own.drain_faults(&mut |_| {});
        }));
        let settle = |owed: Owed<'_, _>| {
            let mut batch = Batch::with_capacity(4).expect("room");
            batch.add(owed).expect("room");
            let mut flushed = driver.commit(&mut batch).expect("confirmed");
            while let Some(frame) = flushed.frames.pop() {
                platform.release(frame);
            }
        };
        let spec = DomainSpec::Paging(TableFormat::SecondStage4);
        let domain = driver.create(device(ONE), &spec).expect("a domain");
        let page = model.allocate(Order::PAGE).expect("a page");
        let run = Run {
            hpa: page.hpa(),
            pages: 1,
        };
        for _ in 0..3 {
            let replaced = driver.replace(slot(ONE, None), Attachment::Domain(domain));
            settle(replaced.expect("led there").owed);
            let mapped = driver.map(domain, Iova::new(0x7000), &[run], Access::READ_WRITE);
            settle(mapped.expect("mapped"));
            settle(driver.unmap(domain, range(0x7000, 1)).expect("unmapped"));
            // What the handler does, in its own right.
            driver.drain_faults(&mut |_| {});
            let replaced = driver.replace(slot(ONE, None), Attachment::Blocked);
            settle(replaced.expect("blocked").owed);
        }
        settle(driver.destroy(domain).expect("not used"));
        model.release(page);
        let handled = platform.handled.load(Ordering::Relaxed);
        assert!(handled > 30, "{handled} interrupts");
        // Without the handler: it holds the driver.
        *platform.handler.lock().expect("no panic") = None;
        rig::assert_clean(&model);
    }
}
