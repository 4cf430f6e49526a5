//! Drivers that are broken on purpose: a run that does not catch them proves nothing.

use iommu_core::{
    Access, AddressRange, AtsCapability, Attachment, Backend, BackendError, Batch,
    DeviceCapabilities, DeviceId, DomainHandle, DomainSpec, FaultReason, FaultRecord, FlushError,
    Flushed, Hpa, Iova, MapError, Owed, PageAttributes, PageRequest, PageResponse, Replaced, Run,
    Scope, ServiceError, Slot, TableFormat, WalkStep,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is wrong with a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// One batch in four is taken for confirmed and never sent.
    SwallowsFlushes,
    /// Of what an invalidation names, only the first page is told.
    FlushesOnePage,
    /// Every change is told as one of leaves alone: paging-structure caches stay.
    CallsEverythingLeaf,
    /// A device that is to be blocked keeps what it had, one time in two.
    LeavesSlots,
    /// A mapping is one page longer than it was asked for.
    MapsTooMuch,
    /// Of a longer range, the last page stays mapped.
    UnmapsTooLittle,
    /// Units that do not snoop are not told what was stored.
    ForgetsWriteBacks,
    /// Memory is taken from a guest without asking the policy first.
    GivesMemoryAway,
    /// One answer to a group of page requests in four does not reach its device.
    SwallowsAnswers,
    /// Whoever takes page requests from the units waits for hardware at each of them.
    LingersOverRequests,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::SwallowsFlushes,
        Self::FlushesOnePage,
        Self::CallsEverythingLeaf,
        Self::LeavesSlots,
        Self::MapsTooMuch,
        Self::UnmapsTooLittle,
        Self::ForgetsWriteBacks,
        Self::GivesMemoryAway,
        Self::SwallowsAnswers,
        Self::LingersOverRequests,
    ];

    /// What it does, in a few words.
    pub fn words(self) -> &'static str {
        match self {
            Self::SwallowsFlushes => "does not send one flush in four",
            Self::FlushesOnePage => "flushes the first page of a range alone",
            Self::CallsEverythingLeaf => "never flushes paging-structure caches",
            Self::LeavesSlots => "does not block a device, one time in two",
            Self::MapsTooMuch => "maps one page more than asked for",
            Self::UnmapsTooLittle => "leaves the last page of a range mapped",
            Self::ForgetsWriteBacks => "does not write tables back",
            Self::GivesMemoryAway => "gives memory away that a guest still has",
            Self::SwallowsAnswers => "loses one answer to a device's page requests in four",
            Self::LingersOverRequests => "lets guests wait for each page request of others",
        }
    }
}

/// A driver, perhaps broken.
pub(crate) struct Broken<D> {
    pub(crate) driver: Arc<D>,
    pub(crate) fault: Option<Fault>,
    count: AtomicU64,
}

impl<D> Broken<D> {
    pub(crate) fn new(driver: Arc<D>, fault: Option<Fault>) -> Self {
        Self {
            driver,
            fault,
            count: AtomicU64::new(0),
        }
    }

    /// Whether the driver has this fault, and it is its turn.
    fn errs(&self, fault: Fault, one_in: u64) -> bool {
        self.fault == Some(fault)
            && self.count.fetch_add(1, Ordering::Relaxed) % one_in == one_in - 1
    }
}

impl<D: Backend> Backend for Broken<D> {
    type Debt = D::Debt;

    fn capabilities(&self, device: DeviceId) -> Result<DeviceCapabilities, BackendError> {
        self.driver.capabilities(device)
    }

    fn create(&self, device: DeviceId, spec: &DomainSpec) -> Result<DomainHandle, BackendError> {
        self.driver.create(device, spec)
    }

    fn create_with(
        &self,
        device: DeviceId,
        format: TableFormat,
        attributes: &PageAttributes,
    ) -> Result<DomainHandle, BackendError> {
        self.driver.create_with(device, format, attributes)
    }

    fn create_checked(
        &self,
        device: DeviceId,
        format: TableFormat,
    ) -> Result<DomainHandle, BackendError> {
        self.driver.create_checked(device, format)
    }

