//! Trials: deeds of a guest's device that the hypervisor watches and judges by itself.
//!
//! Before a deed the guest announces it. The hypervisor then works out from the guest's
//! memory what must happen, takes note of the state of all that may and may not change, and
//! at the conclusion compares. The guest's word enters only as the choice of the deed: an
//! announcement that does not fit what the device then does is a failure.

use crate::{Label, argument};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

argument! {
    /// Begins a trial. `EBUSY` if one is under way.
    pub struct Announce: 88 bytes {
        /// What will be done: a [`Deed`].
        pub deed: u32,
        /// With [`Deed::Access`]: bit 0 for a read, bit 1 for a write. Else 0.
        pub access: u32,
        /// Which step this is.
        pub id: Label<32>,
        /// Guest-physical address of the x86-64 root table, four levels, that the
        /// device's requests go through; [`NO_TABLE`](Self::NO_TABLE) if none is bound.
        pub root: u64,
        /// [`Deed::Copy`]: what the device reads, in its own address space.
        pub source: u64,
        /// What the device writes, or accesses.
        pub destination: u64,
        /// How many bytes.
        pub bytes: u64,
        /// Bus, device and function of the device, as the guest sees them.
        pub device: u32,
        /// 0.
        pub reserved: u32,
    }
}

impl Announce {
    /// No table is bound: every request must be refused.
    pub const NO_TABLE: u64 = u64::MAX;
}

argument! {
    /// Ends the trial that is under way, `ENOENT` if there is none. The hypervisor reports
    /// what it saw; the guest is told nothing of that, only whether the trial could be
    /// [judged](Conclude::JUDGED) or must be [repeated](Conclude::REPEAT).
    pub struct Conclude: 8 bytes {
    }
}

impl Conclude {
    /// The result if the trial could be judged.
    pub const JUDGED: i64 = 0;
    /// The result if the fault that the trial had to give may have been lost, because other
    /// devices' faults came at the same time.
    pub const REPEAT: i64 = 1;
}

/// What a device will do in a trial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u32)]
pub enum Deed {
    /// Nothing: only hypercalls are made.
    Nothing = 0,
    /// Copy bytes from one place to another.
    Copy = 1,
    /// Access bytes in one place.
    Access = 2,
    /// Raise its interrupt.
    Interrupt = 3,
}

impl Deed {
    /// What a number means, or `None`.
    pub fn from_u32(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Nothing),
            1 => Some(Self::Copy),
            2 => Some(Self::Access),
            3 => Some(Self::Interrupt),
            _ => None,
        }
    }
}

argument! {
    /// What hostile attempts can be aimed at, so that a hit would be seen: addresses
    /// around which the hypervisor keeps watch. Returns how many entries were written.
    /// `ENOTTY` where guests are not there to try things.
    pub struct Targets: 24 bytes {
        /// Guest-physical address of an array of [`TargetEntry`].
        pub buffer: u64,
        /// Elements in the array.
        pub capacity: u32,
        /// 0.
        pub reserved: u32,
    }
}

/// One target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TargetEntry {
    /// A host-physical address, or an interrupt message's address.
    pub address: u64,
    /// Interrupt messages: the data.
    pub data: u32,
    /// A [`TargetKind`].
    pub kind: u32,
}

/// What lies at a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u32)]
pub enum TargetKind {
    /// A page of the hypervisor's that holds a known pattern.
    Canary = 1,
    /// The hypervisor's image.
    Hypervisor = 2,
    /// Registers of a remapping unit.
    UnitRegisters = 3,
    /// An interrupt message that belongs to somebody else.
    ForeignInterrupt = 4,
    /// The interrupt message of the guest's own device.
    OwnInterrupt = 5,
}

impl TargetKind {
    /// What a number means, or `None`.
    pub fn from_u32(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Canary),
            2 => Some(Self::Hypervisor),
            3 => Some(Self::UnitRegisters),
            4 => Some(Self::ForeignInterrupt),
            5 => Some(Self::OwnInterrupt),
            _ => None,
        }
    }
}
