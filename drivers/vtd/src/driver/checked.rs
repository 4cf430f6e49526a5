//! Devices that translate addresses themselves and are not trusted to (§4.2.4).
//!
//! The mappings of a domain that was made for it are noted in a host permission table too.
//! A device whose requests are checked leads, with all its slots, to domains that share one
//! such table: units look it up by the entry of requests without PASID (EPTR = 0,
//! §6.2.6.2).

use super::Driver;
use super::commit::flush_error;
use super::{DeviceTlb, DeviceTlbError, Standing};
use crate::Event;
use crate::domain::Domains;
use crate::invalidation::{Debt, Expansion, Kind};
use crate::queue::Descriptor;
use crate::slots::Attributes;
use crate::unit::Unit;
use iommu_core::{
    BackendError, DeviceId, DomainHandle, FlushError, Flushed, Hpa, Mmio, Observer, Platform, Slot,
};

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Lets a device cache translations, and checks what it claims to have translated. The
    /// device does no DMA meanwhile; it must not send PASIDs along with what it translated.
    ///
    /// All that its slots lead to was made by
    /// [`create_checked`](iommu_core::Backend::create_checked), or is nested on that, with
    /// one host permission table for all; otherwise
    /// [`BackendError::Unchecked`]. So it stays as long as the device may cache: other
    /// domains are refused to its slots.
    pub fn enable_checked_device_tlb<E>(
        &self,
        device: DeviceId,
        settings: DeviceTlb,
        turn_on: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), DeviceTlbError<E>> {
        let (_, unit) = self.locate(device)?;
        if !unit.checks_translated_requests() {
            return Err(BackendError::Unchecked(device).into());
        }
        self.open_device_tlb(device, settings, true, turn_on)
    }

    /// Changes what a context entry allows. If the device is to be checked, what its slots
    /// lead to is looked at in the same step.
    pub(super) fn open_standing(
        &self,
        unit: &Unit<M>,
        device: DeviceId,
        checked: bool,
        change: impl FnOnce(Standing) -> Standing,
    ) -> Result<(), BackendError> {
        let changed = {
            let domains = self.domains.lock(&self.platform);
            if checked && !domains.is_checkable(device, None, None) {
                return Err(BackendError::Unchecked(device));
            }
            unit.tables
                .lock(&self.platform)
                .set_standing(&self.platform, device.source, change)?
        };
        if changed {
            self.tell_standing(unit, device)
        } else {
            Ok(())
        }
    }

    /// Whether a slot may lead to what has these attributes.
    pub(super) fn may_enter(
        &self,
        domains: &Domains,
        unit: &Unit<M>,
        slot: Slot,
        attributes: &Attributes,
    ) -> bool {
        let checked = unit
            .tables
            .lock(&self.platform)
            .is_checked(slot.device.source);
        !checked
            || attributes.permissions.is_some()
                && domains.is_checkable(slot.device, Some(slot), attributes.permissions)
    }

    /// When no device has cached what was unmapped: revokes it, and makes hardware forget
    /// it. What was permitted anew is told by the same.
    pub(super) fn revoke_permissions(
        &self,
        debts: &[Debt],
        flushed: &mut Flushed,
    ) -> Result<(), FlushError> {
        if !self.has_permissions() {
            return Ok(());
        }
        for domain in debts.iter().filter_map(changed_domain) {
            self.paging.with(&self.platform, domain, |kept| {
                if let Some(permissions) = &mut kept.permissions {
                    permissions.revoke(&self.platform);
                }
            });
        }
        for (position, unit) in self.units.iter().enumerate() {
            if unit.checks_translated_requests() {
                let mut expansion = Expansion::permissions(debts, self.scene(position, unit));
                self.tell(unit, &mut expansion, false, flushed)?;
            }
        }
        Ok(())
    }

    /// The same for everything, after hardware and devices have forgotten everything else.
    pub(super) fn revoke_all_permissions(&self) -> Result<(), FlushError> {
        if !self.has_permissions() {
            return Ok(());
        }
        self.paging.revoke_all(&self.platform);
        for unit in &self.units {
            if unit.checks_translated_requests() {
                unit.invalidate(&self.platform, &[Descriptor::HostPermissionCache])
                    .map_err(|error| flush_error(unit, error))?;
            }
        }
        Ok(())
    }

    /// Whether any unit has host permission tables: most machines have none.
    fn has_permissions(&self) -> bool {
        self.units.iter().any(Unit::checks_translated_requests)
    }
}

/// The domain whose mappings a debt is about.
fn changed_domain(debt: &Debt) -> Option<DomainHandle> {
    match debt.0 {
        Kind::Changed { domain, .. } | Kind::ChangedAll(domain) => Some(domain.into()),
        _ => None,
    }
}

impl Domains {
    /// Whether all slots of a device, but for one that changes, lead to domains with this
    /// host permission table; `None`: with any, and the same.
    fn is_checkable(&self, device: DeviceId, but: Option<Slot>, table: Option<Hpa>) -> bool {
        let mut tables = self
            .attachments
            .iter()
            .map(|(_, attachment)| attachment)
            .filter(|it| it.slot.device == device && !it.leaving && Some(it.slot) != but)
            .map(|it| {
                let domain = it.domain.and_then(|index| self.handle(index))?;
                self.attributes(domain).permissions
            })
            .peekable();
        let expected = table.or_else(|| tables.peek().copied().flatten());
        tables.all(|found| found.is_some() && found == expected)
    }
}
