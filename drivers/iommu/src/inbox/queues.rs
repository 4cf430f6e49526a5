//! Queues of events beside the guest's own, and which of them tells of what.

use super::EventQueue;
use alloc::vec::Vec;
use iommu_abi::{NO_ID, QueueKind};

/// A queue that the guest made.
#[derive(Debug)]
pub(crate) struct Queue {
    id: u32,
    kind: QueueKind,
    events: EventQueue,
}

/// What happens to an object is told by a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Route {
    object: u32,
    kind: QueueKind,
    queue: u32,
}

/// All queues of a guest that have handles.
#[derive(Debug)]
pub(crate) struct Queues {
    queues: Vec<Queue>,
    /// At most one for each object and kind.
    routes: Vec<Route>,
}

/// Why an object and a queue cannot be bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RouteError {
    /// The object has a queue of this kind.
    Taken,
    /// There is no such queue.
    NoQueue,
}

impl Queue {
    /// A queue of so many events; `None` without memory.
    pub(crate) fn new(id: u32, kind: QueueKind, depth: usize) -> Option<Self> {
        let events = EventQueue::new(depth)?;
        Some(Self { id, kind, events })
    }
}

impl Queues {
    pub(super) const fn none() -> Self {
        Self {
            queues: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// Room for so many queues, and for all that objects can be bound to; `None` without
    /// memory.
    pub(super) fn new(queues: usize, objects: usize) -> Option<Self> {
        let mut all = Self::none();
        all.queues.try_reserve_exact(queues).ok()?;
        let routes = objects.checked_mul(QueueKind::ALL.len())?;
        all.routes.try_reserve_exact(routes).ok()?;
        Some(all)
    }

    /// Whether another queue can be added.
    pub(crate) fn has_room(&self) -> bool {
        self.queues.len() < self.queues.capacity()
    }

    /// Events that all queues can hold together.
    pub(crate) fn depth(&self) -> usize {
        let depths = self.queues.iter().map(|queue| queue.events.depth());
        depths.fold(0, usize::saturating_add)
    }

    /// Adds a queue. It comes back if there is no room.
    pub(crate) fn add(&mut self, queue: Queue) -> Result<(), Queue> {
        if !self.has_room() {
            return Err(queue);
        }
        self.queues.push(queue);
        Ok(())
    }

    /// Takes a queue out that nothing is bound to; `None` if something is. To be dropped
    /// where memory may be given back.
    pub(crate) fn take(&mut self, id: u32) -> Option<Queue> {
        if self.routes.iter().any(|route| route.queue == id) {
            return None;
        }
        let place = self.queues.iter().position(|queue| queue.id == id)?;
        Some(self.queues.swap_remove(place))
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut EventQueue> {
        let queue = self.queues.iter_mut().find(|queue| queue.id == id)?;
        Some(&mut queue.events)
    }

    /// From now on the queue tells what happens to the object, if it is of its kind.
    pub(crate) fn bind(&mut self, object: u32, queue: u32) -> Result<(), RouteError> {
        let mut known = self.queues.iter();
        let kind = known
            .find(|known| known.id == queue)
            .map(|known| known.kind)
            .ok_or(RouteError::NoQueue)?;
        if self.route_of(object, kind).is_some() {
            return Err(RouteError::Taken);
        }
        // There is room: at most one for each object and kind.
        if self.routes.len() < self.routes.capacity() {
            self.routes.push(Route {
                object,
                kind,
                queue,
            });
        }
        Ok(())
    }

    /// Undoes that. `false` if it was not so.
    pub(crate) fn unbind(&mut self, object: u32, queue: u32) -> bool {
        let mut routes = self.routes.iter();
        let place = routes.position(|route| route.object == object && route.queue == queue);
        place.map(|place| self.routes.swap_remove(place)).is_some()
    }

    /// The object is no more.
    pub(crate) fn forget(&mut self, object: u32) {
        self.routes.retain(|route| route.object != object);
    }

    fn route_of(&self, object: u32, kind: QueueKind) -> Option<u32> {
        let mut routes = self.routes.iter();
        let route = routes.find(|route| route.object == object && route.kind == kind)?;
        Some(route.queue)
    }

    /// Which queue tells what happens to an address space, or to a device: the guest's own
    /// where neither has one.
    pub(super) fn route(&self, kind: QueueKind, ioas: u32, device: u32) -> u32 {
        self.route_of(ioas, kind)
            .or_else(|| self.route_of(device, kind))
            .unwrap_or(NO_ID)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues() -> Queues {
        let mut queues = Queues::new(2, 8).unwrap();
        for (id, kind) in [(5, QueueKind::Events), (6, QueueKind::PageRequests)] {
            queues.add(Queue::new(id, kind, 4).unwrap()).unwrap();
        }
        queues
    }

    #[test]
    fn the_address_space_comes_before_the_device_and_that_before_the_guest() {
        let mut queues = Queues::new(2, 8).unwrap();
        for id in [5, 6] {
            queues
                .add(Queue::new(id, QueueKind::Events, 4).unwrap())
                .unwrap();
        }
        assert_eq!(queues.route(QueueKind::Events, 2, 1), NO_ID);
        queues.bind(1, 5).unwrap();
        assert_eq!(queues.route(QueueKind::Events, 2, 1), 5);
        queues.bind(2, 6).unwrap();
        assert_eq!(queues.route(QueueKind::Events, 2, 1), 6);
        assert_eq!(queues.route(QueueKind::Events, 3, 1), 5);
        assert_eq!(queues.route(QueueKind::PageRequests, 2, 1), NO_ID);
    }

    #[test]
    fn an_object_has_one_queue_of_each_kind() {
        let mut queues = queues();
        queues.bind(1, 5).unwrap();
        queues.bind(1, 6).unwrap();
        assert_eq!(queues.bind(1, 5), Err(RouteError::Taken));
        assert_eq!(queues.bind(1, 7), Err(RouteError::NoQueue));
    }

    #[test]
    fn a_queue_goes_when_nothing_is_bound_to_it() {
        let mut queues = queues();
        queues.bind(1, 5).unwrap();
        queues.bind(2, 5).unwrap();
        assert!(queues.take(5).is_none());
        assert!(queues.unbind(1, 5));
        assert!(!queues.unbind(1, 5));
        assert!(queues.take(5).is_none());
        queues.forget(2);
        assert!(queues.take(5).is_some());
        assert!(queues.take(5).is_none());
    }

    #[test]
    fn there_are_no_more_queues_than_may_be() {
        let mut queues = queues();
        assert_eq!(queues.depth(), 8);
        let third = Queue::new(7, QueueKind::Events, 4).unwrap();
        assert!(queues.add(third).is_err());
    }
}
