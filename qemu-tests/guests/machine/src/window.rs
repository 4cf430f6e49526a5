//! A device's registers as a driver wants them.

use crate::Machine;
use iommu_core::{Gpa, Mmio};

/// A window of registers at a guest-physical address.
#[derive(Clone, Copy)]
pub struct Window<'m> {
    machine: &'m dyn Machine,
    base: Gpa,
    bytes: usize,
}

impl<'m> Window<'m> {
    /// The registers from `base` on.
    pub fn new(machine: &'m dyn Machine, base: Gpa, bytes: usize) -> Self {
        Self {
            machine,
            base,
            bytes,
        }
    }

    fn at(&self, offset: usize, width: usize) -> Option<Gpa> {
        let end = offset.checked_add(width)?;
        if end > self.bytes {
            return None;
        }
        let address = self.base.as_u64().checked_add(offset as u64)?;
        Some(Gpa::new(address))
    }
}

impl Mmio for Window<'_> {
    fn size(&self) -> usize {
        self.bytes
    }

    fn read32(&self, offset: usize) -> u32 {
        match self.at(offset, 4) {
            Some(at) => self.machine.read_register32(at),
            None => u32::MAX,
        }
    }

    fn read64(&self, offset: usize) -> u64 {
        match self.at(offset, 8) {
            Some(at) => self.machine.read_register64(at),
            None => u64::MAX,
        }
    }

    fn write32(&self, offset: usize, value: u32) {
        if let Some(at) = self.at(offset, 4) {
            self.machine.write_register32(at, value);
        }
    }

    fn write64(&self, offset: usize, value: u64) {
        if let Some(at) = self.at(offset, 8) {
            self.machine.write_register64(at, value);
        }
    }
}
