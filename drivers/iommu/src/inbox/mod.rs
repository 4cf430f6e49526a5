//! What waits for a guest: events that it reads, and groups of page requests that it owes
//! an answer.
//!
//! Filled without the guest's turn, from where faults and page requests are taken from
//! hardware; everything in it has a fixed size.

mod events;
mod groups;
mod queues;

pub(crate) use events::{EventQueue, Pushed};
pub(crate) use groups::{AnswerError, Group, Groups, Part, Told};
pub(crate) use queues::{Queue, RouteError};

use crate::Quota;
use iommu_abi::{FaultEvent, NO_ID, QueueKind};
use queues::Queues;

/// A guest's.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// The guest's own queue, which is always there.
    pub(crate) events: EventQueue,
    pub(crate) queues: Queues,
    pub(crate) groups: Groups,
}

/// What became of a group of page requests that is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Delivered {
    /// The guest is told, and knew of nothing before.
    First,
    /// The guest is told.
    Queued,
    /// There is no room for it, or was none for a part of it.
    Lost,
}

impl Inbox {
    /// One that holds nothing, where there is no guest.
    pub(crate) const fn none() -> Self {
        Self {
            events: EventQueue::none(),
            queues: Queues::none(),
            groups: Groups::none(),
        }
    }

    /// Room for what a guest may have waiting; `None` without memory.
    pub(crate) fn new(quota: &Quota) -> Option<Self> {
        let (requests, groups) = (quota.page_requests.into(), quota.page_groups.into());
        Some(Self {
            events: EventQueue::new(quota.fault_events.into())?,
            queues: Queues::new(quota.queues.into(), quota.objects.into())?,
            groups: Groups::new(requests, groups, quota.objects.into())?,
        })
    }

    /// Takes a page request that is not the last of its group.
    pub(crate) fn gather(&mut self, part: Part) {
        let queue = self.requests_of(&part.event);
        if !self.groups.keep(part)
            && let Some(events) = self.queue(queue)
        {
            events.lose(1);
        }
    }

    /// A queue, by its handle or [`NO_ID`].
    pub(crate) fn queue(&mut self, id: u32) -> Option<&mut EventQueue> {
        if id == NO_ID {
            Some(&mut self.events)
        } else {
            self.queues.get_mut(id)
        }
    }

    fn requests_of(&self, event: &FaultEvent) -> u32 {
        let kind = QueueKind::PageRequests;
        self.queues.route(kind, event.ioas_id, event.device_id)
    }

    /// Queues something that cannot be answered where the guest wants it.
    pub(crate) fn tell(&mut self, event: FaultEvent) -> Pushed {
        let kind = QueueKind::Events;
        let queue = self.queues.route(kind, event.ioas_id, event.device_id);
        match self.queue(queue) {
            Some(events) => events.push(event),
            None => Pushed::Lost,
        }
    }

    /// The same, if there is a queue with a handle for it.
    pub(crate) fn tell_by_queue(&mut self, event: FaultEvent) -> Option<Pushed> {
        let kind = QueueKind::Events;
        match self.queues.route(kind, event.ioas_id, event.device_id) {
            NO_ID => None,
            queue => Some(self.queue(queue)?.push(event)),
        }
    }

    /// Takes the last page request of a group, and tells the guest of all of it or of none.
    pub(crate) fn complete(&mut self, last: Part, device_id: u32) -> Delivered {
        let requests = self.groups.parts_of(&last.group).count().saturating_add(1);
        let whole = self.groups.is_whole(&last.group);
        let queue = self.requests_of(&last.event);
        let has_room = self
            .queue(queue)
            .is_some_and(|events| events.has_room(requests));
        let cookie = (whole && has_room)
            .then(|| self.groups.expect_answer(&last, device_id, queue))
            .flatten();
        let events = match queue {
            NO_ID => Some(&mut self.events),
            queue => self.queues.get_mut(queue),
        };
        let (Some(cookie), Some(events)) = (cookie, events) else {
            if let Some(events) = self.queue(queue) {
                events.lose(requests);
            }
            self.groups.forget(&last.group);
            return Delivered::Lost;
        };
        let mut first = false;
        for part in self.groups.parts_of(&last.group).chain([&last]) {
            let mut event = part.event;
            event.cookie = cookie;
            first |= events.push(event) == Pushed::First;
        }
        self.groups.forget(&last.group);
        if first {
            Delivered::First
        } else {
            Delivered::Queued
        }
    }
}
