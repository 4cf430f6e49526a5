//! The hypervisor's side: guests come and go, devices are given and taken.

use crate::counters::Counters;
use crate::detach::REPLACE_DEBTS;
use crate::inbox::Inbox;
use crate::object::{Device, Object};
use crate::owners::Owners;
use crate::page_request::Serving;
use crate::vm::{SharedMemory, Vm, VmSlot};
use crate::{Config, Figures, IommuError, PasidAllocator, PasidBitmap, Quota};
use alloc::vec::Vec;
use iommu_core::sync::{Mutex, Rank, Turn};
use iommu_core::{
    AddressRange, Backend, Batch, DeviceCapabilities, DeviceId, FlushError, Flushed, Gpa, Platform,
    Run, Slot, VmHost, VmId,
};

/// Policy and objects over a driver of remapping hardware.
///
/// One value serves the whole machine. Functions may be called on any CPU; those that a
/// guest's call goes through take turns for each guest and may wait for hardware, so they
/// are not for interrupt handlers. [`report`](Self::report) is.
pub struct Iommu<B, P, H, A = PasidBitmap> {
    pub(crate) backend: B,
    pub(crate) platform: P,
    pub(crate) host: H,
    pub(crate) host_pasids: A,
    pub(crate) config: Config,
    pub(crate) owners: Mutex<Owners>,
    pub(crate) counters: Counters,
    /// How page requests go from the units to their guests.
    pub(crate) serving: Serving,
    /// Held while a device begins or ceases to be shared.
    pub(crate) sharing: Turn<()>,
    slots: Vec<VmSlot>,
}

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    /// Takes the driver over. All memory that is not a guest's is taken here.
    pub fn new(
        config: Config,
        backend: B,
        platform: P,
        host: H,
        host_pasids: A,
    ) -> Result<Self, IommuError> {
        let mut slots = Vec::new();
        slots
            .try_reserve_exact(usize::from(config.guests))
            .map_err(|_| IommuError::OutOfMemory)?;
        slots.resize_with(usize::from(config.guests), VmSlot::new);
        let owners = Owners::new(&config).ok_or(IommuError::OutOfMemory)?;
        Ok(Self {
            backend,
            platform,
            host,
            host_pasids,
            config,
            owners: Mutex::new(Rank::Owners, owners),
            counters: Counters::default(),
            serving: Serving::new().ok_or(IommuError::OutOfMemory)?,
            sharing: Turn::new(()),
            slots,
        })
    }

    /// The driver.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The hypervisor around.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// What has been done so far.
    pub fn figures(&self) -> Figures {
        self.counters.read()
    }

    pub(crate) fn slot(&self, vm: VmId) -> Option<&VmSlot> {
        self.slots.get(usize::from(vm.0))
    }

    /// Makes a guest known. It has no devices yet.
    pub fn create_guest(
        &self,
        vm: VmId,
        quota: Quota,
        memory: SharedMemory,
    ) -> Result<(), IommuError> {
        let slot = self.slot(vm).ok_or(IommuError::NoSuchSlot(vm))?;
        let mut state = slot.state.take(&self.platform);
        if state.is_some() {
            return Err(IommuError::GuestExists(vm));
        }
        let inbox = Inbox::new(&quota).ok_or(IommuError::OutOfMemory)?;
        let guest = Vm::new(vm, quota, memory.clone(), self.config.seed)?;
        *slot.inbox.lock(&self.platform) = inbox;
        *slot.memory.lock(&self.platform) = Some(memory);
        *state = Some(guest);
        Ok(())
    }

    /// Ends a guest: its devices are blocked, hardware forgets everything of it, its
    /// devices are reset and belong to nobody, and everything that it had is free.
    ///
    /// May come at any moment; it waits for a call of the guest that is being executed.
    /// The first error is returned, and the guest is gone nevertheless. On an error hardware
    /// may still lead to the guest's memory, which must not be used for anything then;
    /// tables that hardware may still walk are never used again.
    pub fn destroy_guest(&self, vm: VmId) -> Result<(), IommuError> {
        let slot = self.slot(vm).ok_or(IommuError::NoSuchSlot(vm))?;
        let mut state = slot.state.take(&self.platform);
        let mut guest = state.take().ok_or(IommuError::NoGuest(vm))?;
        let mut result = self.unbind_all(&mut guest, |_| true);
        while let Some((handle, device)) = guest.objects.any_device() {
            if device.asks.is_some() {
                result = result.and(self.stop_page_requests(vm, device.device));
            }
            result = result.and(self.take_device(&mut guest, &device));
            guest.objects.remove(handle);
        }
        result = result.and(self.drop_parents(&mut guest));
        result = result.and(self.destroy_managed(&mut guest));
        result = result.and_then(|()| self.confirm());
        while let Some(host) = guest.pasids.free_any() {
            self.give_back(&guest, host);
        }
        let memory = slot.memory.lock(&self.platform).take();
        let inbox = core::mem::replace(&mut *slot.inbox.lock(&self.platform), Inbox::none());
        // What the guest had is freed with interrupts on.
        drop((memory, inbox, guest));
        result
    }

    /// Gives a device to a guest, blocked and reset. Returns the guest's handle.
    ///
    /// Refused if a device that cannot be kept apart from it
    /// ([`VmHost::companions`]) is another guest's, or leads somewhere for the hypervisor.
    ///
    /// `virtual_id` says where the guest finds it: PCI segment in bits 31:16, and bus,
    /// device and function in bits 15:0.
    pub fn assign(&self, vm: VmId, device: DeviceId, virtual_id: u32) -> Result<u32, IommuError> {
        let slot = self.slot(vm).ok_or(IommuError::NoSuchSlot(vm))?;
        let mut state = slot.state.take(&self.platform);
        let guest = state.as_mut().ok_or(IommuError::NoGuest(vm))?;
        let capabilities = self.contained(device)?;
        let object = Object::Device(Device {
            device,
            virtual_id,
            capabilities,
            parent: None,
            shares: false,
            asks: None,
            slice: false,
        });
        let device_id = guest
            .objects
            .insert(object)
            .map_err(|_| IommuError::Full(device))?;
        let owned = self.own(device, vm, device_id);
        let ready = owned.and_then(|()| {
            let ready = self
                .make_ready(guest, device)
                .and_then(|()| self.parent_for(guest, device, &capabilities));
            if ready.is_err() {
                self.owners.lock(&self.platform).take(device);
            }
            ready
        });
        match ready {
            Ok(parent) => {
                guest.objects.set_parent(device_id, parent);
                let shares = self.can_share(vm, device);
                guest.objects.set_shares(device_id, shares);
                Ok(device_id)
            }
            Err(error) => {
                guest.objects.remove(device_id);
                Err(error)
            }
        }
    }

    /// What a device can do, if its interrupts are kept apart too, or nobody cares.
    pub(crate) fn contained(&self, device: DeviceId) -> Result<DeviceCapabilities, IommuError> {
        let capabilities = self.backend.capabilities(device)?;
        if !capabilities.interrupts_remapped && !self.config.allow_unremapped_interrupts {
            return Err(IommuError::InterruptsNotRemapped(device));
        }
        Ok(capabilities)
    }

    /// Blocks and resets a device before anybody has it.
    pub(crate) fn make_ready(&self, guest: &Vm, device: DeviceId) -> Result<(), IommuError> {
        let mut batch = Batch::with_capacity(REPLACE_DEBTS).ok_or(IommuError::OutOfMemory)?;
        let slot = Slot {
            device,
            pasid: None,
        };
        let slots = self.slots_alone(guest, slot)?;
        self.lead_nowhere(&slots, &mut batch)?;
        self.commit(&mut batch)?;
        self.check_companions(device)?;
        self.reset(guest, device)
    }

    /// Whether a device can use the tables of its guest's CPUs: found out by having them.
    fn can_share(&self, vm: VmId, device: DeviceId) -> bool {
        self.host
            .share_tables(vm, device)
            .is_ok_and(|domain| self.destroy_domain(domain).is_ok())
    }

    /// Takes a device back, or a guest's slice of it: blocked, forgotten by hardware, and
    /// reset if nobody else shares it. It belongs to nobody then. If it cannot be blocked, it
    /// stays with the guest; after any other error it is taken, and blocked.
    pub fn take_back(&self, vm: VmId, device: DeviceId) -> Result<(), IommuError> {
        let slot = self.slot(vm).ok_or(IommuError::NoSuchSlot(vm))?;
        let mut state = slot.state.take(&self.platform);
        let guest = state.as_mut().ok_or(IommuError::NoGuest(vm))?;
        let handle = guest
            .objects
            .handle_of_device(device)
            .ok_or(IommuError::NotOwned(device))?;
        let mut result = self.unbind_all(guest, |binding| binding.device == device);
        if guest
            .bindings
            .iter()
            .any(|binding| binding.device == device)
        {
            return result;
        }
        let known = guest.objects.device(handle).copied();
        if known.is_ok_and(|device| device.asks.is_some()) {
            result = result.and(self.stop_page_requests(vm, device));
        }
        self.forget_pasid_table(guest, handle);
        if let Ok(known) = known {
            result = result.and(self.take_device(guest, &known));
        }
        self.forget_routes(guest, handle);
        guest.objects.remove(handle);
        result
            .and(self.drop_parents(guest))
            .and_then(|()| self.confirm())
    }

    /// Takes host memory out of everything that the guest's devices can reach, and returns
    /// when hardware has forgotten it. Only then may the memory have another owner.
    ///
    /// `gone` is what the guest loses and `host` the memory behind it. To be called after
    /// the guest's [`GuestMemory`](iommu_core::GuestMemory) has ceased to lead there: what
    /// it still leads to could come back at once. On an error the memory must not be used
    /// for anything.
    pub fn forget(
        &self,
        vm: VmId,
        gone: &AddressRange<Gpa>,
        host: &[Run],
    ) -> Result<Forgotten, IommuError> {
        let slot = self.slot(vm).ok_or(IommuError::NoSuchSlot(vm))?;
        let mut state = slot.state.take(&self.platform);
        let guest = state.as_mut().ok_or(IommuError::NoGuest(vm))?;
        let nested = self.uncover(guest, gone)?;
        let mapped = self.forget_in_managed(guest, gone)?;
        let shadowed = self.forget_in_shadow(guest, host)?;
        self.forget_in_shared(guest, Some(gone))?;
        self.confirm()?;
        Ok(Forgotten {
            entries: nested.saturating_add(mapped).saturating_add(shadowed),
        })
    }

    /// Makes memory known to a guest's devices, after its memory map came to lead there where
    /// there was none: what its bound tables had there can be reached on return.
    pub fn memory_grew(&self, vm: VmId) -> Result<(), IommuError> {
        let slot = self.slot(vm).ok_or(IommuError::NoSuchSlot(vm))?;
        let mut state = slot.state.take(&self.platform);
        let guest = state.as_mut().ok_or(IommuError::NoGuest(vm))?;
        self.cover_all(guest)?;
        self.forget_in_shared(guest, None)?;
        self.look_again(guest)
    }

    /// Tells hardware what the batch owes, waits, and gives the frames back.
    pub(crate) fn commit(&self, batch: &mut Batch<'_, B::Debt>) -> Result<(), FlushError> {
        if batch.is_empty() {
            return Ok(());
        }
        let flushed = self.backend.commit(batch)?;
        self.take_flushed(flushed);
        Ok(())
    }

    fn take_flushed(&self, mut flushed: Flushed) {
        self.counters.add(&flushed);
        while let Some(frame) = flushed.frames.pop() {
            self.platform.release(frame);
        }
    }

    /// Before memory or a device may have another owner: makes hardware forget what flushes
    /// that failed were about, be it long ago. What the tables say now does not tell of it.
    pub(crate) fn confirm(&self) -> Result<(), IommuError> {
        if self.backend.has_unconfirmed() {
            let flushed = self.backend.reclaim()?;
            self.take_flushed(flushed);
        }
        Ok(())
    }

    /// Unbinds what it can. The first error is returned, after everything has been tried.
    pub(crate) fn unbind_all(
        &self,
        guest: &mut Vm,
        which: impl Fn(&crate::vm::Binding) -> bool,
    ) -> Result<(), IommuError> {
        let mut result = Ok(());
        let mut asked = false;
        let mut place = 0usize;
        while let Some(binding) = guest.bindings.get(place) {
            let mut stays = true;
            if which(binding) {
                let detached = self.detach(guest, place);
                result = result.and(detached.outcome);
                stays = !detached.blocked;
                asked |= detached.asked;
            }
            if stays {
                place = place.saturating_add(1);
            }
        }
        if asked {
            // Once for all of them.
            self.serve_page_requests();
        }
        result
    }
}

/// What [`Iommu::forget`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Forgotten {
    /// Entries that led to the memory and are gone.
    pub entries: u64,
}
