//! What exists in this interface, and how large it is.

use crate::layout::{argument, layout};
use crate::number::numbers;
use crate::*;

layout! {
    /// Argument of [`Op::Probe`]: whether something exists. Has no effect, and succeeds for
    /// anything that can be asked for: `supported` holds the answer.
    pub struct Probe: 48 bytes, 48 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// What kind of thing is asked about, a [`Subject`].
        [8 In] subject: u32,
        /// For operations and structures: the version whose size is wanted; 0 for the
        /// newest. Else 0.
        [12 In] version: u32,
        /// Which one: the number of an [`Op`], a [`Structure`], a [`Format`], a
        /// [`Granularity`], an [`InvalidateModel`] or a [`Use`].
        [16 In] number: u64,
        /// For formats and uses: with which device. For the others 0.
        [24 In] device_id: u32,
        /// 1 if it exists and can be used, else 0.
        [28 Out] supported: u32,
        /// For operations and structures: size in bytes in that version, 0 if there is
        /// none.
        [32 Out] size: u32,
        /// For operations: all flags that have a meaning.
        [36 Out] known_flags: u32,
        /// For uses: the [`Capabilities`] that the device lacks for it.
        [40 Out] missing: u64,
    }
}
argument!(Probe, Probe, flags: 0);

numbers! {
    /// What can be asked about.
    pub enum Subject {
        /// An [`Op`], and the size of its argument.
        Operation = 1,
        /// A [`Structure`], and its size.
        Structure = 2,
        /// A [`Format`](crate::Format) of page tables.
        Format = 3,
        /// A [`Granularity`](crate::Granularity) of invalidation.
        Granularity = 4,
        /// An [`InvalidateModel`](crate::InvalidateModel).
        Model = 5,
        /// A [`Use`] that several capabilities together make possible.
        Use = 6,
    }
}

numbers! {
    /// Structures that are not arguments: the elements of arrays.
    pub enum Structure {
        /// [`DeviceEntry`].
        DeviceEntry = 1,
        /// [`IovaRange`].
        IovaRange = 2,
        /// [`InvalidateRange`].
        InvalidateRange = 3,
        /// [`FaultEvent`].
        FaultEvent = 4,
        /// [`PageAnswer`]. Since version 2.
        PageAnswer = 5,
        /// [`LinuxGpasidBindData`]. Since version 3.
        LinuxGpasidBindData = 16,
        /// [`LinuxGpasidBindDataVtd`]. Since version 3.
        LinuxGpasidBindDataVtd = 17,
        /// [`LinuxCacheInvalidateInfo`]. Since version 3.
        LinuxCacheInvalidateInfo = 18,
        /// [`LinuxInvPasidInfo`]. Since version 3.
        LinuxInvPasidInfo = 19,
        /// [`LinuxInvAddrInfo`]. Since version 3.
        LinuxInvAddrInfo = 20,
        /// [`LinuxFaultUnrecoverable`]. Since version 3.
        LinuxFaultUnrecoverable = 21,
        /// [`LinuxFaultPageRequest`]. Since version 3.
        LinuxFaultPageRequest = 22,
        /// [`LinuxPageResponseData`]. Since version 3.
        LinuxPageResponseData = 23,
        /// [`RingIndices`]. Since version 3.
        RingIndices = 48,
        /// [`RingSubmission`]. Since version 3.
        RingSubmission = 49,
        /// [`RingCompletion`]. Since version 3.
        RingCompletion = 50,
    }
}

numbers! {
    /// What a guest wants to do with a device, as a whole.
    pub enum Use {
        /// Map guest memory by calls.
        ManagedDma = 1,
        /// Bind a page table of the guest's own to the device.
        UserTable = 2,
        /// Bind a page table of the guest's own to a PASID of the device.
        UserTableByPasid = 3,
        /// Share a process' address space with the device: tables by PASID, and page
        /// requests that the guest answers.
        SharedVirtualAddressing = 4,
        /// Keep the PASID table of the device. Since version 3.
        PasidTable = 5,
        /// Use the guest's memory by the tables that its CPUs use. Since version 3.
        SharedTables = 6,
        /// Bind a page table of the guest's own that stands on an address space which the
        /// hypervisor keeps. Since version 3.
        TableAboveManaged = 7,
    }
}

