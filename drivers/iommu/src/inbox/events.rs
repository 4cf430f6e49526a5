//! Events that wait for their guest, in a ring of fixed size.

use alloc::vec::Vec;
use iommu_abi::FaultEvent;

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
        let place = self
            .first
            .checked_add(self.length)
            .and_then(|place| place.checked_rem(self.ring.len()));
        let slot = place
            .filter(|_| self.length < self.ring.len())
            .and_then(|place| self.ring.get_mut(place));
        let Some(slot) = slot else {
            self.lose(1);
            return Pushed::Lost;
        };
        self.sequence = self.sequence.saturating_add(1);
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

    /// Events that it can hold.
    pub(super) fn depth(&self) -> usize {
        self.ring.len()
    }

    /// Whether so many events can be queued now.
    pub(super) fn has_room(&self, events: usize) -> bool {
        self.ring.len().saturating_sub(self.length) >= events
    }

    /// Counts events that are not queued.
    pub(super) fn lose(&mut self, events: usize) {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        self.sequence = self.sequence.saturating_add(events.into());
        self.lost = self.lost.saturating_add(events);
        self.lost_before_next = true;
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
