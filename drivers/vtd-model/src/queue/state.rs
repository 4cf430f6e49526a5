//! The queue's registers and the descriptors that were fetched and have not completed.

use super::descriptor::{Command, DeviceRange};
use crate::machine::drain::Drain;
use crate::tables::{bit, bits, page};

/// How far a fetched descriptor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Not begun.
    Fetched,
    /// A device-TLB invalidation that the device has not answered; the tag names it.
    Sent { tag: u64 },
}

/// A fetched descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) command: Command,
    pub(crate) drain: Drain,
    pub(crate) stage: Stage,
}

/// An invalidation request on its way to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeviceInvalidation {
    pub(crate) tag: u64,
    pub(crate) range: DeviceRange,
    /// Ticks since it was sent.
    pub(crate) age: u64,
}

/// Registers and state of the queue.
#[derive(Default, Debug)]
pub(crate) struct Queue {
    pub(crate) enabled: bool,
    /// IQA as written.
    pub(crate) address: u64,
    /// Byte offsets.
    pub(crate) head: u64,
    pub(crate) tail: u64,
    /// FSTS.IQE, ICE, ITE and what IQERCD says of each.
    pub(crate) error: Option<u8>,
    pub(crate) completion_error: Option<u16>,
    pub(crate) timeout: Option<u16>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) sent: Vec<DeviceInvalidation>,
    pub(crate) next_tag: u64,
    /// The last completed descriptor was a wait: what "quiesced" asks for.
    pub(crate) quiet: bool,
}

impl Queue {
    pub(crate) fn base(&self) -> u64 {
        page(self.address)
    }

    /// IQA.DW.
    pub(crate) fn wide(&self) -> bool {
        bit(self.address, 11)
    }

    /// Bytes of the ring.
    pub(crate) fn bytes(&self) -> u64 {
        0x1000 << bits(self.address, 2, 0)
    }

    /// Bytes of a slot.
    pub(crate) fn slot(&self) -> u64 {
        if self.wide() { 32 } else { 16 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    pub(crate) fn idle(&self) -> bool {
        self.pending.is_empty() && self.sent.is_empty()
    }
}