impl Use {
    /// The capabilities that the use needs, all of them.
    pub fn needs(self) -> Capabilities {
        match self {
            Self::ManagedDma => Capabilities::MANAGED.union(Capabilities::WITHOUT_PASID),
            Self::UserTable => Capabilities::USER_TABLE.union(Capabilities::WITHOUT_PASID),
            Self::UserTableByPasid | Self::PasidTable => {
                Capabilities::USER_TABLE.union(Capabilities::PASID)
            }
            Self::SharedTables => Capabilities::SHARED.union(Capabilities::WITHOUT_PASID),
            Self::TableAboveManaged => Capabilities::USER_TABLE
                .union(Capabilities::MANAGED)
                .union(Capabilities::PARENT)
                .union(Capabilities::WITHOUT_PASID),
            Self::SharedVirtualAddressing => Capabilities::USER_TABLE
                .union(Capabilities::PASID)
                .union(Capabilities::PAGE_REQUESTS),
        }
    }
}

layout! {
    /// Argument of [`Op::Info`]: the interface as a whole.
    pub struct Info: 48 bytes, 48 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The hypervisor's [`VERSION`].
        [8 Out] version: u32,
        /// Entries of an invalidation array that one call looks at, at most; of a longer
        /// one the call does so many and says so.
        [12 Out] invalidate_entries: u32,
        /// Events that the fault queue holds.
        [16 Out] fault_events: u32,
        /// Objects that the guest may have at a time, devices included.
        [20 Out] objects: u32,
        /// Pages of shadow tables that the guest may use; 0 if none are needed.
        [24 Out] shadow_pages: u32,
        /// PASIDs that the guest may have at a time.
        [28 Out] pasids: u32,
        /// The largest PASID of the guest's numbering.
        [32 Out] pasid_max: u32,
        /// Shadow pages that are in use now.
        [36 Out] shadow_pages_used: u32,
        /// Entries of the guest's tables that one call looks at: once it has looked at
        /// more, it stops between two ranges and says how many it did.
        [40 Out] shadow_entries: u64,
    }
}
argument!(Info, Info, flags: 0);

/// Size of an operation's argument in a version (0: the newest), or `None` if there was no
/// such version, or no such operation in it.
pub const fn size_of_argument(op: Op, version: u32) -> Option<usize> {
    // Old callers are served by these sizes for ever.
    match version {
        1 => Some(match op {
            Op::Probe => Probe::MIN_SIZE,
            Op::Info => Info::MIN_SIZE,
            Op::DeviceList => DeviceList::MIN_SIZE,
            Op::DeviceInfo => DeviceInfo::MIN_SIZE,
            Op::Destroy => Destroy::MIN_SIZE,
            Op::IoasAllocate => IoasAllocate::MIN_SIZE,
            Op::IoasRanges => IoasRanges::MIN_SIZE,
            Op::IoasMap => IoasMap::MIN_SIZE,
            Op::IoasUnmap => IoasUnmap::MIN_SIZE,
            Op::Bind => Bind::MIN_SIZE,
            Op::Unbind => Unbind::MIN_SIZE,
            Op::Invalidate => Invalidate::MIN_SIZE,
            Op::FaultRead => FaultRead::MIN_SIZE,
            Op::PasidAllocate => PasidAllocate::MIN_SIZE,
            Op::PasidFree => PasidFree::MIN_SIZE,
            Op::PageResponse
            | Op::LinuxBindGpasid
            | Op::LinuxUnbindGpasid
            | Op::LinuxCacheInvalidate
            | Op::LinuxFaultRead
            | Op::LinuxPageResponse
            | Op::PasidTableBind
            | Op::PasidTableUnbind
            | Op::PasidTableInvalidate
            | Op::RingCreate
            | Op::RingEnter
            | Op::QueueAllocate
            | Op::QueueBind
            | Op::QueueUnbind => return None,
        }),
        // No argument has grown in version 2, nor in version 3.
        2 => match op {
            Op::PageResponse => Some(PageResponse::MIN_SIZE),
            older => size_of_argument(older, 1),
        },
        0 | 3 => match op {
            Op::LinuxBindGpasid => Some(LinuxBindGpasid::MIN_SIZE),
            Op::LinuxUnbindGpasid => Some(LinuxUnbindGpasid::MIN_SIZE),
            Op::LinuxCacheInvalidate => Some(LinuxCacheInvalidate::MIN_SIZE),
            Op::LinuxFaultRead => Some(LinuxFaultRead::MIN_SIZE),
            Op::LinuxPageResponse => Some(LinuxPageResponse::MIN_SIZE),
            Op::PasidTableBind => Some(PasidTableBind::MIN_SIZE),
            Op::PasidTableUnbind => Some(PasidTableUnbind::MIN_SIZE),
            Op::PasidTableInvalidate => Some(PasidTableInvalidate::MIN_SIZE),
            Op::RingCreate => Some(RingCreate::MIN_SIZE),
            Op::RingEnter => Some(RingEnter::MIN_SIZE),
            Op::QueueAllocate => Some(QueueAllocate::MIN_SIZE),
            Op::QueueBind => Some(QueueBind::MIN_SIZE),
            Op::QueueUnbind => Some(QueueUnbind::MIN_SIZE),
            older => size_of_argument(older, 2),
        },
        _ => None,
    }
}

