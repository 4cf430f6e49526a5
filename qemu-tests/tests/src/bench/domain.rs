//! Domains: what a device reaches through its tables.

use kernel::remapping::Driver;

use iommu_core::{
    Access, AddressRange, Attachment, Backend, Batch, DeviceCapabilities, DeviceId, DomainHandle,
    DomainSpec, Flushed, Iova, Owed, Pasid, Platform, Run, Slot, TableFormat,
};

use super::PLATFORM;
use super::page::Page;
use crate::check::Deviation;

/// What the driver notes about a flush.
type Debt = <Driver as Backend>::Debt;

/// A domain whose tables the driver keeps.
pub(crate) struct Domain {
    driver: &'static Driver,
    handle: DomainHandle,
    iova_bits: u8,
}

impl Domain {
    pub(super) fn create(driver: &'static Driver, device: DeviceId) -> Result<Self, Deviation> {
        let capabilities = driver.capabilities(device)?;
        let format = best_format(&capabilities)?;
        let handle = driver.create(device, &DomainSpec::Paging(format))?;
        Ok(Self {
            driver,
            handle,
            iova_bits: capabilities.iova_bits.min(format.input_bits()),
        })
    }

    /// Lets a device's requests, or those of one PASID of it, go through the domain.
    pub(crate) fn attach(&self, device: DeviceId, pasid: Option<Pasid>) -> Result<(), Deviation> {
        self.lead(Slot { device, pasid }, Attachment::Domain(self.handle))
    }

    /// Refuses them again.
    pub(crate) fn block(&self, device: DeviceId, pasid: Option<Pasid>) -> Result<(), Deviation> {
        self.lead(Slot { device, pasid }, Attachment::Blocked)
    }

    fn lead(&self, slot: Slot, to: Attachment) -> Result<(), Deviation> {
        self.settle(self.driver.replace(slot, to)?.owed)
    }

    /// The last page of the lower half of what the domain translates: all of it is canonical.
    pub(crate) fn last_page(&self) -> u64 {
        (1 << (self.iova_bits - 1 - 12)) - 1
    }

    /// Maps a page at an address, and waits for what is owed.
    pub(crate) fn map(&self, at: Iova, page: &Page, access: Access) -> Result<(), Deviation> {
        self.map_runs(at, &[page.run()], access)
    }

    /// Maps runs from an address on, and waits for what is owed.
    pub(crate) fn map_runs(&self, at: Iova, runs: &[Run], access: Access) -> Result<(), Deviation> {
        self.settle(self.driver.map(self.handle, at, runs, access)?)
    }

    /// Takes a page away, and waits until the hardware has forgotten it.
    pub(crate) fn unmap(&self, at: Iova) -> Result<(), Deviation> {
        self.settle(self.unmap_without_flush(at)?)
    }

    /// Takes a page away and leaves the flush to the caller.
    pub(crate) fn unmap_without_flush(&self, at: Iova) -> Result<Owed<'static, Debt>, Deviation> {
        Ok(self.driver.unmap(self.handle, AddressRange::page_of(at))?)
    }

    /// Does what is owed.
    pub(crate) fn settle(&self, owed: Owed<'static, Debt>) -> Result<(), Deviation> {
        let mut batch = Batch::with_capacity(1).ok_or_else(Deviation::no_memory)?;
        batch.add(owed).map_err(|_| Deviation::no_memory())?;
        release(&mut self.driver.commit(&mut batch)?);
        Ok(())
    }
}

/// Gives frames back that nothing reaches any more.
fn release(flushed: &mut Flushed) {
    while let Some(frame) = flushed.frames.pop() {
        PLATFORM.release(frame);
    }
}

/// The format of the mode that the unit is in, with most levels.
fn best_format(capabilities: &DeviceCapabilities) -> Result<TableFormat, Deviation> {
    TableFormat::ALL
        .into_iter()
        .filter(|&format| capabilities.supports(format))
        .max_by_key(|format| format.levels())
        .ok_or_else(|| Deviation::failed(format_args!("the unit has no table format")))
}
