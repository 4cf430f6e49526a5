//! A machine with one unit, and the driver on it.

use crate::fake::{self, Fake, Registers};
use crate::heap::outside;
use iommu_core::sync::Rank;
use iommu_core::*;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use test_platform::TestPlatform;
use vtd::{
    Discovered, Driver, DriverConfig, Event, InterruptConfig, Message, ModeRequest, Preparing,
    Ready, TimeLimits, Translating, UnitConfig, UnitDescription,
};

/// The platform that the driver gets: a test platform with an ear.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) memory: Arc<TestPlatform>,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
}

impl Machine {
    pub(crate) fn new(memory: TestPlatform) -> Self {
        Self {
            memory: Arc::new(memory),
            events: Arc::default(),
        }
    }

    pub(crate) fn saw(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.events.lock().unwrap().iter().any(wanted)
    }
}

impl Observer<Event> for Machine {
    fn observe(&self, event: &Event) {
        if !matches!(event, Event::RegisterWritten { .. } | Event::Queued { .. }) {
            outside(|| self.events.lock().unwrap().push(*event));
        }
    }
}

impl Platform for Machine {
    fn allocate(&self, order: Order) -> Result<Frame, OutOfFrames> {
        outside(|| self.memory.allocate(order))
    }
    fn release(&self, frame: Frame) {
        outside(|| self.memory.release(frame))
    }
    unsafe fn adopt(&self, hpa: Hpa, order: Order) -> Frame {
        // SAFETY: the caller's promise is the same.
        outside(|| unsafe { self.memory.adopt(hpa, order) })
    }
    fn publish64(&self, frame: &Frame, index: usize, value: u64, coherence: Coherence) {
        outside(|| self.memory.publish64(frame, index, value, coherence))
    }
    fn publish128(&self, frame: &Frame, index: usize, value: [u64; 2], coherence: Coherence) {
        outside(|| self.memory.publish128(frame, index, value, coherence))
    }
    fn write_back(&self, frame: &Frame, cells: Range<usize>) {
        outside(|| self.memory.write_back(frame, cells))
    }
    fn peek(&self, at: Hpa) -> Option<u64> {
        outside(|| self.memory.device_load(at))
    }
    fn fence(&self) {
        self.memory.fence()
    }
    fn now(&self) -> Nanoseconds {
        self.memory.now()
    }
    fn relax(&self) {
        // Time passes fast for who waits.
        self.memory.advance(Nanoseconds::from_millis(10));
        self.memory.relax()
    }
    fn enter(&self, rank: Rank) -> u64 {
        outside(|| self.memory.enter(rank))
    }
    fn leave(&self, rank: Rank, state: u64) {
        outside(|| self.memory.leave(rank, state))
    }
}

pub(crate) const FAULT_MESSAGE: Message = Message {
    address: 0xfee0_1000,
    data: 0x40,
};

/// What a test wants of its machine.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) cap: u64,
    pub(crate) ecap: u64,
    pub(crate) mode: ModeRequest,
    /// Interrupts are remapped.
    pub(crate) interrupts: bool,
    pub(crate) snooped: bool,
    pub(crate) pages: usize,
    pub(crate) config: DriverConfig,
}

impl Plan {
    /// The unit knows Device-TLBs (§11.4.3).
    pub(crate) fn with_device_tlbs(self) -> Self {
        const DT: u64 = 1 << 2;
        Self {
            ecap: self.ecap | DT,
            ..self
        }
    }

    pub(crate) fn legacy() -> Self {
        Self {
            cap: fake::CAP,
            ecap: fake::ECAP_LEGACY,
            mode: ModeRequest::Automatic,
            interrupts: true,
            snooped: false,
            pages: 2048,
            config: DriverConfig {
                domains: 16,
                attachments: 32,
                ..DriverConfig::default()
            },
        }
    }

    pub(crate) fn second_stage() -> Self {
        Self {
            ecap: fake::ECAP_SECOND,
            ..Self::legacy()
        }
    }

