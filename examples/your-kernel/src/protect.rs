//! DMA protection: every device is blocked, and gets what the kernel gives it.

use crate::Kernel;
use alloc::boxed::Box;
use core::fmt;
use iommu_core::{
    Access, Attachment, Backend, BackendError, Batch, DeviceId, DomainHandle, DomainSpec,
    FlushError, Hpa, Iova, MapError, Mmio, Order, OutOfFrames, Owed, Platform, Run, Slot,
    TableFormat,
};
use vtd::{
    BringUpError, Debt, Discovered, DiscoveryError, Driver, DriverConfig, TimeLimits, Translating,
    UnitConfig, UnitDescription,
};

/// Why there is no protection, or no buffer.
#[derive(Debug)]
pub enum Failure {
    /// There is no unit.
    Discovery(DiscoveryError),
    /// It did not come up.
    BringUp(BringUpError),
    /// The driver refused.
    Backend(BackendError),
    /// A buffer cannot lie there.
    Map(MapError),
    /// Hardware did not confirm.
    Flush(FlushError),
    /// No memory.
    Memory,
}

macro_rules! failure_from {
    ($($error:ty => $kind:ident),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::$kind(error)
            }
        }
    )*};
}
failure_from!(
    DiscoveryError => Discovery, BringUpError => BringUp, BackendError => Backend,
    MapError => Map, FlushError => Flush
);

impl From<OutOfFrames> for Failure {
    fn from(_: OutOfFrames) -> Self {
        Self::Memory
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discovery(error) => error.fmt(f),
            Self::BringUp(error) => error.fmt(f),
            Self::Backend(error) => error.fmt(f),
            Self::Map(error) => error.fmt(f),
            Self::Flush(error) => error.fmt(f),
            Self::Memory => f.write_str("no memory"),
        }
    }
}

impl core::error::Error for Failure {}

/// A machine whose devices reach only what they were given.
pub struct Protected<'k, M> {
    kernel: &'k Kernel,
    /// The driver, for what is not here: faults, interrupts, PASIDs.
    pub driver: Driver<&'k Kernel, M, Translating>,
    format: TableFormat,
}

/// Turns a unit on. All devices behind it are blocked from here on.
///
/// A machine may have several units, described by the DMAR table (crate `dmar`), and devices
/// with reserved regions, which get their mappings between `Driver::new` and `enable`.
pub fn protect<M: Mmio + 'static>(
    kernel: &Kernel,
    description: UnitDescription,
    registers: M,
) -> Result<Protected<'_, M>, Failure> {
    let unit = Discovered::open(description, registers, kernel)?;
    let unit = unit.quiesce(kernel, TimeLimits::default())?;
    let unit = unit.prepare(kernel, &UnitConfig::default())?;
    let format = unit.mode().format();
    let index = description.index;
    let scopes = Box::new(move |_| Some(index));
    let driver = Driver::new(kernel, [unit], scopes, &DriverConfig::default())?;
    let driver = driver.enable().map_err(|failure| failure.error)?;
    Ok(Protected { kernel, driver, format })
}

impl<M: Mmio> Protected<'_, M> {
    /// Addresses of its own for a device, none of which leads anywhere yet.
    pub fn confine(&self, device: DeviceId) -> Result<DomainHandle, Failure> {
        let domain = self.driver.create(device, &DomainSpec::Paging(self.format))?;
        let slot = Slot { device, pasid: None };
        let replaced = self.driver.replace(slot, Attachment::Domain(domain))?;
        self.settle(replaced.owed)?;
        Ok(domain)
    }

    /// A page that the device reaches at `iova`; says where the kernel does.
    pub fn give(&self, domain: DomainHandle, iova: Iova) -> Result<Hpa, Failure> {
        let page = self.kernel.allocate(Order::PAGE)?;
        let run = Run { hpa: page.hpa(), pages: 1 };
        match self.driver.map(domain, iova, &[run], Access::READ_WRITE) {
            Ok(owed) => {
                self.settle(owed)?;
                Ok(page.leak())
            }
            Err(error) => {
                self.kernel.release(page);
                Err(error.into())
            }
        }
    }

    /// Takes the page back: from the moment of return the device cannot reach it.
    pub fn take_back(&self, domain: DomainHandle, iova: Iova, page: Hpa) -> Result<(), Failure> {
        let range = iommu_core::AddressRange::page_of(iova);
        self.settle(self.driver.unmap(domain, range)?)?;
        self.kernel.frames().give_back(self.kernel.frames().again(page, Order::PAGE));
        Ok(())
    }

    fn settle(&self, owed: Owed<'_, Debt>) -> Result<(), Failure> {
        let mut batch = Batch::with_capacity(1).ok_or(Failure::Memory)?;
        batch.add(owed).map_err(|_| Failure::Memory)?;
        let mut flushed = self.driver.commit(&mut batch)?;
        while let Some(frame) = flushed.frames.pop() {
            self.kernel.release(frame);
        }
        Ok(())
    }
}
