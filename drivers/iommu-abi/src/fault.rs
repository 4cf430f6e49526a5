//! What went wrong with a device's requests, and what devices ask for.

use crate::Entry;
use crate::layout::{argument, layout};
use crate::number::numbers;

layout! {
    /// Argument of [`Op::FaultRead`](crate::Op::FaultRead): takes events off the queue, the
    /// oldest first. The call returns how many.
    pub struct FaultRead: 40 bytes, 40 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// Guest-physical address of an array of [`FaultEvent`].
        [8 In] buffer: u64,
        /// Size of an element, as the caller knows it; what a shorter one has no room for
        /// is left out.
        [16 In] entry_size: u32,
        /// Elements in the array; 0 is allowed and takes nothing.
        [20 In] capacity: u32,
        /// Which queue: [`NO_ID`](crate::NO_ID) for the guest's own, or one that
        /// [`Op::QueueAllocate`](crate::Op::QueueAllocate) made.
        [24 In] queue_id: u32,
        /// Events that were written to the array.
        [28 Out] count: u32,
        /// Events that were lost since the last call because the queue was full.
        [32 Out] lost: u32,
        /// Events that wait still.
        [36 Out] remaining: u32,
    }
}
argument!(FaultRead, FaultRead, flags: 0);

layout! {
    /// A request of a device that was refused, or a page that a device asks for. All events
    /// of a group of page requests follow each other.
    pub struct FaultEvent: 80 bytes, 64 in version 1 {
        /// What happened: a [`FaultEventKind`].
        [0 Out] kind: u32,
        /// Which fields hold something: the constants of this type.
        [4 Out] flags: u32,
        /// The device that asked.
        [8 Out] device_id: u32,
        /// [`IOAS`](Self::IOAS): the address space that it was bound to.
        [12 Out] ioas_id: u32,
        /// [`PASID`](Self::PASID): the PASID in the request, of the guest's numbering.
        [16 Out] pasid: u32,
        /// What it wanted: [`READ`](Self::READ), [`WRITE`](Self::WRITE).
        [20 Out] access: u32,
        /// Why, by the numbers of VT-d's fault reasons (§7.1.3), as hardware that nests
        /// the guest's table would have reported it. 0 for page requests; for invalidations
        /// the [`Errno`](crate::Errno) that the call returned.
        [24 Out] reason: u32,
        /// [`ENTRY`](Self::ENTRY): level of the entry that ended the walk, 1 for a 4 KiB
        /// leaf.
        [28 Out] level: u32,
        /// [`ADDRESS`](Self::ADDRESS): the address in the request, page-aligned.
        [32 Out] address: u64,
        /// [`ENTRY`](Self::ENTRY): guest-physical address of that entry.
        [40 Out] entry_address: u64,
        /// [`ENTRY`](Self::ENTRY): what it held when the fault was looked into.
        [48 Out] entry: u64,
        /// Counts the events of the queue from 1 on, the lost ones included.
        [56 Out] sequence: u64,
        /// Page requests: names the group in the answer, once. Never 0. Since version 2.
        [64 Out] cookie: u64,
        /// Page requests: the group, by the device's numbering. Since version 2.
        [72 Out] group: u32,
        /// 0.
        [76 Reserved] reserved: u32,
    }
}
impl Entry for FaultEvent {}

impl FaultEvent {
    /// Flag: `pasid` is valid.
    pub const PASID: u32 = 1 << 0;
    /// Flag: `address` is valid.
    pub const ADDRESS: u32 = 1 << 1;
    /// Flag: `ioas_id` is valid.
    pub const IOAS: u32 = 1 << 2;
    /// Flag: `level`, `entry_address` and `entry` are valid.
    pub const ENTRY: u32 = 1 << 3;
    /// Flag: the request asked for supervisor rights.
    pub const PRIVILEGED: u32 = 1 << 4;
    /// Flag: events were lost between the one before and this one.
    pub const LOST_BEFORE: u32 = 1 << 5;
    /// Flag: the last page request of its group, which is answered as a whole.
    pub const LAST: u32 = 1 << 6;

    /// Access: read.
    pub const READ: u32 = 1 << 0;
    /// Access: write.
    pub const WRITE: u32 = 1 << 1;
}

numbers! {
    /// What happened.
    pub enum FaultEventKind {
        /// A DMA request was refused.
        Dma = 1,
        /// An interrupt request was refused.
        Interrupt = 2,
        /// A device asks for a page.
        PageRequest = 3,
        /// Hardware did not confirm an invalidation. Since version 3, and only told by a
        /// queue of [`QueueKind::Events`](crate::QueueKind::Events).
        Invalidation = 4,
    }
}

layout! {
    /// Argument of [`Op::PageResponse`](crate::Op::PageResponse): answers groups of page
    /// requests. The call returns how many; on error the one at `completed` was refused, and
    /// those before it are done.
    pub struct PageResponse: 32 bytes, 32 in version 2 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// Guest-physical address of an array of [`PageAnswer`].
        [8 In] answers: u64,
        /// Size of an element, as the caller knows it.
        [16 In] entry_size: u32,
        /// Elements in the array. One call does 64 at most.
        [20 In] entry_count: u32,
        /// Answers that were given.
        [24 Out] completed: u32,
        /// 0.
        [28 Reserved] reserved: u32,
    }
}
argument!(PageResponse, PageResponse, flags: 0);

layout! {
    /// The answer to a group of page requests. `ENOENT` if the cookie names no group that
    /// waits, `EINVAL` if it names another one than the rest says; then it can still be
    /// answered.
    pub struct PageAnswer: 32 bytes, 32 in version 2 {
        /// The group, as in [`FaultEvent::cookie`].
        [0 In] cookie: u64,
        /// The device that asked.
        [8 In] device_id: u32,
        /// [`PASID`](Self::PASID).
        [12 In] flags: u32,
        /// With [`PASID`](Self::PASID): the PASID in the requests. Else 0.
        [16 In] pasid: u32,
        /// The group, as in [`FaultEvent::group`].
        [20 In] group: u32,
        /// The answer: a [`PageResponseCode`].
        [24 In] code: u32,
        /// 0.
        [28 Reserved] reserved: u32,
    }
}
impl Entry for PageAnswer {}

impl PageAnswer {
    /// Flag: the requests had a PASID.
    pub const PASID: u32 = 1 << 0;
    /// All flags that have a meaning in this version.
    pub const FLAGS: u32 = Self::PASID;
}

numbers! {
    /// What a device is told about its group of page requests (§7.6.1).
    pub enum PageResponseCode {
        /// The pages are there: try again. Where
        /// [`INVALIDATE_ON_MAP`](crate::Capabilities::INVALIDATE_ON_MAP) holds, they were
        /// invalidated before.
        Success = 1,
        /// At least one page cannot be had: that access fails.
        InvalidRequest = 2,
        /// The device must stop asking. `EOPNOTSUPP` for a device that shares its asking with
        /// others: a virtual function.
        Failure = 3,
    }
}
