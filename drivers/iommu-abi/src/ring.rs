//! A ring of operations: many calls for one exit.
//!
//! A guest writes [`RingSubmission`]s, moves the tail, and enters the ring by
//! [`Op::RingEnter`](crate::Op::RingEnter), once for as many as it likes. What each call
//! returned comes back as a [`RingCompletion`]. While the hypervisor polls the ring
//! ([`RingIndices::POLLED`]), no call is needed at all.

use crate::layout::{argument, layout};

layout! {
    /// Argument of [`Op::RingCreate`](crate::Op::RingCreate): makes a ring of operations,
    /// an object that [`Op::Destroy`](crate::Op::Destroy) gives up. Its memory is the guest's
    /// and stays so.
    ///
    /// `EINVAL` if an address is not a multiple of 8 or `entries` is no power of two;
    /// `EDQUOT` beyond [`ENTRIES_MAX`](Self::ENTRIES_MAX).
    pub struct RingCreate: 48 bytes, 48 in version 3 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// Guest-physical address of the [`RingIndices`].
        [8 In] indices: u64,
        /// Guest-physical address of an array of `entries` [`RingSubmission`].
        [16 In] submissions: u64,
        /// Guest-physical address of an array of `entries` [`RingCompletion`].
        [24 In] completions: u64,
        /// Elements in each array: a power of two.
        [32 In] entries: u32,
        /// Where all four indices begin; element `first` modulo `entries` is the first that
        /// is used. They are written to the [`RingIndices`].
        [36 In] first: u32,
        /// The ring's handle.
        [40 Out] ring_id: u32,
        /// 0.
        [44 Reserved] reserved: u32,
    }
}
argument!(RingCreate, RingCreate, flags: 0);

impl RingCreate {
    /// The largest ring.
    pub const ENTRIES_MAX: u32 = 4096;
}

layout! {
    /// Argument of [`Op::RingEnter`](crate::Op::RingEnter): does what was submitted, in
    /// order. The call returns how many; on an error the ring cannot go on (see there), and
    /// `completed` says how many were done before.
    ///
    /// A call does as many operations as it may for its work, at least one; `remaining` says
    /// what waits still. Ring operations inside a ring are `EOPNOTSUPP`.
    pub struct RingEnter: 24 bytes, 24 in version 3 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The ring.
        [8 In] ring_id: u32,
        /// At most so many operations; 0 for all.
        [12 In] limit: u32,
        /// Operations that were done.
        [16 Out] completed: u32,
        /// Operations that were submitted and wait still.
        [20 Out] remaining: u32,
    }
}
argument!(RingEnter, RingEnter, flags: 0);

layout! {
    /// The indices of a ring. They count on without end, modulo 2^32: element `index` modulo
    /// the number of entries is meant. A ring is empty where head and tail are equal.
    ///
    /// `RingEnter` reads the guest's two once, and its own never: `EINVAL` if
    /// more are submitted, or more completions wait, than there are entries.
    pub struct RingIndices: 40 bytes, 40 in version 3 {
        /// The guest: behind the last submission.
        [0 In] submission_tail: u64,
        /// The guest: the first completion that it has not read.
        [8 In] completion_head: u64,
        /// The hypervisor: the first submission that it has not done.
        [16 Out] submission_head: u64,
        /// The hypervisor: behind the last completion.
        [24 Out] completion_tail: u64,
        /// The hypervisor: [`POLLED`](Self::POLLED).
        [32 Out] state: u64,
    }
}

impl RingIndices {
    /// State: the hypervisor looks at the ring by itself. A guest that has moved the tail, and
    /// reads this afterwards (with a fence between), need not enter the ring.
    pub const POLLED: u64 = 1 << 0;
}

layout! {
    /// An operation that shall be done. It is read once.
    pub struct RingSubmission: 32 bytes, 32 in version 3 {
        /// What would stand in `rax`: an [`Op`](crate::Op).
        [0 In] operation: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// What would stand in `rdi`: guest-physical address of the argument, in which the
        /// results are too.
        [8 In] argument: u64,
        /// Whatever the guest wants back.
        [16 In] user_data: u64,
        /// 0.
        [24 Reserved] reserved: u64,
    }
}
impl crate::Entry for RingSubmission {}

layout! {
    /// What became of an operation.
    pub struct RingCompletion: 16 bytes, 16 in version 3 {
        /// That of the submission.
        [0 Out] user_data: u64,
        /// What `rax` would hold: 0 or a count, or a negated [`Errno`](crate::Errno).
        [8 Out] result: i64,
    }
}
impl crate::Entry for RingCompletion {}
