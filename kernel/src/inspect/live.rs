//! A unit at work, read past the driver.

use crate::memory::{self, RegisterWindow};
use crate::remapping::Remapping;
use core::sync::atomic::Ordering;
use iommu_core::{Address, Hpa, Mmio};
use vtd_inspect::{Page, Source};

/// A unit's registers through a window of their own, and memory.
pub(crate) struct LiveUnit {
    registers: RegisterWindow,
}

impl LiveUnit {
    /// The unit of this number; `None` if there is none.
    pub(crate) fn new(remapping: &Remapping, unit: u16) -> Option<Self> {
        let unit = remapping
            .dmar
            .units()
            .find(|known| known.index == usize::from(unit))?;
        let drhd = &unit.drhd;
        let registers =
            RegisterWindow::map(drhd.register_base, drhd.register_bytes() as usize).ok()?;
        Some(Self { registers })
    }

    fn holds(&self, offset: usize, bytes: usize) -> bool {
        offset
            .checked_add(bytes)
            .is_some_and(|end| end <= self.registers.size())
    }
}

impl Source for LiveUnit {
    fn read32(&self, offset: usize) -> Option<u32> {
        self.holds(offset, 4).then(|| self.registers.read32(offset))
    }

    fn read64(&self, offset: usize) -> Option<u64> {
        self.holds(offset, 8).then(|| self.registers.read64(offset))
    }

    /// Memory that the memory map lists as usable; of other memory nothing is read.
    fn page(&self, at: Hpa, page: &mut Page) -> bool {
        for (offset, word) in (0u64..).step_by(8).zip(page.iter_mut()) {
            let Some(cell) = at.checked_add(offset).and_then(memory::cell) else {
                return false;
            };
            *word = cell.load(Ordering::Acquire);
        }
        true
    }
}
