//! Queues of events, as objects.

use crate::dispatch::Answer;
use crate::error::of_backend;
use crate::inbox::{Pushed, Queue, RouteError};
use crate::object::Object;
use crate::vm::{Vm, VmSlot};
use crate::{Iommu, PasidAllocator};
use iommu_abi::{
    Errno, FaultEvent, FaultEventKind, QueueAllocate, QueueBind, QueueKind, QueueUnbind,
};
use iommu_core::{Backend, Platform, VmEvent, VmHost};

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn queue_allocate(&self, guest: &mut Vm, ask: &mut QueueAllocate) -> Answer {
        let kind = QueueKind::from_u32(ask.kind).ok_or(Errno::EOPNOTSUPP)?;
        let depth = usize::try_from(ask.depth).map_err(|_| Errno::EDQUOT)?;
        if depth == 0 {
            return Err(Errno::EINVAL.into());
        }
        let slot = self.slot_of(guest)?;
        let most = usize::try_from(guest.quota.queue_events).unwrap_or(usize::MAX);
        {
            let inbox = slot.inbox.lock(&self.platform);
            let together = inbox.queues.depth().checked_add(depth);
            if !inbox.queues.has_room() || together.is_none_or(|together| together > most) {
                return Err(Errno::EDQUOT.into());
            }
        }
        let id = guest.objects.insert(Object::Queue)?;
        let added = match Queue::new(id, kind, depth) {
            // There is room: only this guest's calls add queues, and they take turns.
            Some(queue) => slot.inbox.lock(&self.platform).queues.add(queue),
            None => {
                guest.objects.remove(id);
                return Err(Errno::ENOMEM.into());
            }
        };
        if added.is_err() {
            guest.objects.remove(id);
            return Err(Errno::EDQUOT.into());
        }
        ask.queue_id = id;
        Ok(0)
    }

    pub(crate) fn queue_bind(&self, guest: &mut Vm, ask: &mut QueueBind) -> Answer {
        guest.objects.queue(ask.queue_id)?;
        guest.objects.told_by_queues(ask.object_id)?;
        let mut inbox = self.slot_of(guest)?.inbox.lock(&self.platform);
        match inbox.queues.bind(ask.object_id, ask.queue_id) {
            Ok(()) => Ok(0),
            Err(RouteError::Taken) => Err(Errno::EBUSY.into()),
            Err(RouteError::NoQueue) => Err(Errno::ENOENT.into()),
        }
    }

    pub(crate) fn queue_unbind(&self, guest: &mut Vm, ask: &mut QueueUnbind) -> Answer {
        guest.objects.queue(ask.queue_id)?;
        let mut inbox = self.slot_of(guest)?.inbox.lock(&self.platform);
        if inbox.queues.unbind(ask.object_id, ask.queue_id) {
            Ok(0)
        } else {
            Err(Errno::ENOENT.into())
        }
    }

    /// Gives a queue up. What was told by it and not answered is answered.
    pub(crate) fn destroy_queue(&self, guest: &mut Vm, id: u32) -> Answer {
        let slot = self.slot_of(guest)?;
        let taken = slot.inbox.lock(&self.platform).queues.take(id);
        // Its memory is given back with interrupts on.
        drop(taken.ok_or(Errno::EBUSY)?);
        guest.objects.remove(id);
        let refused = self.refuse_groups(slot, |groups| groups.take_told_by(id));
        refused
            .map(|()| 0)
            .map_err(|error| of_backend(error).into())
    }

    /// An object is no more: no queue tells of it.
    pub(crate) fn forget_routes(&self, guest: &Vm, object: u32) {
        if let Some(slot) = self.slot(guest.id) {
            slot.inbox.lock(&self.platform).queues.forget(object);
        }
    }

    /// Tells a guest of an invalidation that hardware did not confirm, if a queue is there
    /// for it: callers of old know of no such event.
    pub(crate) fn note_invalidation(&self, guest: &Vm, ioas_id: u32, settled: Result<(), Errno>) {
        let (Err(errno), Some(slot)) = (settled, self.slot(guest.id)) else {
            return;
        };
        let event = FaultEvent {
            kind: FaultEventKind::Invalidation.as_u32(),
            flags: FaultEvent::IOAS,
            ioas_id,
            reason: errno.as_u32(),
            ..FaultEvent::default()
        };
        let pushed = slot.inbox.lock(&self.platform).tell_by_queue(event);
        if pushed == Some(Pushed::First) {
            self.host.notify(guest.id, VmEvent::FaultsPending);
        }
    }

    fn slot_of(&self, guest: &Vm) -> Result<&VmSlot, Errno> {
        self.slot(guest.id).ok_or(Errno::EIO)
    }
}