    pub(crate) fn first_stage() -> Self {
        Self {
            cap: fake::CAP_FIRST,
            ecap: fake::ECAP_FIRST,
            ..Self::legacy()
        }
    }

    /// A unit that has everything, and snoops.
    pub(crate) fn rich() -> Self {
        Self {
            cap: fake::CAP_FIRST,
            ecap: fake::ECAP_ALL,
            snooped: true,
            ..Self::legacy()
        }
    }

    pub(crate) fn caching(self) -> Self {
        Self {
            cap: self.cap | 1 << 7,
            ..self
        }
    }

    /// Page-selective whatever it costs.
    pub(crate) fn exact(self) -> Self {
        let costs = vtd::CostRule {
            page_selective_limit: u32::MAX,
        };
        let config = DriverConfig {
            costs,
            ..self.config
        };
        Self { config, ..self }
    }

    pub(crate) fn machine(&self) -> (Machine, Arc<Fake>) {
        let memory = if self.snooped {
            TestPlatform::new(self.pages)
        } else {
            TestPlatform::non_coherent(self.pages)
        };
        let machine = Machine::new(memory);
        let fake = Fake::new(machine.memory.clone(), self.cap, self.ecap);
        (machine, fake)
    }

    pub(crate) fn discover(&self, machine: &Machine, fake: &Arc<Fake>) -> Discovered<Registers> {
        Discovered::open(description(), Registers(fake.clone()), machine).unwrap()
    }

    pub(crate) fn config(&self) -> UnitConfig {
        UnitConfig {
            mode: self.mode,
            interrupts: self.interrupts.then_some(InterruptConfig {
                entries_log2: 8,
                extended: false,
            }),
            fault_message: Some(FAULT_MESSAGE),
            page_requests: Some(vtd::PageRequestConfig {
                pages_log2: 0,
                message: Some(FAULT_MESSAGE),
            }),
        }
    }

    pub(crate) fn ready(&self, machine: &Machine, fake: &Arc<Fake>) -> Ready<Registers> {
        self.discover(machine, fake)
            .quiesce(machine, TimeLimits::default())
            .unwrap()
            .prepare(machine, &self.config())
            .unwrap()
    }

    pub(crate) fn preparing(
        &self,
        machine: &Machine,
        fake: &Arc<Fake>,
    ) -> Driver<Machine, Registers, Preparing> {
        let scopes = |device: DeviceId| (device.segment.0 == 0).then_some(UNIT);
        let ready = self.ready(machine, fake);
        Driver::new(machine.clone(), [ready], Box::new(scopes), &self.config).unwrap()
    }

    /// The machine at work.
    pub(crate) fn boot(&self) -> World {
        let (machine, fake) = self.machine();
        let driver = self.preparing(&machine, &fake).enable().unwrap();
        fake.take_executed();
        fake.state().doorbells = 0;
        World {
            machine,
            fake,
            driver,
        }
    }
}

pub(crate) const UNIT: u16 = 5;

pub(crate) fn description() -> UnitDescription {
    UnitDescription {
        index: UNIT,
        segment: Segment(0),
        register_base: Hpa::new(0xfed9_0000),
        host_bits: 46,
    }
}

pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) fake: Arc<Fake>,
    pub(crate) driver: Driver<Machine, Registers, Translating>,
}

/// What a commit cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub(crate) descriptors: u32,
    pub(crate) doorbells: u32,
    pub(crate) waits: u32,
}

pub(crate) fn device(source: u16) -> DeviceId {
    DeviceId::new(Segment(0), SourceId::from_bits(source))
}

pub(crate) fn slot(source: u16) -> Slot {
    Slot {
        device: device(source),
        pasid: None,
    }
}

pub(crate) fn pasid_slot(source: u16, pasid: u32) -> Slot {
    Slot {
        device: device(source),
        pasid: Pasid::new(pasid),
    }
}

