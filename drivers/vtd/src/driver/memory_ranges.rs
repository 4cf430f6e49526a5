//! Memory types by address, as the CPUs have them (§3.11.2).
//!
//! A unit with memory types combines those of a first stage with ranges of its own, which
//! software keeps equal to the CPUs' (§11.4.12). As long as they are off, every such access
//! is uncacheable, which is safe and slow.

use super::Driver;
use crate::Event;
use crate::registers::memory_type::{Mtrrcap, Mtrrdef};
use iommu_core::{BackendError, DeviceId, Mmio, Observer, Platform, SourceId};

/// The CPUs' memory type ranges, as their model-specific registers hold them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MemoryRanges<'r> {
    /// IA32_MTRR_DEF_TYPE.
    pub default_type: u64,
    /// IA32_MTRR_FIX64K_00000, FIX16K_80000, FIX16K_A0000, FIX4K_C0000 to FIX4K_F8000.
    pub fixed: [u64; 11],
    /// Pairs of IA32_MTRR_PHYSBASEn and IA32_MTRR_PHYSMASKn.
    pub variable: &'r [(u64, u64)],
}

const FIXED: usize = 0x120;
const VARIABLE: usize = 0x180;

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Gives a unit the CPUs' ranges, and makes it forget the types that it has cached.
    /// `Unsupported` if it has no memory types, or fewer ranges.
    pub fn set_memory_ranges(
        &self,
        unit: u16,
        ranges: &MemoryRanges<'_>,
    ) -> Result<(), BackendError> {
        let nobody = |segment| DeviceId::new(segment, SourceId::default());
        let unit = self
            .unit(unit)
            .ok_or(BackendError::NoUnit(nobody(iommu_core::Segment(0))))?;
        let device = nobody(unit.segment);
        let registers = &unit.registers;
        let found = registers.read64::<Mtrrcap>();
        if !unit.abilities.ecap.mts() || ranges.variable.len() > usize::from(found.vcnt()) {
            return Err(BackendError::Unsupported(device));
        }
        // Off while they change: uncacheable is never wrong.
        registers.write64(&self.platform, Mtrrdef::new());
        if found.fix() {
            for (offset, value) in (0usize..).step_by(8).zip(ranges.fixed) {
                let at = FIXED.saturating_add(offset);
                registers.write64_at(&self.platform, "MTRR_FIX", at, value);
            }
        }
        let mut variable = ranges.variable.iter().copied();
        for pair in 0..usize::from(found.vcnt()) {
            let at = VARIABLE.saturating_add(pair.saturating_mul(16));
            let (base, mask) = variable.next().unwrap_or((0, 0));
            registers.write64_at(&self.platform, "MTRR_PHYSBASE", at, base);
            registers.write64_at(&self.platform, "MTRR_PHYSMASK", at.saturating_add(8), mask);
        }
        let wanted = Mtrrdef::from_bits(ranges.default_type);
        let wanted = Mtrrdef::new()
            .with_kind(wanted.kind())
            .with_fe(wanted.fe() && found.fix())
            .with_e(wanted.e());
        registers.write64(&self.platform, wanted);
        unit.invalidate(&self.platform, &unit.everything())
            .map_err(|error| self.unconfirmed_error(unit, device, error))
    }
}
