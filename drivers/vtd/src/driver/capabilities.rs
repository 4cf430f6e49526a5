//! What a device can have on its unit, and what a slot of it can lead to.

use super::Driver;
use crate::domain::{Needs, Translation};
use crate::slots::Attributes;
use crate::unit::Unit;
use iommu_core::{
    BackendError, Coherence, DeviceCapabilities, DeviceId, LeafSizes, Mmio, Slot, Stage,
    TableFormat,
};

impl<M: Mmio> Unit<M> {
    /// Whether tables of this format can be used in the unit's mode.
    pub(crate) fn supports(&self, format: TableFormat) -> bool {
        if self.mode().is_scalable() {
            self.abilities.scalable_format(format)
        } else {
            self.abilities.legacy_format(format)
        }
    }

    /// How the unit reads paging structures.
    pub(crate) fn paging_coherence(&self) -> Coherence {
        self.abilities.paging_coherence(self.mode().is_scalable())
    }

    /// Large pages in tables of a stage.
    pub(crate) fn leaves(&self, stage: Stage) -> LeafSizes {
        match stage {
            Stage::First => self.abilities.first_stage_leaves(),
            Stage::Second => self.abilities.second_stage_leaves(),
        }
    }

    pub(crate) fn can_nest(&self) -> bool {
        self.mode().is_scalable() && self.abilities.ecap.nest()
    }

    /// Whether the unit marks what is written through second-stage tables (SSADE). Its walks
    /// are snooped then (§11.4.3).
    pub(crate) fn tracks_dirty(&self) -> bool {
        self.mode().is_scalable() && self.abilities.ecap.ssads() && self.abilities.ecap.ssts()
    }

    /// Whether entries and tables of the unit can say this of pages.
    pub(crate) fn has_attributes(&self, attributes: &Attributes) -> bool {
        let types = self.mode().is_scalable() && self.abilities.ecap.mts();
        (!attributes.snoop || self.abilities.ecap.sc())
            && (attributes.memory_type.is_none() || types)
            && (!attributes.uncached || types)
    }

    /// Whether what devices translated themselves can be checked.
    pub(crate) fn checks_translated_requests(&self) -> bool {
        self.mode().is_scalable() && self.abilities.checks_translated_requests()
    }

    /// Bits of PASID that slots may have.
    pub(crate) fn pasid_bits(&self) -> u8 {
        if !self.mode().is_scalable() {
            return 0;
        }
        self.abilities
            .ecap
            .pasid_bits()
            .max(self.extra_pasid_bits())
    }

    #[cfg(not(feature = "test-hooks"))]
    fn extra_pasid_bits(&self) -> u8 {
        0
    }

    pub(crate) fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::none(self.index());
        for format in TableFormat::ALL {
            if self.supports(format) {
                capabilities = capabilities.with_format(format);
            }
        }
        capabilities.first_stage_leaves = self.leaves(Stage::First);
        capabilities.second_stage_leaves = self.leaves(Stage::Second);
        capabilities.nested = self.can_nest();
        capabilities.pass_through = self.abilities.ecap.pt();
        capabilities.coherent = self.paging_coherence() == Coherence::Snooped;
        capabilities.iova_bits = self.abilities.cap.guest_address_bits();
        capabilities.host_bits = self.abilities.host_bits;
        capabilities.caching_mode = self.abilities.caches_absence();
        capabilities.write_buffer_flush = self.abilities.needs_write_buffer_flush();
        capabilities.pasid_bits = self.pasid_bits();
        capabilities.page_requests = self.page_requests.is_some();
        capabilities.supervisor = self.mode().is_scalable() && self.abilities.ecap.srs();
        capabilities.interrupts_remapped = self.interrupts.is_some();
        capabilities.dirty_tracking = self.tracks_dirty();
        capabilities.host_permissions = self.checks_translated_requests();
        capabilities
    }

    /// Whether the slot exists on this unit.
    pub(crate) fn check_slot(&self, slot: Slot) -> Result<(), BackendError> {
        let Some(pasid) = slot.pasid else {
            return Ok(());
        };
        let number = pasid.as_u32();
        if number == 0 || number >> self.pasid_bits() != 0 {
            return Err(BackendError::PasidOutOfRange(slot));
        }
        Ok(())
    }

    /// Whether the unit can use tables that were built so.
    pub(crate) fn check_tables(
        &self,
        device: DeviceId,
        format: TableFormat,
        needs: &Needs,
    ) -> Result<(), BackendError> {
        if !self.supports(format) {
            return Err(BackendError::FormatUnsupported { device, format });
        }
        let leaves = self.leaves(format.stage());
        let fits = (!needs.snooping || self.paging_coherence() == Coherence::Snooped)
            && (!needs.mib2 || leaves.mib2)
            && (!needs.gib1 || leaves.gib1)
            && needs.iova_bits <= self.abilities.cap.guest_address_bits()
            && needs.host_bits <= self.abilities.host_bits;
        if fits {
            Ok(())
        } else {
            Err(BackendError::Unsupported(device))
        }
    }
}

impl<P, M: Mmio, S> Driver<P, M, S> {
    /// The unit of a device, and its position among all.
    pub(crate) fn locate(&self, device: DeviceId) -> Result<(usize, &Unit<M>), BackendError> {
        let index = self
            .scopes
            .unit_of(device)
            .ok_or(BackendError::NoUnit(device))?;
        self.units
            .iter()
            .enumerate()
            .find(|(_, unit)| unit.index() == index)
            .ok_or(BackendError::NoUnit(device))
    }
}

/// What the caller's own tables need of a unit: nothing that the driver knows of.
pub(crate) fn tables_of_the_caller(format: TableFormat, root: iommu_core::Hpa) -> Translation {
    Translation::Tables {
        format,
        root,
        owned: false,
        needs: Needs::default(),
    }
}
