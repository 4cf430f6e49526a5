//! Devices whose requests come under more ids than their own: every one of them leads where
//! the device leads.
//!
//! Several devices behind one bridge have an id in common, which can lead to one place only.
//! They are of one group and so of one guest; an address space is bound to one of them only
//! if the others, as far as something is bound to them, use the same. The common id leads
//! there until the last of them is unbound.

use crate::vm::{Binding, Vm};
use crate::{Iommu, IommuError, PasidAllocator};
use arrayvec::ArrayVec;
use iommu_abi::Errno;
use iommu_core::{
    Attachment, Backend, BackendError, Batch, DeviceId, Platform, Slot, SourceId, VmHost,
};

/// Ids under which requests of one device may come, its own among them. A device with more is
/// given to no guest: [`IommuError::TooManyAliases`].
pub const MAX_REQUESTERS: usize = 16;

/// Where requests of a device or of a PASID of it are looked up, its own id first.
pub(crate) type Slots = ArrayVec<Slot, MAX_REQUESTERS>;

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    /// The other ids of a device.
    pub(crate) fn aliases(
        &self,
        device: DeviceId,
    ) -> Result<ArrayVec<SourceId, MAX_REQUESTERS>, IommuError> {
        let mut ids = ArrayVec::new();
        let mut fits = true;
        self.host.aliases(device, &mut |id| {
            if id != device.source && !ids.contains(&id) {
                fits &= ids.try_push(id).is_ok();
            }
        });
        // Its own must fit too.
        if fits && !ids.is_full() {
            Ok(ids)
        } else {
            Err(IommuError::TooManyAliases(device))
        }
    }

    /// All that a slot stands for. Requests with PASID do not pass the bridges that speak
    /// for others, so those have the device's own id.
    pub(crate) fn slots(&self, slot: Slot) -> Result<Slots, IommuError> {
        let mut slots = Slots::new();
        slots.push(slot);
        if slot.pasid.is_none() {
            let segment = slot.device.segment;
            slots.extend(self.aliases(slot.device)?.into_iter().map(|source| Slot {
                device: DeviceId::new(segment, source),
                pasid: None,
            }));
        }
        Ok(slots)
    }

    /// Those of a device's slots that nothing else of the guest leads somewhere.
    pub(crate) fn slots_alone(&self, guest: &Vm, slot: Slot) -> Result<Slots, IommuError> {
        let mut slots = self.slots(slot)?;
        slots.retain(|mine| !self.is_used_beside(guest, slot.device, *mine));
        Ok(slots)
    }

    fn is_used_beside(&self, guest: &Vm, device: DeviceId, slot: Slot) -> bool {
        self.bound_beside(guest, device)
            .any(|(_, theirs)| theirs.contains(&slot))
    }

    /// What is bound to other devices of the guest, and under which ids.
    fn bound_beside<'g>(
        &'g self,
        guest: &'g Vm,
        device: DeviceId,
    ) -> impl Iterator<Item = (&'g Binding, Slots)> + 'g {
        guest
            .bindings
            .iter()
            .filter(move |other| other.device != device && other.pasid.is_none())
            .filter_map(|other| Some((other, self.slots(other.slot()).ok()?)))
    }

    /// `EBUSY` if an id that the binding needs is another device's too, and leads elsewhere.
    pub(crate) fn check_common_ids(&self, guest: &Vm, binding: &Binding) -> Result<(), Errno> {
        if binding.pasid.is_some() {
            return Ok(());
        }
        let mine = self.slots(binding.slot()).map_err(|_| Errno::EIO)?;
        let elsewhere = self
            .bound_beside(guest, binding.device)
            .any(|(other, theirs)| {
                other.domain != binding.domain && theirs.iter().any(|slot| mine.contains(slot))
            });
        if elsewhere { Err(Errno::EBUSY) } else { Ok(()) }
    }

    /// Makes all slots lead somewhere, or none of them. Says whether that was hitless.
    pub(crate) fn lead<'b>(
        &'b self,
        slots: &Slots,
        to: Attachment,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<bool, BackendError> {
        let mut before = ArrayVec::<(Slot, Attachment), MAX_REQUESTERS>::new();
        let mut hitless = true;
        for &slot in slots {
            match self.backend.replace(slot, to) {
                Ok(replaced) => {
                    hitless &= replaced.hitless;
                    before.push((slot, replaced.previous));
                    // There is room for it.
                    let _ = batch.add(replaced.owed);
                }
                Err(error) => {
                    for (slot, previous) in before.into_iter().rev() {
                        self.lead_back(slot, previous, batch);
                    }
                    return Err(error);
                }
            }
        }
        Ok(hitless)
    }

    /// Back to where it led, or nowhere, if even that fails.
    fn lead_back<'b>(&'b self, slot: Slot, previous: Attachment, batch: &mut Batch<'b, B::Debt>) {
        for to in [previous, Attachment::Blocked] {
            if let Ok(replaced) = self.backend.replace(slot, to) {
                // There is room for it.
                let _ = batch.add(replaced.owed);
                return;
            }
        }
    }
}
