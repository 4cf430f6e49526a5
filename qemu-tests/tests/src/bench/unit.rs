//! A unit's registers, read past the driver.

use kernel::memory::RegisterWindow;

use iommu_core::Mmio;
use vtd::registers::{Iqa, Register32, Register64};

use super::Bench;
use crate::check::Deviation;

/// The first unit's registers, for reading.
pub(crate) struct UnitRegisters(RegisterWindow);

impl Bench {
    /// The first unit's registers.
    pub(crate) fn unit_registers(&mut self) -> Result<UnitRegisters, Deviation> {
        let dmar = &self.host().remapping.dmar;
        let drhd = dmar
            .units()
            .next()
            .map(|unit| unit.drhd)
            .ok_or_else(|| Deviation::failed(format_args!("the DMAR names no unit")))?;
        let window = RegisterWindow::map(drhd.register_base, drhd.register_bytes() as usize)?;
        Ok(UnitRegisters(window))
    }
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

    /// A register of 64 bits.
    pub(crate) fn read64<R: Register64>(&self) -> R {
        R::from_raw(self.0.read64(R::OFFSET))
    }
}
