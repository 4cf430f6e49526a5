//! Making hardware forget.

use crate::Entry;
use crate::layout::{argument, layout};
use crate::number::numbers;

layout! {
    /// Argument of [`Op::Invalidate`](crate::Op::Invalidate): the guest has changed a page
    /// table of its own.
    ///
    /// Entries are done in order. `completed` is always written: with success, how many
    /// entries were done, which may be fewer than there are (call again with the rest); with
    /// an error, the index of the entry that is wrong, those before it done and those after
    /// it not. The call returns `completed` too. On return hardware has forgotten all that
    /// was done.
    pub struct Invalidate: 40 bytes, 40 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The address space.
        [8 In] ioas_id: u32,
        /// How much: a [`Granularity`].
        [12 In] granularity: u32,
        /// [`Granularity::Ranges`]: guest-physical address of the array. Else 0.
        [16 In] entries: u64,
        /// Size of an element, as the caller knows it. Else 0.
        [24 In] entry_size: u32,
        /// Elements in the array; 0 is allowed and does nothing. Else 0.
        [28 In] entry_count: u32,
        /// What the elements are: an [`InvalidateModel`]. Else 0.
        [32 In] model: u32,
        /// Entries done.
        [36 Out] completed: u32,
    }
}
argument!(Invalidate, Invalidate, flags: 0);

numbers! {
    /// How much an invalidation is about.
    pub enum Granularity {
        /// All of the address space.
        Everything = 1,
        /// Ranges of addresses, in an array.
        Ranges = 2,
    }
}

numbers! {
    /// What the elements of an invalidation array are.
    pub enum InvalidateModel {
        /// [`InvalidateRange`].
        Range = 1,
    }
}

layout! {
    /// A range of addresses whose translation changed.
    pub struct InvalidateRange: 24 bytes, 24 in version 1 {
        /// Start, page-aligned and canonical.
        [0 In] address: u64,
        /// Pages of 4 KiB, at least 1.
        [8 In] pages: u64,
        /// [`LEAF`](Self::LEAF).
        [16 In] flags: u32,
        /// 0.
        [20 Reserved] reserved: u32,
    }
}
impl Entry for InvalidateRange {}

impl InvalidateRange {
    /// A hint: only leaf entries were changed.
    pub const LEAF: u32 = 1 << 0;
    /// All flags that have a meaning in this version.
    pub const FLAGS: u32 = Self::LEAF;
}
