//! Refused requests: whose they are, why they were refused, and the queue that their guest
//! reads them from.

use crate::counters::count;
use crate::guest_walk::{self, GuestEntry, Outcome};
use crate::owners::{Bound, Owner};
use crate::{Iommu, PasidAllocator};
use alloc::vec::Vec;
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
        let (owner, bound) = self.whose(record)?;
        count(&self.counters.faults, 1);
        let slot = self.slot(owner.vm)?;
        let outcome = self.explain(owner.vm, record, bound.as_ref());
        let mut attribution = Attribution {
            vm: owner.vm,
            device_id: owner.device_id,
            pasid: bound.and_then(|bound| bound.guest_pasid),
            ioas_id: bound.map(|bound| bound.ioas_id),
            reason: outcome.reason.unwrap_or(record.reason),
            entry: outcome.entry,
            lost: false,
        };
        let pushed = {
            let owners = self.owners.lock(&self.platform);
            // The device may have another owner by now, whom this is none of the business.
            if owners.owner(record.device) != Some(owner) {
                return None;
            }
            let mut events = slot.events.lock(&self.platform);
            events.push(event(record, &attribution))
        };
        attribution.lost = pushed == Pushed::Lost;
        if pushed == Pushed::First {
            self.host.notify(owner.vm, VmEvent::FaultsPending);
        }
        Some(attribution)
    }

    fn whose(&self, record: &FaultRecord) -> Option<(Owner, Option<Bound>)> {
        let owners = self.owners.lock(&self.platform);
        let owner = owners.owner(record.device)?;
        let bound = owners.bound(Slot {
            device: record.device,
            // PASID 0 is that of requests without one, and some units say so.
            pasid: record.pasid.filter(|pasid| *pasid != Pasid::ZERO),
        });
        Some((owner, bound))
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
        // Given when it is queued.
        sequence: 0,
    }
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pushed {
    /// It is queued, and the queue was empty.
    First,
    Queued,
    /// The queue is full.
    Lost,
}

/// Events that wait for their guest. A ring of fixed size: when it is full, new ones are
/// lost and counted, since the oldest tell how it began.
#[derive(Debug)]
pub(crate) struct EventQueue {
    ring: Vec<FaultEvent>,
    first: usize,
    length: usize,
    /// Lost since the guest read last.
    lost: u32,
    /// Lost since an event was queued.
    lost_before_next: bool,
    sequence: u64,
}

impl EventQueue {
    /// A queue that holds nothing, where there is no guest.
    pub(crate) const fn none() -> Self {
        Self {
            ring: Vec::new(),
            first: 0,
            length: 0,
            lost: 0,
            lost_before_next: false,
            sequence: 0,
        }
    }

    /// Room for so many; `None` without memory.
    pub(crate) fn new(depth: usize) -> Option<Self> {
        let mut queue = Self::none();
        queue.ring.try_reserve_exact(depth).ok()?;
        queue.ring.resize(depth, FaultEvent::default());
        Some(queue)
    }

    pub(crate) fn push(&mut self, mut event: FaultEvent) -> Pushed {
        self.sequence = self.sequence.saturating_add(1);
        let place = self
            .first
            .checked_add(self.length)
            .and_then(|place| place.checked_rem(self.ring.len()));
        let slot = place
            .filter(|_| self.length < self.ring.len())
            .and_then(|place| self.ring.get_mut(place));
        let Some(slot) = slot else {
            self.lost = self.lost.saturating_add(1);
            self.lost_before_next = true;
            return Pushed::Lost;
        };
        event.sequence = self.sequence;
        if core::mem::take(&mut self.lost_before_next) {
            event.flags |= FaultEvent::LOST_BEFORE;
        }
        *slot = event;
        self.length = self.length.saturating_add(1);
        if self.length == 1 {
            Pushed::First
        } else {
            Pushed::Queued
        }
    }

    /// The event that many places behind the oldest.
    pub(crate) fn peek(&self, behind: usize) -> Option<FaultEvent> {
        if behind >= self.length {
            return None;
        }
        let place = self
            .first
            .checked_add(behind)?
            .checked_rem(self.ring.len())?;
        self.ring.get(place).copied()
    }

    /// Takes the oldest events off.
    pub(crate) fn drop_oldest(&mut self, count: usize) {
        let count = count.min(self.length);
        self.first = self
            .first
            .saturating_add(count)
            .checked_rem(self.ring.len())
            .unwrap_or(0);
        self.length = self.length.saturating_sub(count);
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// How many were lost since this was asked last.
    pub(crate) fn take_lost(&mut self) -> u32 {
        core::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(address: u64) -> FaultEvent {
        FaultEvent {
            address,
            ..FaultEvent::default()
        }
    }

    #[test]
    fn only_the_first_event_of_an_empty_queue_is_announced() {
        let mut queue = EventQueue::new(4).unwrap();
        assert_eq!(queue.push(fault(1)), Pushed::First);
        assert_eq!(queue.push(fault(2)), Pushed::Queued);
        queue.drop_oldest(2);
        assert_eq!(queue.push(fault(3)), Pushed::First);
    }

    #[test]
    fn a_full_queue_loses_the_newest_and_says_so() {
        let mut queue = EventQueue::new(2).unwrap();
        queue.push(fault(1));
        queue.push(fault(2));
        assert_eq!(queue.push(fault(3)), Pushed::Lost);
        assert_eq!(queue.push(fault(4)), Pushed::Lost);
        assert_eq!(queue.peek(0).unwrap().address, 1);
        queue.drop_oldest(1);
        assert_eq!(queue.push(fault(5)), Pushed::Queued);
        let newest = queue.peek(1).unwrap();
        assert_eq!((newest.address, newest.sequence), (5, 5));
        assert_eq!(
            newest.flags & FaultEvent::LOST_BEFORE,
            FaultEvent::LOST_BEFORE
        );
        assert_eq!(queue.peek(0).unwrap().flags & FaultEvent::LOST_BEFORE, 0);
        assert_eq!((queue.take_lost(), queue.take_lost()), (2, 0));
    }

    #[test]
    fn a_queue_without_room_loses_everything() {
        let mut queue = EventQueue::none();
        assert_eq!(queue.push(fault(1)), Pushed::Lost);
        queue.drop_oldest(1);
        assert_eq!(queue.len(), 0);
    }
}
