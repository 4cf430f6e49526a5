//! Mediated devices: one device that several guests share, each by its own PASIDs.
//!
//! A guest's *slice* of a device is the device without what it has only once: its requests
//! without PASID, its reset, its asking for pages. What is left is told apart by PASID, and
//! a PASID of the machine belongs to one guest: it is given to another only when the device
//! does nothing with it any more. Nobody but the hypervisor's mediator programs the device,
//! with the PASIDs that [`Iommu::host_pasid`] resolves.

use crate::counters::count;
use crate::object::{Device, Object};
use crate::vm::Vm;
use crate::{Iommu, IommuError, PasidAllocator};
use iommu_core::{Backend, BackendError, DeviceId, Pasid, Platform, Slot, VmHost, VmId};

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    /// Gives a guest a slice of a device. Returns the guest's handle.
    ///
    /// The first slice has the device blocked and reset, and the device is shared from then
    /// on: nobody can have all of it while anybody has a slice. A device that cannot be kept
    /// apart from others, or for which others speak, is not shared. `virtual_id` is as for
    /// [`assign`](Self::assign).
    pub fn assign_slice(
        &self,
        vm: VmId,
        device: DeviceId,
        virtual_id: u32,
    ) -> Result<u32, IommuError> {
        let slot = self.slot(vm).ok_or(IommuError::NoSuchSlot(vm))?;
        let mut state = slot.state.take(&self.platform);
        let guest = state.as_mut().ok_or(IommuError::NoGuest(vm))?;
        let capabilities = self.contained(device)?;
        if capabilities.pasid_bits == 0 {
            return Err(BackendError::Unsupported(device).into());
        }
        // Slices come and go one at a time: the first has the device reset for all.
        let _one_at_a_time = self.sharing.take(&self.platform);
        let object = Object::Device(Device {
            device,
            virtual_id,
            capabilities,
            parent: None,
            shares: false,
            asks: None,
            slice: true,
        });
        let device_id = guest
            .objects
            .insert(object)
            .map_err(|_| IommuError::Full(device))?;
        let first = match self.share(device, vm, device_id) {
            Ok(first) => first,
            Err(error) => {
                guest.objects.remove(device_id);
                return Err(error);
            }
        };
        let ready = match first {
            true => self.make_ready(guest, device),
            false => Ok(()),
        };
        let ready = ready.and_then(|()| self.parent_for(guest, device, &capabilities));
        match ready {
            Ok(parent) => {
                guest.objects.set_parent(device_id, parent);
                Ok(device_id)
            }
            Err(error) => {
                self.owners.lock(&self.platform).take_slice(device, vm);
                guest.objects.remove(device_id);
                Err(error)
            }
        }
    }

    /// Notes that the device is shared. Says whether it was not before.
    fn share(&self, device: DeviceId, vm: VmId, device_id: u32) -> Result<bool, IommuError> {
        // Others could speak for it, or it for them.
        let mut companion = self
            .aliases(device)?
            .first()
            .map(|alias| DeviceId::new(device.segment, *alias));
        self.host.companions(device, &mut |other| {
            if other != device {
                companion.get_or_insert(other);
            }
        });
        if let Some(companion) = companion {
            return Err(IommuError::Companion {
                device,
                companion,
                by: None,
            });
        }
        let mut owners = self.owners.lock(&self.platform);
        let owner = owners.owner(device).or(owners.slice(device, vm));
        if let Some(owner) = owner {
            return Err(IommuError::Owned {
                device,
                by: owner.vm,
            });
        }
        let first = owners.sharer(device).is_none();
        owners
            .give_slice(device, vm, device_id)
            .map_err(|_| IommuError::Full(device))?;
        Ok(first)
    }

    /// The machine's PASID behind one of a guest's, for the mediator that programs a device
    /// of which the guest has a slice. Stands until [`VmHost::stop_pasid`] is asked for.
    pub fn host_pasid(
        &self,
        vm: VmId,
        device: DeviceId,
        pasid: Pasid,
    ) -> Result<Pasid, IommuError> {
        let slot = self.slot(vm).ok_or(IommuError::NoSuchSlot(vm))?;
        let mut state = slot.state.take(&self.platform);
        let guest = state.as_mut().ok_or(IommuError::NoGuest(vm))?;
        guest
            .objects
            .handle_of_device(device)
            .ok_or(IommuError::NotOwned(device))?;
        guest
            .pasids
            .host(pasid)
            .ok_or(IommuError::NoPasid { vm, pasid })
    }

    /// Takes a device from its owner, or a slice of it. All that was bound is unbound. The
    /// device is reset if nobody has a part of it any more.
    pub(crate) fn take_device(&self, guest: &mut Vm, device: &Device) -> Result<(), IommuError> {
        let id = device.device;
        if !device.slice {
            let result = self.reset_after(guest, id);
            self.owners.lock(&self.platform).take(id);
            return result;
        }
        let _one_at_a_time = self.sharing.take(&self.platform);
        self.stop_pasids(guest, id);
        let last = !self
            .owners
            .lock(&self.platform)
            .is_shared_beside(id, guest.id);
        let result = match last {
            true => self.reset_after(guest, id),
            false => Ok(()),
        };
        self.owners.lock(&self.platform).take_slice(id, guest.id);
        result
    }

    /// Ends what a shared device does with all PASIDs of a guest. Those for which it cannot
    /// are never given to anybody again.
    fn stop_pasids(&self, guest: &mut Vm, device: DeviceId) {
        for host in guest.pasids.hosts_mut() {
            let slot = Slot {
                device,
                pasid: Some(host.number),
            };
            host.shared = true;
            host.retired |= self.host.stop_pasid(slot).is_err();
        }
    }

    /// Gives a PASID of the machine back that a guest has no more, once no device that the
    /// guest shares does anything with it.
    pub(crate) fn give_back(&self, guest: &Vm, host: crate::pasid::HostPasid) {
        let (mut retired, mut shared) = (host.retired, host.shared);
        for (_, device) in guest.objects.devices().filter(|(_, device)| device.slice) {
            let slot = Slot {
                device: device.device,
                pasid: Some(host.number),
            };
            shared = true;
            retired |= self.host.stop_pasid(slot).is_err();
        }
        // What hardware did not confirm could lead the next owner's requests here.
        retired |= shared && self.confirm().is_err();
        self.owners.lock(&self.platform).forget_pasid(host.number);
        if retired {
            count(&self.counters.retired_pasids, 1);
        } else {
            self.host_pasids.free(&self.platform, host.number);
        }
    }
}