pub(crate) fn pages(first: u64, count: u64) -> AddressRange<Iova> {
    AddressRange::of_pages(Iova::new(first << 12), count).unwrap()
}

impl World {
    /// The format of domains in this mode.
    pub(crate) fn format(&self) -> TableFormat {
        let capabilities = self.driver.capabilities(device(0x20)).unwrap();
        [TableFormat::FirstStage4, TableFormat::SecondStage4]
            .into_iter()
            .find(|&format| capabilities.supports(format))
            .unwrap()
    }

    pub(crate) fn domain(&self) -> DomainHandle {
        let spec = DomainSpec::Paging(self.format());
        self.driver.create(device(0x20), &spec).unwrap()
    }

    /// Settles what is owed and gives the frames back.
    pub(crate) fn commit(&self, owed: Owed<'_, vtd::Debt>) -> Told {
        self.try_commit([owed]).unwrap()
    }

    pub(crate) fn try_commit<'q, const N: usize>(
        &'q self,
        owed: [Owed<'q, vtd::Debt>; N],
    ) -> Result<Told, FlushError> {
        let mut batch = Batch::with_capacity(N).unwrap();
        for owed in owed {
            batch.add(owed).unwrap();
        }
        let mut flushed = self.driver.commit(&mut batch)?;
        while let Some(frame) = flushed.frames.pop() {
            self.machine.release(frame);
        }
        Ok(Told {
            descriptors: flushed.descriptors,
            doorbells: flushed.doorbells,
            waits: flushed.waits,
        })
    }

    pub(crate) fn attach(&self, slot: Slot, to: Attachment) {
        let replaced = self.driver.replace(slot, to).unwrap();
        self.commit(replaced.owed);
    }

    pub(crate) fn detach(&self, slot: Slot) {
        self.attach(slot, Attachment::Blocked);
    }

    /// Maps one page of memory at a page of the domain.
    pub(crate) fn map(&self, domain: DomainHandle, page: u64) {
        let run = Run {
            hpa: Hpa::new(0x1000_0000 + (page << 12)),
            pages: 1,
        };
        let iova = Iova::new(page << 12);
        let owed = self
            .driver
            .map(domain, iova, &[run], Access::READ_WRITE)
            .unwrap();
        self.commit(owed);
    }

    /// Where a request would end, by the driver's own walk over the tables.
    pub(crate) fn walk(&self, slot: Slot, page: u64) -> Result<Hpa, FaultReason> {
        let iova = Iova::new(page << 12);
        self.driver.explain(slot, iova, Access::READ, &mut |_| {})
    }

    /// Words of the device's context entry as hardware reads them.
    pub(crate) fn context(&self, source: u16) -> Option<[u64; 2]> {
        let scalable = self.fake.state().root >> 10 & 3 == 1;
        let root = self.fake.state().root & !0xfff;
        let (bus, devfn) = (u64::from(source >> 8), u64::from(source & 0xff));
        let (root_at, index) = if scalable {
            (root + bus * 16 + (devfn >> 7) * 8, (devfn & 0x7f) * 32)
        } else {
            (root + bus * 16, devfn * 16)
        };
        let load = |at: u64| self.machine.memory.device_load(Hpa::new(at)).unwrap();
        let entry = load(root_at);
        (entry & 1 != 0).then(|| {
            let at = (entry & !0xfff) + index;
            [load(at), load(at + 8)]
        })
    }

    /// Words of a PASID table entry as hardware reads them.
    pub(crate) fn pasid_entry(&self, source: u16, pasid: u64) -> Option<[u64; 8]> {
        let load = |at: u64| self.machine.memory.device_load(Hpa::new(at)).unwrap();
        let [context, _] = self.context(source)?;
        let directory = load((context & !0xfff) + (pasid >> 6) * 8);
        (directory & 1 != 0).then(|| {
            let at = (directory & !0xfff) + (pasid & 0x3f) * 64;
            std::array::from_fn(|n| load(at + 8 * n as u64))
        })
    }
}
