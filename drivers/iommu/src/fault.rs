//! Refused requests: whose they are, and why they were refused.

use crate::counters::count;
use crate::guest_walk::{self, GuestEntry, Outcome};
use crate::inbox::Pushed;
use crate::owners::{Bound, Owner, Owners};
use crate::{Iommu, PasidAllocator};
use iommu_abi::{FaultEvent, FaultEventKind};
use iommu_core::{
    Access, Backend, FaultKind, FaultReason, FaultRecord, Iova, Pasid, Platform, Slot, VmEvent,
    VmHost, VmId,
};

/// What a fault record means: whose request it was, and why it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Attribution {
    /// The guest.
    pub vm: VmId,
    /// Its handle of the device.
    pub device_id: u32,
    /// The PASID, in the guest's numbering.
    pub pasid: Option<Pasid>,
    /// The address space that was bound, by the guest's handle.
    pub ioas_id: Option<u32>,
    /// The reason that hardware would have given had it walked the guest's own table.
    pub reason: FaultReason,
    /// The entry of the guest's table that ended the walk.
    pub entry: Option<GuestEntry>,
    /// The guest's queue was full: it learns only that something was lost.
    pub lost: bool,
}

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    /// Takes a fault record from the driver, finds out whose it is and why, and tells its
    /// guest. `None` if the device belongs to no guest: then the record is the
    /// hypervisor's.
    ///
    /// May be called in an interrupt handler. Reads at most one entry a level of the
    /// guest's table, as it is now.
    pub fn report(&self, record: &FaultRecord) -> Option<Attribution> {
        let (owner, pasid, bound) = self.whose(record)?;
        count(&self.counters.faults, 1);
        let vm = self.slot(owner.vm)?;
        let outcome = self.explain(owner.vm, record, bound.as_ref());
        let mut attribution = Attribution {
            vm: owner.vm,
            device_id: owner.device_id,
            pasid: bound.and_then(|bound| bound.guest_pasid).or(pasid),
            ioas_id: bound.map(|bound| bound.ioas_id),
            reason: outcome.reason.unwrap_or(record.reason),
            entry: outcome.entry,
            lost: false,
        };
        let pushed = {
            let owners = self.owners.lock(&self.platform);
            // The device may have another owner by now, whom this is none of the business.
            let now = owners.owner_of(slot_of(&owners, record));
            if now.map(|(owner, _)| owner) != Some(owner) {
                return None;
            }
            let mut inbox = vm.inbox.lock(&self.platform);
            inbox.tell(event(record, &attribution))
        };
        attribution.lost = pushed == Pushed::Lost;
        if pushed == Pushed::First {
            self.host.notify(owner.vm, VmEvent::FaultsPending);
        }
        Some(attribution)
    }

    fn whose(&self, record: &FaultRecord) -> Option<(Owner, Option<Pasid>, Option<Bound>)> {
        let owners = self.owners.lock(&self.platform);
        let slot = slot_of(&owners, record);
        let (owner, pasid) = owners.owner_of(slot)?;
        Some((owner, pasid, owners.bound(slot)))
    }

    /// Walks the guest's table, if the request went through one.
    fn explain(&self, vm: VmId, record: &FaultRecord, bound: Option<&Bound>) -> Outcome {
        let unexplained = Outcome {
            reason: None,
            entry: None,
        };
        let FaultKind::Dma { address, access } = record.kind else {
            return unexplained;
        };
        let (Some(table), Some(slot)) = (bound.and_then(|bound| bound.table), self.slot(vm)) else {
            return unexplained;
        };
        let memory = slot.memory.lock(&self.platform);
        let Some(memory) = memory.as_ref() else {
            return unexplained;
        };
        let outcome = guest_walk::walk(&**memory, &table, address, access);
        if table.nested || is_before_walk(record.reason) {
            return Outcome {
                reason: None,
                ..outcome
            };
        }
        Outcome {
            // The guest may have changed its table since, or not said that it did.
            reason: outcome
                .reason
                .or_else(|| Some(as_first_stage(record.reason))),
            ..outcome
        }
    }
}

/// Whether hardware gives this reason without looking at a paging structure.
fn is_before_walk(reason: FaultReason) -> bool {
    (FaultReason::TABLE_MODE..FaultReason::FIRST_STAGE_TABLE_ERROR).contains(&reason)
        || reason == FaultReason::PASID_TOO_WIDE
}

/// What a reason that the shadow's format gives is called in a first stage.
fn as_first_stage(reason: FaultReason) -> FaultReason {
    match reason {
        FaultReason::WRITE_DENIED => FaultReason::SCALABLE_WRITE_DENIED,
        FaultReason::READ_DENIED
        | FaultReason::SCALABLE_READ_DENIED
        | FaultReason::SECOND_STAGE_NOT_PRESENT => FaultReason::FIRST_STAGE_NOT_PRESENT,
        FaultReason::BEYOND_WIDTH => FaultReason::SCALABLE_BEYOND_WIDTH,
        FaultReason::INTO_INTERRUPT_RANGE => FaultReason::SCALABLE_INTO_INTERRUPT_RANGE,
        other => other,
    }
}

fn slot_of(owners: &Owners, record: &FaultRecord) -> Slot {
    Slot {
        device: owners.who_requests_as(record.device),
        // PASID 0 is that of requests without one, and some units say so.
        pasid: record.pasid.filter(|pasid| *pasid != Pasid::ZERO),
    }
}

fn event(record: &FaultRecord, attribution: &Attribution) -> FaultEvent {
    let (kind, address, access) = match record.kind {
        FaultKind::Dma { address, access } => (FaultEventKind::Dma, Some(address), access),
        FaultKind::Interrupt { .. } => (FaultEventKind::Interrupt, None, Access::WRITE),
        FaultKind::PageRequest { address } => (FaultEventKind::Dma, Some(address), Access::NONE),
    };
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    FaultEvent {
        kind: kind.as_u32(),
        flags: flag(attribution.pasid.is_some(), FaultEvent::PASID)
            | flag(address.is_some(), FaultEvent::ADDRESS)
            | flag(attribution.ioas_id.is_some(), FaultEvent::IOAS)
            | flag(attribution.entry.is_some(), FaultEvent::ENTRY)
            | flag(record.privileged, FaultEvent::PRIVILEGED),
        device_id: attribution.device_id,
        ioas_id: attribution.ioas_id.unwrap_or(0),
        pasid: attribution.pasid.map_or(0, Pasid::as_u32),
        access: flag(access.reads(), FaultEvent::READ) | flag(access.writes(), FaultEvent::WRITE),
        reason: attribution.reason.0.into(),
        level: attribution.entry.map_or(0, |entry| entry.level.into()),
        address: address.map_or(0, Iova::as_u64),
        entry_address: attribution.entry.map_or(0, |entry| entry.at.as_u64()),
        entry: attribution.entry.map_or(0, |entry| entry.value),
        // The sequence is given when it is queued.
        ..FaultEvent::default()
    }
}
