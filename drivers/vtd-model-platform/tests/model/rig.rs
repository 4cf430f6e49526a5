//! The driver on the model: brought up, asked, and held to what hardware then does.

use iommu_core::{
    Access, AddressRange, Attachment, Backend, Batch, DeviceId, DomainHandle, DomainSpec,
    FaultKind, FaultReason, FaultRecord, Frame, Hpa, Iova, Owed, Pasid, Run, Segment, Slot,
    SourceId, TableFormat,
};
use std::collections::HashMap;
use std::sync::Arc;
use vtd::{
    BringUpError, Corrections, Debt, Discovered, DriverConfig, Event, InterruptConfig, Message,
    ModeRequest, PageRequestConfig, Preparing, Ready, TimeLimits, Translating, UnitConfig,
    UnitDescription,
};
use vtd_model::{Builder, Config, Freedom, Machine, Outcome, Owner, Promptness, Request};
use vtd_model_platform::{ModelMmio, ModelPlatform};

pub(crate) type Platform = ModelPlatform<Event>;
pub(crate) type Driver<S = Translating> = vtd::Driver<Arc<Platform>, ModelMmio<Event>, S>;

/// Two functions behind the first unit, on different buses.
pub(crate) const ONE: u16 = 0x0010;
pub(crate) const OTHER: u16 = 0x0319;

/// What the units' fault events are programmed with.
pub(crate) const FAULT_MESSAGE: Message = Message {
    address: 0xfee0_1000,
    data: 0x31,
};

/// Every test of a few steps runs so; long random runs are in `random`.
pub(crate) const FREEDOMS: [Freedom; 2] = [Freedom::Pessimist(1), Freedom::Random(2)];

pub(crate) fn device(source: u16) -> DeviceId {
    DeviceId::new(Segment(0), SourceId::from_bits(source))
}

pub(crate) fn slot(source: u16, pasid: Option<u32>) -> Slot {
    Slot {
        device: device(source),
        pasid: pasid.map(|pasid| Pasid::new(pasid).expect("20 bits")),
    }
}

pub(crate) fn range(first: u64, pages: u64) -> AddressRange<Iova> {
    AddressRange::of_pages(Iova::new(first), pages).expect("a range of pages")
}

/// A machine to be made, and how the driver shall use it.
pub(crate) struct Plan {
    pub(crate) units: Vec<Config>,
    pub(crate) freedom: Freedom,
    pub(crate) mode: ModeRequest,
    pub(crate) interrupts: Option<InterruptConfig>,
    pub(crate) page_requests: Option<PageRequestConfig>,
    pub(crate) pages: usize,
    pub(crate) limits: TimeLimits,
    pub(crate) corrections: Corrections,
    pub(crate) driver: DriverConfig,
    pub(crate) devices: Vec<(u16, usize, Option<Promptness>)>,
}

impl Plan {
    /// One unit with both devices behind it.
    pub(crate) fn new(config: Config) -> Self {
        let interrupts = config.interrupt_remapping.then_some(InterruptConfig {
            entries_log2: 8,
            extended: false,
        });
        Self {
            units: vec![config],
            freedom: Freedom::Pessimist(1),
            mode: ModeRequest::Automatic,
            interrupts,
            page_requests: None,
            pages: 1 << 10,
            limits: TimeLimits::default(),
            corrections: Corrections::default(),
            driver: DriverConfig {
                domains: 64,
                attachments: 64,
                ..DriverConfig::default()
            },
            devices: vec![(ONE, 0, None), (OTHER, 0, None)],
        }
    }

    pub(crate) fn freedom(self, freedom: Freedom) -> Self {
        Self { freedom, ..self }
    }

    pub(crate) fn mode(self, mode: ModeRequest) -> Self {
        Self { mode, ..self }
    }

    pub(crate) fn device(mut self, source: u16, unit: usize) -> Self {
        self.devices.retain(|(known, ..)| *known != source);
        self.devices.push((source, unit, None));
        self
    }

    pub(crate) fn ats_device(mut self, source: u16, unit: usize, promptness: Promptness) -> Self {
        self.devices.retain(|(known, ..)| *known != source);
        self.devices.push((source, unit, Some(promptness)));
        self
    }

    fn build(&self, mut builder: Builder) -> Builder {
        for config in &self.units {
            builder = builder.unit(config.clone());
        }
        for &(source, unit, ats) in &self.devices {
            builder = match ats {
                None => builder.device(source, unit),
                Some(promptness) => builder.ats_device(source, unit, promptness),
            };
        }
        builder.freedom(self.freedom)
    }

    pub(crate) fn platform(&self) -> Arc<Platform> {
        ModelPlatform::new(self.pages, |builder| self.build(builder)).expect("a possible machine")
    }

