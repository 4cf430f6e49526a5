//! Windows on registers.
//!
//! Invariant that the `unsafe` here rests on: a window's bytes are mapped uncached for ever,
//! and are registers, so that only volatile accesses reach them.

use super::{MapError, paging};
use core::ptr::NonNull;
use iommu_core::{AddressRange, Hpa, Mmio};
use volatile::VolatilePtr;

/// Registers of a device, mapped uncached.
#[derive(Debug)]
pub struct RegisterWindow {
    base: NonNull<u8>,
    size: usize,
    hpa: Hpa,
}

// SAFETY: registers may be accessed from every CPU; what order they need is their driver's
// concern.
unsafe impl Send for RegisterWindow {}
// SAFETY: as above.
unsafe impl Sync for RegisterWindow {}

impl RegisterWindow {
    /// Maps `size` bytes of registers. Refused where usable memory lies.
    pub fn map(hpa: Hpa, size: usize) -> Result<Self, MapError> {
        let range = AddressRange::of_bytes(hpa, size as u64).map_err(|_| MapError::TooHigh(hpa))?;
        let base = paging::map_registers(&range)?;
        Ok(Self {
            base: NonNull::new(base).ok_or(MapError::TooHigh(hpa))?,
            size,
            hpa,
        })
    }

    /// Where the registers lie.
    pub fn hpa(&self) -> Hpa {
        self.hpa
    }

    /// The register of type `T` at `offset`, if it lies within and is aligned.
    fn register<T: Copy>(&self, offset: usize) -> Option<VolatilePtr<'_, T>> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.size || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: the module's invariant; in bounds and aligned.
        Some(unsafe { VolatilePtr::new(self.base.add(offset).cast()) })
    }

    /// An 8-bit read; all ones beyond the window.
    pub fn read8(&self, offset: usize) -> u8 {
        self.register(offset).map_or(u8::MAX, VolatilePtr::read)
    }

    /// A 16-bit read; all ones beyond the window.
    pub fn read16(&self, offset: usize) -> u16 {
        self.register(offset).map_or(u16::MAX, VolatilePtr::read)
    }

    /// An 8-bit write; nothing beyond the window.
    pub fn write8(&self, offset: usize, value: u8) {
        if let Some(register) = self.register(offset) {
            register.write(value);
        }
    }

    /// A 16-bit write; nothing beyond the window.
    pub fn write16(&self, offset: usize, value: u16) {
        if let Some(register) = self.register(offset) {
            register.write(value);
        }
    }
}

impl Mmio for RegisterWindow {
    fn size(&self) -> usize {
        self.size
    }

    fn read32(&self, offset: usize) -> u32 {
        self.register(offset).map_or(u32::MAX, VolatilePtr::read)
    }

    fn read64(&self, offset: usize) -> u64 {
        self.register(offset).map_or(u64::MAX, VolatilePtr::read)
    }

    fn write32(&self, offset: usize, value: u32) {
        if let Some(register) = self.register(offset) {
            register.write(value);
        }
    }

    fn write64(&self, offset: usize, value: u64) {
        if let Some(register) = self.register(offset) {
            register.write(value);
        }
    }
}
