//! Queues of events, as objects.

use crate::layout::{argument, layout};
use crate::number::numbers;

layout! {
    /// Argument of [`Op::QueueAllocate`](crate::Op::QueueAllocate): makes a queue of events
    /// beside the guest's own, which is always there. It is read by
    /// [`Op::FaultRead`](crate::Op::FaultRead), and [`Op::Destroy`](crate::Op::Destroy) gives it
    /// up: `EBUSY` while something is bound to it. Groups of page requests that were told by
    /// it and wait for an answer then are answered in the guest's place.
    pub struct QueueAllocate: 24 bytes, 24 in version 3 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// What it carries: a [`QueueKind`].
        [8 In] kind: u32,
        /// Events that it holds, at least 1. `EDQUOT` if the guest's queues would together
        /// hold more than they may.
        [12 In] depth: u32,
        /// The queue's handle.
        [16 Out] queue_id: u32,
        /// 0.
        [20 Reserved] reserved: u32,
    }
}
argument!(QueueAllocate, QueueAllocate, flags: 0);

numbers! {
    /// What a queue carries.
    pub enum QueueKind {
        /// Page requests: what the guest owes an answer.
        PageRequests = 1,
        /// What cannot be answered: refused requests of DMA and interrupts, and invalidations
        /// that hardware did not confirm.
        Events = 2,
    }
}

layout! {
    /// Argument of [`Op::QueueBind`](crate::Op::QueueBind): from now on what happens to an
    /// object is told by this queue, if it is of its kind. The queue of the address space
    /// comes before that of the device; where neither has one it is the guest's own, which
    /// is told of no invalidations. `EBUSY` if the object has a queue of this kind.
    pub struct QueueBind: 16 bytes, 16 in version 3 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The queue.
        [8 In] queue_id: u32,
        /// The address space, nested table or device.
        [12 In] object_id: u32,
    }
}
argument!(QueueBind, QueueBind, flags: 0);

layout! {
    /// Argument of [`Op::QueueUnbind`](crate::Op::QueueUnbind): the object has no such queue
    /// any more. What the queue holds stays there. `ENOENT` if they are not bound.
    pub struct QueueUnbind: 16 bytes, 16 in version 3 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The queue.
        [8 In] queue_id: u32,
        /// The address space, nested table or device.
        [12 In] object_id: u32,
    }
}
argument!(QueueUnbind, QueueUnbind, flags: 0);