    pub(crate) fn discover(&self, platform: &Arc<Platform>) -> Vec<Discovered<ModelMmio<Event>>> {
        (0..self.units.len())
            .map(|unit| {
                let description = UnitDescription {
                    index: unit as u16,
                    segment: Segment(0),
                    register_base: Hpa::new(0xfed9_0000 + 0x1000 * unit as u64),
                    host_bits: self.units[unit].host_bits,
                };
                Discovered::open(description, ModelMmio::new(platform, unit), platform)
                    .expect("the unit answers")
                    .corrected(self.corrections)
            })
            .collect()
    }

    pub(crate) fn prepare(
        &self,
        platform: &Arc<Platform>,
    ) -> Result<Vec<Ready<ModelMmio<Event>>>, BringUpError> {
        let units = self.discover(platform);
        units
            .into_iter()
            .zip(&self.units)
            .map(|(unit, hardware)| {
                let config = UnitConfig {
                    mode: self.mode,
                    interrupts: self.interrupts.filter(|_| hardware.interrupt_remapping),
                    fault_message: Some(FAULT_MESSAGE),
                    page_requests: self.page_requests,
                };
                unit.quiesce(platform, self.limits)?
                    .prepare(platform, &config)
            })
            .collect()
    }

    pub(crate) fn driver(
        &self,
        platform: &Arc<Platform>,
        units: Vec<Ready<ModelMmio<Event>>>,
    ) -> Driver<Preparing> {
        let scopes: HashMap<DeviceId, u16> = self
            .devices
            .iter()
            .map(|&(source, unit, _)| (device(source), unit as u16))
            .collect();
        let scopes = move |device| scopes.get(&device).copied();
        Driver::new(platform.clone(), units, Box::new(scopes), &self.driver)
            .expect("there is memory")
    }

    /// All the way up.
    pub(crate) fn start(&self) -> Rig {
        let platform = self.platform();
        self.start_on(platform)
    }

    pub(crate) fn start_on(&self, platform: Arc<Platform>) -> Rig {
        let units = self.prepare(&platform).expect("the units come up");
        let driver = self.driver(&platform, units);
        let driver = driver.enable().expect("translation comes on");
        Rig::new(platform, driver)
    }
}

/// A driver at work, and the platform that it is on.
pub(crate) struct Rig {
    pub(crate) platform: Arc<Platform>,
    pub(crate) driver: Driver,
    /// Pages of memory that were out when the driver was up.
    idle: usize,
}

impl Rig {
    pub(crate) fn new(platform: Arc<Platform>, driver: Driver) -> Self {
        let idle = platform.arena().outstanding();
        let rig = Self {
            platform,
            driver,
            idle,
        };
        rig.assert_clean();
        rig
    }

    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Machine) -> R) -> R {
        self.platform.with_machine(act)
    }

    /// Memory for a device to reach.
    pub(crate) fn page(&self, owner: u32) -> Frame {
        self.platform
            .page_for(Owner::Guest(owner))
            .expect("a free page")
    }

    /// Says for whom a device acts. From then on its requests are judged.
    pub(crate) fn assign(&self, source: u16, owner: u32) {
        self.with(|machine| machine.assign(source, None, Owner::Guest(owner)));
    }

    pub(crate) fn batch(&self) -> Batch<'_, Debt> {
        Batch::with_capacity(64).expect("room")
    }

    /// Settles one debt.
    pub(crate) fn settle(&self, owed: Owed<'_, Debt>) {
        let mut batch = self.batch();
        batch.add(owed).expect("room");
        self.commit(&mut batch);
    }

    pub(crate) fn commit(&self, batch: &mut Batch<'_, Debt>) {
        let flushed = self.driver.commit(batch).expect("hardware confirms");
        self.release(flushed);
    }

    pub(crate) fn release(&self, mut flushed: iommu_core::Flushed) {
        use iommu_core::Platform as _;
        while let Some(frame) = flushed.frames.pop() {
            self.platform.release(frame);
        }
    }

    /// A domain of a format, for a device.
    pub(crate) fn domain(&self, source: u16, format: TableFormat) -> DomainHandle {
        self.driver
            .create(device(source), &DomainSpec::Paging(format))
            .expect("a domain")
    }

    pub(crate) fn lead(&self, source: u16, pasid: Option<u32>, to: Attachment) {
        let replaced = self
            .driver
            .replace(slot(source, pasid), to)
            .expect("the slot leads there");
        self.settle(replaced.owed);
    }

    pub(crate) fn attach(&self, source: u16, pasid: Option<u32>, domain: DomainHandle) {
        self.lead(source, pasid, Attachment::Domain(domain));
    }

    pub(crate) fn detach(&self, source: u16, pasid: Option<u32>) {
        self.lead(source, pasid, Attachment::Blocked);
    }

    pub(crate) fn map(&self, domain: DomainHandle, iova: u64, hpa: Hpa, access: Access) {
        self.map_run(domain, iova, Run { hpa, pages: 1 }, access);
    }

    pub(crate) fn map_run(&self, domain: DomainHandle, iova: u64, run: Run, access: Access) {
        let owed = self.driver.map(domain, Iova::new(iova), &[run], access);
        self.settle(owed.expect("it can be mapped"));
    }

    pub(crate) fn unmap(&self, domain: DomainHandle, iova: u64, pages: u64) {
        let owed = self.driver.unmap(domain, range(iova, pages));
        self.settle(owed.expect("it can be unmapped"));
    }

    pub(crate) fn destroy(&self, domain: DomainHandle) {
        self.settle(self.driver.destroy(domain).expect("nothing is attached"));
    }

    /// See [`assert_reaches`].
    #[track_caller]
    pub(crate) fn assert_reaches(&self, request: &Request, hpa: Hpa) {
        assert_reaches(&self.platform, request, hpa);
    }

    /// See [`assert_faults`].
    #[track_caller]
    pub(crate) fn assert_faults(&self, request: &Request, reason: FaultReason) {
        assert_faults(&self.platform, &self.driver, request, reason);
    }

    /// See [`assert_blocked`].
    #[track_caller]
    pub(crate) fn assert_blocked(&self, request: &Request) {
        assert_blocked(&self.platform, request);
    }

    pub(crate) fn faults(&self) -> Vec<FaultRecord> {
        faults(&self.driver)
    }

    /// Pages that the driver has taken since it was up.
    pub(crate) fn taken(&self) -> isize {
        self.platform.arena().outstanding() as isize - self.idle as isize
    }

    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        assert_clean(&self.platform);
        assert_eq!(self.driver.quarantined(), vtd::Quarantined::default());
    }
}

