//! A unit's registers, past the driver.

use dmar::Dmar;
use kernel::host;
use kernel::memory::RegisterWindow;

use iommu_core::Mmio;
use vtd::registers::{Iqa, Register32, Register64};

use super::Bench;
use crate::check::Deviation;

/// The first unit's registers.
pub(crate) struct UnitRegisters(RegisterWindow);

impl Bench {
    /// The first unit's registers.
    pub(crate) fn unit_registers(&mut self) -> Result<UnitRegisters, Deviation> {
        of_first_unit(&self.host().remapping.dmar)
    }

    /// The same, before the units are touched.
    pub(crate) fn registers_before_start(&mut self) -> Result<UnitRegisters, Deviation> {
        let found = host::find(&self.machine)
            .map_err(|error| Deviation::failed(format_args!("no machine: {error}")))?;
        of_first_unit(found.dmar())
    }
}

fn of_first_unit(dmar: &Dmar<'_>) -> Result<UnitRegisters, Deviation> {
    let drhd = dmar
        .units()
        .next()
        .map(|unit| unit.drhd)
        .ok_or_else(|| Deviation::failed(format_args!("the DMAR names no unit")))?;
    let window = RegisterWindow::map(drhd.register_base, drhd.register_bytes() as usize)?;
    Ok(UnitRegisters(window))
}

impl UnitRegisters {
    /// Descriptors that the invalidation queue has room for (§11.4.9.3, IQA).
    pub(crate) fn queue_slots(&self) -> u32 {
        let address: Iqa = self.read64();
        let slots = 256 << address.qs();
        if address.dw() { slots / 2 } else { slots }
    }

    /// A register of 32 bits.
    pub(crate) fn read32<R: Register32>(&self) -> R {
        R::from_raw(self.0.read32(R::OFFSET))
    }

    /// Writes a register of 32 bits.
    pub(crate) fn write32<R: Register32>(&self, register: R) {
        self.0.write32(R::OFFSET, register.into_raw());
    }

    /// Writes a register of 64 bits.
    pub(crate) fn write64<R: Register64>(&self, register: R) {
        self.0.write64(R::OFFSET, register.into_raw());
    }

    /// A register of 64 bits.
    pub(crate) fn read64<R: Register64>(&self) -> R {
        R::from_raw(self.0.read64(R::OFFSET))
    }
}
