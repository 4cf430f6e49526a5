//! The words that everybody in this project shares, and the seams between its parts.
//!
//! Words: addresses that cannot be mixed up ([`Hpa`], [`Gpa`], [`Iova`], [`Gva`]),
//! identities ([`Pasid`], [`SourceId`], [`DeviceId`]), sizes ([`Order`]), rights
//! ([`Access`]), table formats ([`TableFormat`]) and faults ([`FaultRecord`]).
//!
//! Seams: [`Platform`] is what a driver needs of the machine it runs on, [`Mmio`] is how
//! it reaches registers, [`Backend`] is what policy needs of a remapping driver,
//! [`GuestMemory`] is how a guest's memory is read, [`IrqRemapper`] is where interrupt
//! messages come from, and [`VmHost`] is what policy asks of the hypervisor.
//!
//! This crate knows neither registers nor policy, and allocates nothing.

#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(test)]
extern crate std;

#[cfg(feature = "alloc")]
extern crate alloc;

mod access;
mod address;
#[cfg(feature = "alloc")]
mod backend;
#[cfg(feature = "alloc")]
mod dirty;
mod error;
mod fault;
mod format;
mod frame;
mod guest;
#[cfg(feature = "alloc")]
mod host;
mod id;
mod irq;
mod order;
#[cfg(feature = "alloc")]
mod owed;
mod pasid;
mod platform;
mod range;
pub mod sync;

pub use access::Access;
pub use address::{Address, Gpa, Gva, Hpa, Iova, PAGE_SHIFT, PAGE_SIZE};
#[cfg(feature = "alloc")]
pub use backend::{
    AtsCapability, Attachment, Backend, BackendError, DeviceCapabilities, DomainHandle, DomainSpec,
    MapError, MemoryType, NestedSpec, PageAttributes, PageRequest, PageResponse, Replaced,
    ResponseCode, Run, Scope, Slot, WalkStep,
};
#[cfg(feature = "alloc")]
pub use dirty::{DirtyBitmap, DirtyError, DirtyRead, DirtyTracking, LargePages};
pub use fault::{FaultKind, FaultReason, FaultRecord};
pub use format::{LeafSizes, Stage, TableFormat};
pub use frame::{Frame, FrameList};
pub use guest::{Backing, GuestMemory, GuestMemoryError, ResetError, ServiceError, VmEvent, VmId};
#[cfg(feature = "alloc")]
pub use host::VmHost;
pub use id::{DeviceId, Pasid, Segment, SourceId};
pub use irq::{IrqError, IrqHandle, IrqMessage, IrqRemapper, IrqTarget};
pub use order::Order;
#[cfg(feature = "alloc")]
pub use owed::{Batch, BatchFull, FlushError, Flushed, Owed, Quarantine};
pub use pasid::PasidAllocator;
pub use platform::{Clock, Coherence, Mmio, Nanoseconds, Observer, OutOfFrames, Platform};
pub use range::{AddressRange, RangeError};
