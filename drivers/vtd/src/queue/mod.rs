//! The invalidation queue (§6.5.2): descriptors, the ring that they are written to, and
//! the wait for hardware to have done them.
//!
//! # How the ring is used
//! - A *round* is a run of descriptors that ends in a wait descriptor: one doorbell, one
//!   wait. Its slots are free again when its wait completed, not when the head has passed
//!   them: until then everything that hardware may have to be told again is still there.
//! - Every wait writes the next number of a sequence to one status word in memory that
//!   lives as long as the unit, with the fence flag set, so that waits complete in order.
//!   Whoever sees the word at or past its number is done; a write that comes late can only
//!   tell less than what is already known, never something wrong.
//! - The lock on the ring is held while descriptors are written and while an error is
//!   handled, never while waiting.
//!
//! # Size
//! 8192 slots, so that 4,096 ranges of one page, each for an IOTLB and a Device-TLB, fit
//! one round with some room: QS = 5 (128 KiB) with 128-bit slots, QS = 6 (256 KiB) with
//! 256-bit ones.

mod blocks;
mod descriptor;
pub(crate) mod event;
#[cfg(all(test, loom))]
#[allow(unsafe_code, reason = "the test's memory")]
mod interleavings;
mod layout;
mod recovery;
mod ring;
mod wait;

pub use blocks::{Block, Blocks, IndexBlock, block_limit, index_blocks};
pub use descriptor::{ContextScope, Descriptor, DeviceTlbTarget, IotlbScope, PasidScope};
pub use layout::{
    ContextCacheLow, DeviceTlbHigh, DeviceTlbLow, HostPermissionLow, InterruptCacheLow, IotlbHigh,
    IotlbLow, PageGroupResponseHigh, PageGroupResponseLow, PasidCacheLow, PasidDeviceTlbHigh,
    PasidDeviceTlbLow, WaitHigh, WaitLow,
};
pub(crate) use ring::{Queue, Ticket};
pub(crate) use wait::QueueError;

/// Slots of the queue; all but one can be in use.
///
/// `loom` gets a ring that a few rounds fill.
pub const SLOTS: u32 = if cfg!(loom) { 8 } else { 8192 };
