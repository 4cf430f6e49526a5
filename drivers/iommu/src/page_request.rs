//! Devices that ask for pages: from the unit's queue to their guest, and the answer back.
//!
//! One CPU at a time takes requests from the units, and what it took has reached its guest
//! or was answered when its turn ends. So whoever has drained a device and then taken the
//! turn knows that no request of before is under way (§7.10).

use crate::inbox::{Delivered, Group, Part};
use crate::owners::{Bound, Owner};
use crate::vm::VmSlot;
use crate::{Iommu, IommuError, PasidAllocator};
use iommu_abi::{FaultEvent, FaultEventKind};
use iommu_core::{
    AtsCapability, Backend, BackendError, DeviceId, PageRequest, PageResponse, Pasid, Platform,
    ResponseCode, Slot, VmEvent, VmHost, VmId,
};

/// Times that a slot's requests are waited for while the queue overflows.
const DRAINS: u32 = 8;

/// What [`Iommu::serve_page_requests`] did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PageRequestsServed {
    /// Requests that were taken from the units.
    pub requests: u32,
    /// Groups that guests were told of.
    pub told: u32,
    /// Groups that were answered in a guest's place.
    pub answered: u32,
    /// Answers that a unit did not take in time. Their devices wait.
    pub unanswered: u32,
}

/// What shall become of a request.
enum Verdict {
    /// Its group is not whole yet.
    Kept,
    /// Its guest is told of the group; it must be notified if it knew of nothing before.
    Told { notify: Option<VmId> },
    /// Its group is answered now.
    Answer(ResponseCode),
}

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

    /// Takes all page requests from the units, tells guests of those that they will answer,
    /// and answers the others. To be called when a unit's page request event came.
    ///
    /// Waits for units to take answers, so it is not for interrupt handlers.
    pub fn serve_page_requests(&self) -> PageRequestsServed {
        let _one_at_a_time = self.serving.take(&self.platform);
        let mut served = PageRequestsServed::default();
        self.backend.drain_page_requests(&mut |request| {
            served.requests = served.requests.saturating_add(1);
            match self.judge(request) {
                Verdict::Kept => {}
                Verdict::Told { notify } => {
                    served.told = served.told.saturating_add(1);
                    if let Some(vm) = notify {
                        self.host.notify(vm, VmEvent::FaultsPending);
                    }
                }
                Verdict::Answer(code) => {
                    let answer = PageResponse {
                        slot: request.slot,
                        group: request.group,
                        code,
                    };
                    let count = match self.backend.respond(&answer) {
                        Ok(()) => &mut served.answered,
                        Err(_) => &mut served.unanswered,
                    };
                    *count = count.saturating_add(1);
                }
            }
        });
        served
    }

    /// Whose the request is, and whether its guest has room for it.
    fn judge(&self, request: &PageRequest) -> Verdict {
        let group = Group {
            slot: request.slot,
            index: request.group,
        };
        let owners = self.owners.lock(&self.platform);
        let owner = owners.owner_of(request.slot);
        let Some((owner, slot)) = owner.and_then(|(owner, _)| Some((owner, self.slot(owner.vm)?)))
        else {
            return refused(request);
        };
        // Under the lock of the owners, so that it does not go to whom the device belonged
        // to before, or is bound to next.
        let mut inbox = slot.inbox.lock(&self.platform);
        let bound = owners.bound(request.slot);
        let Some(bound) = bound.filter(|bound| bound.page_requests) else {
            if request.last {
                inbox.groups.forget(&group);
            }
            return refused(request);
        };
        let part = Part {
            group,
            event: event(request, &owner, &bound),
        };
        if !request.last {
            inbox.gather(part);
            return Verdict::Kept;
        }
        match inbox.complete(part, owner.device_id) {
            Delivered::First => Verdict::Told {
                notify: Some(owner.vm),
            },
            Delivered::Queued => Verdict::Told { notify: None },
            // As the unit answers when its own queue is full (§7.4.1): try again.
            Delivered::Lost => Verdict::Answer(ResponseCode::Success),
        }
    }

    /// Ends the asking of a slot that leads nowhere any more: groups that wait are answered,
    /// what is under way is taken from the units, and then nothing of it is left.
    pub(crate) fn end_page_requests(&self, vm: &VmSlot, slot: Slot) -> Result<(), IommuError> {
        let mut result = Ok(());
        loop {
            let mut inbox = vm.inbox.lock(&self.platform);
            let told = inbox.groups.take_told(slot);
            inbox.groups.forget_parts(slot);
            drop(inbox);
            let Some(told) = told else { break };
            let answered = self.backend.respond(&PageResponse {
                slot,
                group: told.group.index,
                code: ResponseCode::InvalidRequest,
            });
            result = result.and(answered.map_err(IommuError::Backend));
        }
        for _ in 0..DRAINS {
            match self.backend.flush_page_requests(slot) {
                Ok(overflown) => {
                    // Nothing is bound there, so all of it is answered.
                    self.serve_page_requests();
                    if !overflown {
                        break;
                    }
                }
                Err(error) => return result.and(Err(IommuError::Backend(error))),
            }
        }
        result
    }
}

/// Nobody will answer: that access fails. Only the last of a group is owed an answer.
fn refused(request: &PageRequest) -> Verdict {
    if request.last {
        Verdict::Answer(ResponseCode::InvalidRequest)
    } else {
        Verdict::Kept
    }
}

fn event(request: &PageRequest, owner: &Owner, bound: &Bound) -> FaultEvent {
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    let access = request.access;
    FaultEvent {
        kind: FaultEventKind::PageRequest.as_u32(),
        flags: FaultEvent::ADDRESS
            | FaultEvent::IOAS
            | flag(bound.guest_pasid.is_some(), FaultEvent::PASID)
            | flag(request.privileged, FaultEvent::PRIVILEGED)
            | flag(request.last, FaultEvent::LAST),
        device_id: owner.device_id,
        ioas_id: bound.ioas_id,
        pasid: bound.guest_pasid.map_or(0, Pasid::as_u32),
        access: flag(access.reads(), FaultEvent::READ) | flag(access.writes(), FaultEvent::WRITE),
        address: request.address.as_u64(),
        group: request.group.into(),
        // Cookie and sequence are given when it is queued.
        ..FaultEvent::default()
    }
}
