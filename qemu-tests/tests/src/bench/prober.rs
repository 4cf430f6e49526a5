//! QEMU's `iommu-testdev`, from 11.1 on: writes a pattern through the unit, at once, and
//! looks whether it arrived at a physical address that it is given.

use kernel::memory::RegisterWindow;
use kernel::pci::Bus;

use iommu_core::{DeviceId, Hpa, Iova, Mmio};
use pci::{CommandRegister, Config};

use crate::check::Deviation;

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// It is where it was expected.
    Arrived,
    /// The unit refused it.
    Refused,
    /// It is somewhere else, or anything else: the device's result.
    Other(u32),
}

/// The device.
pub(crate) struct Prober {
    id: DeviceId,
    registers: RegisterWindow,
}

/// The same ids as `pci-testdev`'s, which is never in the machine.
const VENDOR: u16 = 0x1b36;
const DEVICE: u16 = 0x0005;

/// Reading it does the write.
const TRIGGER: usize = 0x00;
const IOVA_LOW: usize = 0x04;
const IOVA_HIGH: usize = 0x08;
const LENGTH: usize = 0x0c;
const RESULT: usize = 0x10;
const ARM: usize = 0x14;
const PHYSICAL_LOW: usize = 0x1c;
const PHYSICAL_HIGH: usize = 0x20;

const RESULT_ARRIVED: u32 = 0;
const RESULT_REFUSED: u32 = 0xdead_0002;

impl Prober {
    /// Bytes that it writes.
    pub(crate) const BYTES: u32 = 4;

    pub(super) fn find(bus: &'static Bus) -> Result<Self, Deviation> {
        let function = bus
            .topology
            .find(VENDOR, DEVICE)
            .ok_or_else(|| Deviation::skipped(format_args!("the machine has no iommu-testdev")))?;
        let bar = function
            .bar(0)
            .ok_or_else(|| Deviation::failed(format_args!("iommu-testdev has no registers")))?;
        let config = Config::new(&bus.ecam, function.id);
        config.set_command(
            config.command() | CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE,
        );
        Ok(Self {
            id: function.id,
            registers: RegisterWindow::map(bar.base, bar.size as usize)?,
        })
    }

    /// Its requester id.
    pub(crate) fn id(&self) -> DeviceId {
        self.id
    }

    /// Writes at an address of the device's, and looks for it in memory.
    pub(crate) fn write(&self, to: Iova, expected_at: Hpa) -> Arrival {
        let write = |offset, value| self.registers.write32(offset, value);
        let (to, expected_at) = (to.as_u64(), expected_at.as_u64());
        write(IOVA_LOW, to as u32);
        write(IOVA_HIGH, (to >> 32) as u32);
        write(PHYSICAL_LOW, expected_at as u32);
        write(PHYSICAL_HIGH, (expected_at >> 32) as u32);
        write(LENGTH, Self::BYTES);
        write(ARM, 1);
        self.registers.read32(TRIGGER);
        match self.registers.read32(RESULT) {
            RESULT_ARRIVED => Arrival::Arrived,
            RESULT_REFUSED => Arrival::Refused,
            other => Arrival::Other(other),
        }
    }
}
