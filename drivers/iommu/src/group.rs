//! Whole groups: devices that cannot be kept apart have one owner, or none.
//!
//! Who is given a device of a group keeps everybody else from the rest of it. Companions that
//! nobody has stay blocked; one that the hypervisor uses, or that must keep reaching memory,
//! keeps guests from all of them.

use crate::vm::Vm;
use crate::{Iommu, IommuError, PasidAllocator};
use iommu_core::{Attachment, Backend, DeviceId, Platform, ResetError, Slot, VmHost, VmId};

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    /// Makes a guest the owner of a device, if it is nobody's and nobody else has a
    /// companion of it.
    pub(crate) fn own(&self, device: DeviceId, vm: VmId, device_id: u32) -> Result<(), IommuError> {
        let aliases = self.aliases(device)?;
        let mut obstacle = None;
        let mut owners = self.owners.lock(&self.platform);
        if let Some(owner) = owners.owner(device).or(owners.sharer(device)) {
            return Err(IommuError::Owned {
                device,
                by: owner.vm,
            });
        }
        self.host.companions(device, &mut |companion| {
            let refused = |by| IommuError::Companion {
                device,
                companion,
                by,
            };
            // Who shares a companion shares it with others.
            let shared = owners.sharer(companion);
            let other = owners.owner(companion).filter(|owner| owner.vm != vm);
            if let Some(owner) = other.or(shared) {
                obstacle.get_or_insert(refused(Some(owner.vm)));
            }
        });
        if let Some(obstacle) = obstacle {
            return Err(obstacle);
        }
        owners
            .give(device, vm, device_id, &aliases)
            .map_err(|_| IommuError::Full(device))
    }

    /// Whether a companion that no guest has is used nevertheless.
    pub(crate) fn check_companions(&self, device: DeviceId) -> Result<(), IommuError> {
        let mut obstacle = None;
        self.host.companions(device, &mut |companion| {
            let is_nobodys = self.owners.lock(&self.platform).owner(companion).is_none();
            if companion != device && is_nobodys && self.leads_somewhere(companion) {
                obstacle.get_or_insert(companion);
            }
        });
        match obstacle {
            Some(companion) => Err(IommuError::Companion {
                device,
                companion,
                by: None,
            }),
            None => Ok(()),
        }
    }

    fn leads_somewhere(&self, device: DeviceId) -> bool {
        let slot = Slot {
            device,
            pasid: None,
        };
        let attachment = self.backend.attachment(slot);
        attachment.is_ok_and(|attachment| attachment != Attachment::Blocked)
    }

    /// Resets a device that is blocked. Others that are in use are not disturbed: those that
    /// a guest has bound something to, or that have another owner.
    pub(crate) fn reset(&self, guest: &Vm, device: DeviceId) -> Result<(), IommuError> {
        let is_in_use = |other: DeviceId| {
            let owners = self.owners.lock(&self.platform);
            let (owner, shared) = (owners.owner(other), owners.sharer(other));
            drop(owners);
            match owner {
                None if shared.is_some() => true,
                None => self.leads_somewhere(other),
                Some(owner) => {
                    owner.vm != guest.id
                        || guest.bindings.iter().any(|binding| binding.device == other)
                }
            }
        };
        match self.host.reset_beside(device, &is_in_use) {
            Ok(()) => Ok(()),
            Err(ResetError::NoMethod(_)) if self.config.allow_without_reset => Ok(()),
            Err(error) => Err(IommuError::Reset(error)),
        }
    }

    /// Resets a device that a guest had. One that was taken out keeps nothing of it.
    pub(crate) fn reset_after(&self, guest: &Vm, device: DeviceId) -> Result<(), IommuError> {
        match self.reset(guest, device) {
            Err(IommuError::Reset(ResetError::Gone(_))) => Ok(()),
            result => result,
        }
    }
}