/// Whatever hardware does with the request, it reaches this address.
#[track_caller]
pub(crate) fn assert_reaches(platform: &Platform, request: &Request, hpa: Hpa) {
    let expected = Outcome::Memory {
        address: hpa.as_u64() | request.address & 0xfff,
    };
    let possible = platform.with_machine(|machine| machine.possible(request));
    assert_eq!(possible, [expected], "{request:x?}");
    let outcome = platform.with_machine(|machine| machine.request(request));
    assert_eq!(outcome, expected, "{request:x?}");
}

/// Nothing that hardware could do with the request reaches memory.
#[track_caller]
pub(crate) fn assert_blocked(platform: &Platform, request: &Request) {
    for outcome in platform.with_machine(|machine| machine.possible(request)) {
        assert_eq!(outcome.address(), None, "{request:x?}: {outcome:?}");
    }
}

/// Whatever hardware does with the request, it is refused for this reason, and the driver
/// says so.
#[track_caller]
pub(crate) fn assert_faults(
    platform: &Platform,
    driver: &Driver,
    request: &Request,
    reason: FaultReason,
) {
    for outcome in platform.with_machine(|machine| machine.possible(request)) {
        assert_eq!(
            reason_of(&outcome),
            Some(reason),
            "{request:x?}: {outcome:?}"
        );
    }
    let record = refused(platform, driver, request);
    assert_eq!(record.reason, reason, "{request:x?}");
}

/// Carries out a request that will be refused, and returns the one record of it.
#[track_caller]
pub(crate) fn refused(platform: &Platform, driver: &Driver, request: &Request) -> FaultRecord {
    assert_eq!(faults(driver), [], "older faults");
    platform.with_machine(|machine| machine.request(request));
    let records = faults(driver);
    let [record] = records[..] else {
        panic!("{request:x?}: one fault, not {records:?}");
    };
    assert_eq!(record.device, device(request.source));
    assert_eq!(record.pasid.map(Pasid::as_u32), request.pasid);
    let FaultKind::Dma { address, access } = record.kind else {
        panic!("{record:?} is of a DMA request");
    };
    assert_eq!(address, Iova::new(request.address & !0xfff));
    let wanted = match request.access {
        vtd_model::Access::Write => Access::WRITE,
        vtd_model::Access::Atomic => Access::READ_WRITE,
        _ => Access::READ,
    };
    assert_eq!(access, wanted);
    record
}

pub(crate) fn faults(driver: &Driver) -> Vec<FaultRecord> {
    let mut records = Vec::new();
    driver.drain_faults(&mut |record| records.push(*record));
    records
}

/// The reason that a refused request has.
pub(crate) fn reason_of(outcome: &Outcome) -> Option<FaultReason> {
    outcome
        .condition()
        .map(|condition| FaultReason(condition.code()))
}

#[track_caller]
pub(crate) fn assert_clean(platform: &Platform) {
    let violations = platform.take_violations();
    assert!(violations.is_empty(), "{violations:#?}");
}

pub(crate) fn read(source: u16, address: u64) -> Request {
    Request::read(source, address)
}

pub(crate) fn write(source: u16, address: u64) -> Request {
    Request::write(source, address)
}