/// Size of an array element in a version (0: the newest), or `None` if there was no such
/// version.
pub const fn size_of_structure(structure: Structure, version: u32) -> Option<usize> {
    match version {
        1 => Some(match structure {
            Structure::DeviceEntry => DeviceEntry::MIN_SIZE,
            Structure::IovaRange => IovaRange::MIN_SIZE,
            Structure::InvalidateRange => InvalidateRange::MIN_SIZE,
            Structure::FaultEvent => FaultEvent::MIN_SIZE,
            Structure::PageAnswer
            | Structure::LinuxGpasidBindData
            | Structure::LinuxGpasidBindDataVtd
            | Structure::LinuxCacheInvalidateInfo
            | Structure::LinuxInvPasidInfo
            | Structure::LinuxInvAddrInfo
            | Structure::LinuxFaultUnrecoverable
            | Structure::LinuxFaultPageRequest
            | Structure::LinuxPageResponseData
            | Structure::RingIndices
            | Structure::RingSubmission
            | Structure::RingCompletion => return None,
        }),
        2 => match structure {
            Structure::FaultEvent => Some(FaultEvent::SIZE),
            Structure::PageAnswer => Some(PageAnswer::MIN_SIZE),
            older => size_of_structure(older, 1),
        },
        0 | 3 => match structure {
            Structure::LinuxGpasidBindData => Some(LinuxGpasidBindData::MIN_SIZE),
            Structure::LinuxGpasidBindDataVtd => Some(LinuxGpasidBindDataVtd::MIN_SIZE),
            Structure::LinuxCacheInvalidateInfo => Some(LinuxCacheInvalidateInfo::MIN_SIZE),
            Structure::LinuxInvPasidInfo => Some(LinuxInvPasidInfo::MIN_SIZE),
            Structure::LinuxInvAddrInfo => Some(LinuxInvAddrInfo::MIN_SIZE),
            Structure::LinuxFaultUnrecoverable => Some(LinuxFaultUnrecoverable::MIN_SIZE),
            Structure::LinuxFaultPageRequest => Some(LinuxFaultPageRequest::MIN_SIZE),
            Structure::LinuxPageResponseData => Some(LinuxPageResponseData::MIN_SIZE),
            Structure::RingIndices => Some(RingIndices::MIN_SIZE),
            Structure::RingSubmission => Some(RingSubmission::MIN_SIZE),
            Structure::RingCompletion => Some(RingCompletion::MIN_SIZE),
            older => size_of_structure(older, 2),
        },
        _ => None,
    }
}
