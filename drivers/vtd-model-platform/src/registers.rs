//! A unit's registers as [`Mmio`].

use crate::ModelPlatform;
use iommu_core::Mmio;
use std::fmt;
use std::sync::Arc;
use vtd_model::Width;

/// The registers of one unit of the model.
pub struct ModelMmio<E> {
    platform: Arc<ModelPlatform<E>>,
    unit: usize,
}

impl<E> ModelMmio<E> {
    /// The registers of unit `unit`, counted as the machine was built.
    pub fn new(platform: &Arc<ModelPlatform<E>>, unit: usize) -> Self {
        Self {
            platform: Arc::clone(platform),
            unit,
        }
    }

    fn read(&self, offset: usize, width: Width) -> u64 {
        self.platform.machine().read(self.unit, offset, width)
    }

    fn write(&self, offset: usize, width: Width, value: u64) {
        self.platform
            .write_register(self.unit, offset, width, value);
    }
}

impl<E: Send> Mmio for ModelMmio<E> {
    fn size(&self) -> usize {
        self.platform.machine().register_bytes(self.unit)
    }

    fn read32(&self, offset: usize) -> u32 {
        self.read(offset, Width::Dword) as u32
    }

    fn read64(&self, offset: usize) -> u64 {
        self.read(offset, Width::Qword)
    }

    fn write32(&self, offset: usize, value: u32) {
        self.write(offset, Width::Dword, value.into());
    }

    fn write64(&self, offset: usize, value: u64) {
        self.write(offset, Width::Qword, value);
    }
}

impl<E> fmt::Debug for ModelMmio<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelMmio(unit {})", self.unit)
    }
}
