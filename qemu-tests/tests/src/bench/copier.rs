//! The `edu` device as a source of DMA.

use edu::{Direction, Edu, Transfer};
use kernel::memory::RegisterWindow;
use kernel::pci::Bus;

use iommu_core::{DeviceId, Iova, Pasid};
use kernel::time::KernelClock;
use pci::capability::MsiCapability;
use pci::{CommandRegister, Config, Function};

use super::domain::Domain;
use crate::check::Deviation;

/// A device that copies between memory and a buffer of its own of 4 KiB.
pub(crate) struct Copier {
    id: DeviceId,
    edu: Edu<RegisterWindow>,
    msi: MsiCapability,
    bus: &'static Bus,
}

impl Copier {
    /// Whole pages.
    pub(crate) const PAGE: u16 = 4096;

    pub(super) fn find(bus: &'static Bus) -> Result<Self, Deviation> {
        let function = bus.topology.find(edu::VENDOR, edu::DEVICE);
        Self::of(bus, function)
    }

    /// The one of this id.
    pub(super) fn find_by_id(bus: &'static Bus, id: DeviceId) -> Result<Self, Deviation> {
        Self::of(bus, bus.topology.function(id))
    }

    fn of(bus: &'static Bus, function: Option<&'static Function>) -> Result<Self, Deviation> {
        let function = function
            .ok_or_else(|| Deviation::skipped(format_args!("the machine has no edu device")))?;
        let missing = |what: &str| Deviation::failed(format_args!("the edu device has no {what}"));
        let bar = function.bar(0).ok_or_else(|| missing("registers"))?;
        let msi = function.capabilities.msi.ok_or_else(|| missing("MSI"))?;
        let config = Config::new(&bus.ecam, function.id);
        config.set_command(
            config.command() | CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE,
        );
        Ok(Self {
            id: function.id,
            edu: Edu::new(RegisterWindow::map(bar.base, bar.size as usize)?)?,
            msi,
            bus,
        })
    }

    /// Its requester id.
    pub(crate) fn id(&self) -> DeviceId {
        self.id
    }

    /// Lets its requests go through a domain, and waits until nothing else is remembered.
    pub(crate) fn attach(&self, domain: &Domain) -> Result<(), Deviation> {
        domain.attach(self.id, None)
    }

    /// The same for its requests with a PASID.
    pub(crate) fn attach_pasid(&self, domain: &Domain, pasid: Pasid) -> Result<(), Deviation> {
        domain.attach(self.id, Some(pasid))
    }

    /// Refuses all of its requests again.
    pub(crate) fn block(&self, domain: &Domain) -> Result<(), Deviation> {
        domain.block(self.id, None)
    }

    /// Refuses its requests with a PASID again.
    pub(crate) fn block_pasid(&self, domain: &Domain, pasid: Pasid) -> Result<(), Deviation> {
        domain.block(self.id, Some(pasid))
    }

    /// Reads memory at an address of the device's into its buffer.
    pub(crate) fn load(&self, from: Iova, bytes: u16) -> Result<(), Deviation> {
        self.copy(Direction::FromMemory, from, bytes)
    }

    /// Writes its buffer to memory at an address of the device's.
    pub(crate) fn store(&self, to: Iova, bytes: u16) -> Result<(), Deviation> {
        self.copy(Direction::ToMemory, to, bytes)
    }

    /// Tells it to write its buffer to memory, and does not wait.
    pub(crate) fn begin_store(&self, to: Iova, bytes: u16) -> Result<(), Deviation> {
        let transfer = Transfer::new(Direction::ToMemory, to, 0, bytes)?;
        self.edu.start(&transfer, false)?;
        Ok(())
    }

    /// Waits until it copies no more.
    pub(crate) fn wait(&self) -> Result<(), Deviation> {
        self.edu
            .wait(&KernelClock, Edu::<RegisterWindow>::PATIENCE)?;
        Ok(())
    }

    fn copy(&self, direction: Direction, memory: Iova, bytes: u16) -> Result<(), Deviation> {
        let transfer = Transfer::new(direction, memory, 0, bytes)?;
        self.edu
            .copy(&transfer, &KernelClock, Edu::<RegisterWindow>::PATIENCE)?;
        Ok(())
    }

    /// Lets its interrupt be this message.
    pub(crate) fn send_interrupts_as(&self, message: iommu_core::IrqMessage) {
        self.msi
            .set_message_info(message.address, message.data, &self.bus.ecam);
        self.msi.set_enabled(true, &self.bus.ecam);
    }

    /// Lets its interrupt be its line.
    pub(crate) fn interrupt_by_line(&self) {
        self.msi.set_enabled(false, &self.bus.ecam);
        let config = Config::new(&self.bus.ecam, self.id);
        config.set_command(config.command() - CommandRegister::INTERRUPT_DISABLE);
    }

    /// Pulls its line.
    pub(crate) fn pull_line(&self) {
        self.edu.raise(edu::Causes::new().with_requested(1));
    }

    /// Lets go of its line.
    pub(crate) fn release_line(&self) {
        self.edu.acknowledge();
    }

    /// Raises its interrupt.
    pub(crate) fn raise_interrupt(&self) {
        self.edu.raise(edu::Causes::new().with_requested(1));
        self.edu.acknowledge();
    }
}
