//! Devices that ask for pages: from the unit's queue to their guest, and the answer back.
//!
//! * `serving`: passes over what all units have been asked, one after the other.
//! * Here: who may ask, and how that ends (§7.10).

mod serving;

pub use serving::PageRequestsServed;
pub(crate) use serving::Serving;

use crate::inbox::{Groups, Told};
use crate::vm::VmSlot;
use crate::{Iommu, IommuError, PasidAllocator};
use arrayvec::ArrayVec;
use iommu_core::{
    AtsCapability, Backend, BackendError, DeviceId, PageResponse, Platform, ResponseCode, Slot,
    VmHost, VmId,
};

/// Requests that are judged, and groups that are taken out, under their locks at a time.
const CHUNK: usize = 16;

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    /// Lets a guest's device ask for pages. It will cache translations too, and what it has
    /// cached is not checked again: whoever allows it trusts the device. Nothing is bound
    /// to the device yet.
    ///
    /// The host programs the device
    /// ([`VmHost::set_page_requests`](iommu_core::VmHost::set_page_requests)). The guest
    /// sees a capability bit, and asks for requests binding by binding.
    pub fn allow_page_requests(
        &self,
        vm: VmId,
        device: DeviceId,
        ats: AtsCapability,
    ) -> Result<(), IommuError> {
        let slot = self.slot(vm).ok_or(IommuError::NoSuchSlot(vm))?;
        let mut state = slot.state.take(&self.platform);
        let guest = state.as_mut().ok_or(IommuError::NoGuest(vm))?;
        let handle = guest
            .objects
            .handle_of_device(device)
            .ok_or(IommuError::NotOwned(device))?;
        let known = guest.objects.device(handle).ok();
        // Whether a device asks at all is one thing for all who share it.
        let can = known.is_some_and(|known| known.capabilities.page_requests && !known.slice);
        if !can {
            return Err(BackendError::Unsupported(device).into());
        }
        if guest.bindings.iter().any(|bound| bound.device == device) {
            return Err(IommuError::InUse(device));
        }
        if known.is_some_and(|known| known.asks.is_some()) {
            return Ok(());
        }
        self.backend.enable_page_requests(device, ats, &mut || {
            self.host.set_page_requests(device, true)
        })?;
        slot.inbox.lock(&self.platform).groups.admit(device);
        guest.objects.set_asks(handle, Some(ats));
        Ok(())
    }

    /// Takes the right to ask back from a device that nothing is bound to any more.
    pub(crate) fn stop_page_requests(&self, vm: VmId, device: DeviceId) -> Result<(), IommuError> {
        let off = &mut || self.host.set_page_requests(device, false);
        let result = self.backend.disable_page_requests(device, off);
        if let Some(slot) = self.slot(vm) {
            slot.inbox.lock(&self.platform).groups.dismiss(device);
        }
        Ok(result?)
    }

    /// Ends the asking of a slot that leads nowhere any more: groups that wait are answered,
    /// and what is under way comes to the units' queues. When it has been taken from there,
    /// too ([`serve_page_requests`](Self::serve_page_requests)), nothing of it is left.
    ///
    /// The device asks no more for the slot when it has been drained once. Where the unit's
    /// queue had no room for what it asked until then, the unit itself has answered, and those
    /// answers are before a second drain. So two are enough, however much others ask.
    pub(crate) fn end_page_requests(&self, vm: &VmSlot, slot: Slot) -> Result<(), IommuError> {
        let refused = self.refuse_groups(vm, |groups| groups.take_told(slot));
        vm.inbox.lock(&self.platform).groups.forget_parts(slot);
        let mut drained = self.backend.flush_page_requests(slot);
        if drained == Ok(true) {
            drained = self.backend.flush_page_requests(slot);
        }
        Ok(refused.and(drained.map(|_| ()))?)
    }

    /// Answers groups that wait for a guest in its place: those that `take` takes out.
    pub(crate) fn refuse_groups(
        &self,
        vm: &VmSlot,
        mut take: impl FnMut(&mut Groups) -> Option<Told>,
    ) -> Result<(), BackendError> {
        let mut result = Ok(());
        loop {
            let mut answers = ArrayVec::<PageResponse, CHUNK>::new();
            let mut inbox = vm.inbox.lock(&self.platform);
            while !answers.is_full()
                && let Some(told) = take(&mut inbox.groups)
            {
                answers.push(PageResponse {
                    slot: told.group.slot,
                    group: told.group.index,
                    code: ResponseCode::InvalidRequest,
                });
            }
            drop(inbox);
            if answers.is_empty() {
                return result;
            }
            result = result.and(self.backend.respond_all(&answers));
        }
    }
}
