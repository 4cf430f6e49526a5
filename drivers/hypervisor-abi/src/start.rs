//! What a guest finds when it starts.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What [`Start::magic`] holds.
pub const START_MAGIC: u64 = u64::from_le_bytes(*b"VT-guest");

/// What a guest is told when it starts. Its address is in `rdi`; addresses are
/// guest-physical.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Start {
    /// [`START_MAGIC`].
    pub magic: u64,
    /// Where the guest's memory begins.
    pub memory_base: u64,
    /// How many bytes it has.
    pub memory_bytes: u64,
    /// The first page that holds neither the program nor what it was started with, as an
    /// address. All pages from there to the end are free.
    pub free_from: u64,
    /// All random choices of the guest follow from this.
    pub seed: u64,
    /// Ticks of the time-stamp counter in a millisecond.
    pub tsc_per_ms: u64,
    /// What the program shall do, for programs that can do several things.
    pub parameter: u64,
}

impl Start {
    /// The first byte behind the guest's memory.
    pub const fn memory_end(&self) -> u64 {
        self.memory_base.saturating_add(self.memory_bytes)
    }
}

const _: () = assert!(size_of::<Start>() == 56);
