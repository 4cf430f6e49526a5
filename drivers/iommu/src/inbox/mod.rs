//! What waits for a guest: events that it reads, and groups of page requests that it owes
//! an answer.
//!
//! Filled without the guest's turn, from where faults and page requests are taken from
//! hardware; everything in it has a fixed size.

mod events;
mod groups;

pub(crate) use events::{EventQueue, Pushed};
pub(crate) use groups::{AnswerError, Group, Part};

use crate::Quota;
use groups::Groups;

/// A guest's.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) events: EventQueue,
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
            groups: Groups::none(),
        }
    }

    /// Room for what a guest may have waiting; `None` without memory.
    pub(crate) fn new(quota: &Quota) -> Option<Self> {
        let (requests, groups) = (quota.page_requests.into(), quota.page_groups.into());
        Some(Self {
            events: EventQueue::new(quota.fault_events.into())?,
            groups: Groups::new(requests, groups, quota.objects.into())?,
        })
    }

    /// Takes a page request that is not the last of its group.
    pub(crate) fn gather(&mut self, part: Part) {
        if !self.groups.keep(part) {
            self.events.lose(1);
        }
    }

    /// Takes the last page request of a group, and tells the guest of all of it or of none.
    pub(crate) fn complete(&mut self, last: Part, device_id: u32) -> Delivered {
        let requests = self.groups.parts_of(&last.group).count().saturating_add(1);
        let whole = self.groups.is_whole(&last.group);
        let cookie = (whole && self.events.has_room(requests))
            .then(|| self.groups.expect_answer(&last, device_id))
            .flatten();
        let Some(cookie) = cookie else {
            self.events.lose(requests);
            self.groups.forget(&last.group);
            return Delivered::Lost;
        };
        let mut first = false;
        for part in self.groups.parts_of(&last.group).chain([&last]) {
            let mut event = part.event;
            event.cookie = cookie;
            first |= self.events.push(event) == Pushed::First;
        }
        self.groups.forget(&last.group);
        if first {
            Delivered::First
        } else {
            Delivered::Queued
        }
    }
}