    fn destroy(&self, domain: DomainHandle) -> Result<Owed<'_, Self::Debt>, BackendError> {
        self.driver.destroy(domain)
    }

    fn map(
        &self,
        domain: DomainHandle,
        iova: Iova,
        runs: &[Run],
        access: Access,
    ) -> Result<Owed<'_, Self::Debt>, MapError> {
        if self.errs(Fault::MapsTooMuch, 1) {
            let mut longer = runs.to_vec();
            if let Some(last) = longer.last_mut() {
                last.pages += 1;
            }
            if let Ok(owed) = self.driver.map(domain, iova, &longer, access) {
                return Ok(owed);
            }
        }
        self.driver.map(domain, iova, runs, access)
    }

    fn unmap(
        &self,
        domain: DomainHandle,
        range: AddressRange<Iova>,
    ) -> Result<Owed<'_, Self::Debt>, MapError> {
        if range.pages() > 1 && self.errs(Fault::UnmapsTooLittle, 1) {
            let less = AddressRange::of_pages(range.first(), range.pages() - 1);
            return self.driver.unmap(domain, less.unwrap_or(range));
        }
        self.driver.unmap(domain, range)
    }

    fn replace(
        &self,
        slot: Slot,
        to: Attachment,
    ) -> Result<Replaced<'_, Self::Debt>, BackendError> {
        if to == Attachment::Blocked
            && let Ok(Attachment::Domain(domain)) = self.driver.attachment(slot)
            && self.errs(Fault::LeavesSlots, 2)
        {
            return Ok(Replaced {
                previous: Attachment::Domain(domain),
                hitless: false,
                owed: self.driver.invalidate(domain, Scope::Everything)?,
            });
        }
        self.driver.replace(slot, to)
    }

    fn attachment(&self, slot: Slot) -> Result<Attachment, BackendError> {
        self.driver.attachment(slot)
    }

    fn invalidate(
        &self,
        domain: DomainHandle,
        scope: Scope,
    ) -> Result<Owed<'_, Self::Debt>, BackendError> {
        let scope = match scope {
            Scope::Range { range, leaf_only } if self.errs(Fault::FlushesOnePage, 1) => {
                Scope::Range {
                    range: AddressRange::page_of(range.first()),
                    leaf_only,
                }
            }
            Scope::Range { range, .. } if self.errs(Fault::CallsEverythingLeaf, 1) => {
                Scope::Range {
                    range,
                    leaf_only: true,
                }
            }
            scope => scope,
        };
        self.driver.invalidate(domain, scope)
    }

    fn commit(&self, batch: &mut Batch<'_, Self::Debt>) -> Result<Flushed, FlushError> {
        if self.errs(Fault::SwallowsFlushes, 4) {
            return Ok(Flushed {
                frames: batch.settle(),
                ..Flushed::default()
            });
        }
        self.driver.commit(batch)
    }

    fn reclaim(&self) -> Result<Flushed, FlushError> {
        self.driver.reclaim()
    }

    fn has_unconfirmed(&self) -> bool {
        self.driver.has_unconfirmed()
    }

    fn drain_faults(&self, sink: &mut dyn FnMut(&FaultRecord)) {
        self.driver.drain_faults(sink);
    }

    fn drain_page_requests(&self, sink: &mut dyn FnMut(&PageRequest)) {
        if self.fault != Some(Fault::LingersOverRequests) {
            return self.driver.drain_page_requests(sink);
        }
        self.driver.drain_page_requests(&mut |request| {
            for _ in 0..8 {
                let _ = self.driver.flush_page_requests(request.slot);
            }
            sink(request);
        });
    }

    fn respond(&self, response: &PageResponse) -> Result<(), BackendError> {
        if self.errs(Fault::SwallowsAnswers, 4) {
            return Ok(());
        }
        self.driver.respond(response)
    }

    fn respond_all(&self, responses: &[PageResponse]) -> Result<(), BackendError> {
        let taken = responses.iter().copied();
        let taken: Vec<_> = taken
            .filter(|_| !self.errs(Fault::SwallowsAnswers, 4))
            .collect();
        self.driver.respond_all(&taken)
    }

    fn enable_page_requests(
        &self,
        device: DeviceId,
        ats: AtsCapability,
        turn_on: &mut dyn FnMut() -> Result<(), ServiceError>,
    ) -> Result<(), BackendError> {
        self.driver.enable_page_requests(device, ats, turn_on)
    }

    fn disable_page_requests(
        &self,
        device: DeviceId,
        turn_off: &mut dyn FnMut() -> Result<(), ServiceError>,
    ) -> Result<(), BackendError> {
        self.driver.disable_page_requests(device, turn_off)
    }

    fn flush_page_requests(&self, slot: Slot) -> Result<bool, BackendError> {
        self.driver.flush_page_requests(slot)
    }

    fn explain(
        &self,
        slot: Slot,
        iova: Iova,
        access: Access,
        step: &mut dyn FnMut(&WalkStep),
    ) -> Result<Hpa, FaultReason> {
        self.driver.explain(slot, iova, access, step)
    }
}
