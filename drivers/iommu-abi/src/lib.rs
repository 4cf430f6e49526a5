//! The wire format of the IOMMU hypercalls, shared by hypervisor and guests.
//!
//! A guest calls with `VMMCALL` (AMD) or `VMCALL` (Intel):
//!
//! | register | content |
//! |---|---|
//! | `rax` | the operation, an [`Op`] |
//! | `rdi` | guest-physical address of the argument, a structure of this crate |
//! | `rax` on return | 0 or a count on success, a negated [`Errno`] on failure |
//!
//! All other registers are preserved. Every argument begins with `argsz`, its size in bytes
//! as the caller knows it, and `flags`. The rules that hold for all of them:
//!
//! * `argsz` below the size of version 1 is `EINVAL`. An argument larger than the
//!   hypervisor knows is accepted if what it does not know is zero, and is `E2BIG` if not.
//!   A shorter one than the hypervisor knows counts as filled up with zeroes.
//! * Unknown flags and reserved fields that are not zero are `EOPNOTSUPP`.
//! * Fields that only carry results are not looked at.
//! * On error nothing has happened, except where an array was done in part: then the
//!   argument says how many entries were.
//! * Structures grow at the end. Offsets never change and fields are never reused.
//!   [`VERSION`] counts the growth; what may be *used* is told by [`Capabilities`].
//!
//! Guests name objects by handles of their own; a handle of another guest does not exist.
//! No host address, host PASID, domain id or unit is ever visible here.
//!
//! This crate has no logic beyond sizes and versions.

#![no_std]
#![forbid(unsafe_code)]
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

// The structures are read and written as they lie in memory.
const _: () = assert!(cfg!(target_endian = "little"));

mod bind;
mod capability;
mod device;
mod errno;
mod fault;
mod invalidate;
mod ioas;
mod layout;
mod linux;
mod number;
mod op;
mod pasid;
mod pasid_table;
mod probe;
mod queue;
mod ring;

pub use bind::{Bind, Destroy, Unbind};
pub use capability::Capabilities;
pub use device::{DeviceEntry, DeviceInfo, DeviceList};
pub use errno::Errno;
pub use fault::{
    FaultEvent, FaultEventKind, FaultRead, PageAnswer, PageResponse, PageResponseCode,
};
pub use invalidate::{Granularity, Invalidate, InvalidateModel, InvalidateRange};
pub use ioas::{Format, IoasAllocate, IoasMap, IoasRanges, IoasUnmap, IovaRange};
pub use layout::{Argument, Direction, Entry, Field, Layout};
pub use linux::{
    LINUX_VERSION_1, LinuxBindGpasid, LinuxCacheInvalidate, LinuxCacheInvalidateInfo,
    LinuxFaultPageRequest, LinuxFaultRead, LinuxFaultReason, LinuxFaultType,
    LinuxFaultUnrecoverable, LinuxGpasidBindData, LinuxGpasidBindDataVtd, LinuxGranularity,
    LinuxInvAddrInfo, LinuxInvPasidInfo, LinuxPageResponse, LinuxPageResponseCode,
    LinuxPageResponseData, LinuxUnbindGpasid,
};
pub use op::Op;
pub use pasid::{PasidAllocate, PasidFree};
pub use pasid_table::{PasidTableBind, PasidTableInvalidate, PasidTableUnbind};
pub use probe::{Info, Probe, Structure, Subject, Use, size_of_argument, size_of_structure};
pub use queue::{QueueAllocate, QueueBind, QueueKind, QueueUnbind};
pub use ring::{RingCompletion, RingCreate, RingEnter, RingIndices, RingSubmission};
/// What turns structures into bytes and back.
pub use zerocopy::{FromBytes, IntoBytes};

/// The version of all structure layouts together. It tells sizes apart and nothing else.
pub const VERSION: u32 = 3;

/// No argument and no array entry is larger, in any version.
pub const ARGUMENT_MAX: usize = 4096;

/// The handle that names nothing.
pub const NO_ID: u32 = 0;
