//! Configuration space in memory: 4 KiB for each function, in the order of their ids (PCIe
//! 6.0, 7.2.2).

use crate::firmware::{EcamRegion, MAX_ECAM_REGIONS};
use crate::memory::{MapError, RegisterWindow};
use arrayvec::ArrayVec;
use core::fmt;
use iommu_core::{Address, Mmio};
use pci::{ConfigRegionAccess, PciAddress};

const FUNCTION_SHIFT: u32 = 12;
const DEVICE_SHIFT: u32 = 15;
const BUS_SHIFT: u32 = 20;

/// Why a region of configuration space cannot be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EcamError {
    /// The region.
    pub region: EcamRegion,
    /// What is wrong with it.
    pub error: MapError,
}

impl fmt::Display for EcamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "configuration space of segment {}, buses {} to {}: {}",
            self.region.segment.0, self.region.first_bus, self.region.last_bus, self.error
        )
    }
}

/// Configuration space of all segments.
#[derive(Debug, Default)]
pub struct Ecam {
    regions: ArrayVec<(EcamRegion, RegisterWindow), MAX_ECAM_REGIONS>,
}

impl Ecam {
    /// Maps the regions.
    pub fn map(regions: &[EcamRegion]) -> Result<Self, EcamError> {
        let mut ecam = Self::default();
        for region in regions.iter().take(MAX_ECAM_REGIONS) {
            let failed = |error| EcamError {
                region: *region,
                error,
            };
            let start = region
                .base
                .checked_add(u64::from(region.first_bus) << BUS_SHIFT)
                .ok_or(failed(MapError::TooHigh(region.base)))?;
            let buses = usize::from(region.last_bus - region.first_bus) + 1;
            let window = RegisterWindow::map(start, buses << BUS_SHIFT).map_err(failed)?;
            ecam.regions.push((*region, window));
        }
        Ok(ecam)
    }

    /// The regions.
    pub fn regions(&self) -> impl Iterator<Item = &EcamRegion> {
        self.regions.iter().map(|(region, _)| region)
    }

    /// The window and the offset in it of a register.
    fn locate(&self, address: PciAddress, offset: u16) -> Option<(&RegisterWindow, usize)> {
        let (region, window) = self.regions.iter().find(|(region, _)| {
            region.segment.0 == address.segment()
                && (region.first_bus..=region.last_bus).contains(&address.bus())
        })?;
        let bus = usize::from(address.bus() - region.first_bus) << BUS_SHIFT;
        let device = usize::from(address.device()) << DEVICE_SHIFT;
        let function = usize::from(address.function()) << FUNCTION_SHIFT;
        let register = usize::from(offset) & ((1 << FUNCTION_SHIFT) - 1);
        Some((window, bus | device | function | register))
    }
}

impl ConfigRegionAccess for Ecam {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        self.locate(address, offset)
            .map_or(u32::MAX, |(window, at)| window.read32(at))
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        if let Some((window, at)) = self.locate(address, offset) {
            window.write32(at, value);
        }
    }
}
