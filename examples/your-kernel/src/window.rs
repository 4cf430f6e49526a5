//! A unit's registers, mapped uncached.

use core::ptr::NonNull;
use iommu_core::Mmio;

/// The registers of one unit.
pub struct Window {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: registers may be accessed by any CPU.
unsafe impl Send for Window {}
// SAFETY: as above; the driver sees to the order of accesses.
unsafe impl Sync for Window {}

impl Window {
    /// `bytes` of registers at `base`.
    ///
    /// # Safety
    /// They are mapped there, uncached, for ever.
    pub unsafe fn new(base: NonNull<u8>, bytes: usize) -> Self {
        Self { base, bytes }
    }

    fn register<T>(&self, offset: usize) -> Option<NonNull<T>> {
        let within = offset.checked_add(size_of::<T>())? <= self.bytes;
        // SAFETY: within the mapping.
        within.then(|| unsafe { self.base.add(offset).cast() })
    }
}

impl Mmio for Window {
    fn size(&self) -> usize {
        self.bytes
    }

    fn read32(&self, offset: usize) -> u32 {
        // SAFETY: a register of the mapping.
        self.register(offset).map_or(u32::MAX, |at| unsafe { at.read_volatile() })
    }

    fn read64(&self, offset: usize) -> u64 {
        // SAFETY: a register of the mapping.
        self.register(offset).map_or(u64::MAX, |at| unsafe { at.read_volatile() })
    }

    fn write32(&self, offset: usize, value: u32) {
        if let Some(at) = self.register(offset) {
            // SAFETY: a register of the mapping.
            unsafe { at.write_volatile(value) }
        }
    }

    fn write64(&self, offset: usize, value: u64) {
        if let Some(at) = self.register(offset) {
            // SAFETY: a register of the mapping.
            unsafe { at.write_volatile(value) }
        }
    }
}
