//! `struct iommu_fault` and `struct iommu_page_response`.

use crate::Entry;
use crate::layout::{argument, layout};
use crate::number::numbers;

layout! {
    /// Argument of [`Op::LinuxFaultRead`](crate::Op::LinuxFaultRead): takes events off the
    /// guest's queue, the oldest first, as far as they are of one device. The call returns
    /// how many. The structures of `linux/iommu.h` do not name their device.
    pub struct LinuxFaultRead: 40 bytes, 40 in version 3 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// Guest-physical address of an array of `struct iommu_fault`, 64 bytes each: a
        /// [`LinuxFaultUnrecoverable`] or a [`LinuxFaultPageRequest`].
        [8 In] buffer: u64,
        /// Elements in the array; 0 is allowed and takes nothing.
        [16 In] capacity: u32,
        /// The device of all that were written; 0 if there are none.
        [20 Out] device_id: u32,
        /// Events that were written to the array.
        [24 Out] count: u32,
        /// Events that were lost since the last call because the queue was full.
        [28 Out] lost: u32,
        /// Events that wait still, of whatever device.
        [32 Out] remaining: u32,
        /// 0.
        [36 Reserved] reserved: u32,
    }
}
argument!(LinuxFaultRead, LinuxFaultRead, flags: 0);

numbers! {
    /// `enum iommu_fault_type` of v5.10.
    pub enum LinuxFaultType {
        /// A request was refused.
        DmaUnrecov = 1,
        /// A device asks for a page.
        PageReq = 2,
    }
}

numbers! {
    /// `enum iommu_fault_reason` of v5.10.
    pub enum LinuxFaultReason {
        /// None of the others, or not known.
        Unknown = 0,
        /// The PASID table could not be read.
        PasidFetch = 1,
        /// The entry of the PASID table is wrong.
        BadPasidEntry = 2,
        /// Nothing is bound to the PASID.
        PasidInvalid = 3,
        /// A table could not be read.
        WalkEabt = 4,
        /// An entry is not present, or has reserved bits set; an address that is not
        /// canonical.
        PteFetch = 5,
        /// The entries do not allow the access.
        Permission = 6,
        /// An accessed flag forbids the access. Never given.
        Access = 7,
        /// An entry leads to what is not the guest's memory.
        OorAddress = 8,
    }
}

layout! {
    /// `struct iommu_fault` of v5.10 with [`LinuxFaultType::DmaUnrecov`].
    pub struct LinuxFaultUnrecoverable: 64 bytes, 64 in version 3 {
        /// [`LinuxFaultType::DmaUnrecov`].
        [0 Out] kind: u32,
        /// 0.
        [4 Out] padding: u32,
        /// A [`LinuxFaultReason`].
        [8 Out] reason: u32,
        /// [`PASID_VALID`](Self::PASID_VALID), [`ADDR_VALID`](Self::ADDR_VALID),
        /// [`FETCH_ADDR_VALID`](Self::FETCH_ADDR_VALID).
        [12 Out] flags: u32,
        /// With [`PASID_VALID`](Self::PASID_VALID): the PASID, of the guest's numbering.
        [16 Out] pasid: u32,
        /// 1 a read, 2 a write, 8 with supervisor rights.
        [20 Out] perm: u32,
        /// With [`ADDR_VALID`](Self::ADDR_VALID): the address, page-aligned.
        [24 Out] addr: u64,
        /// With [`FETCH_ADDR_VALID`](Self::FETCH_ADDR_VALID): guest-physical address of
        /// the entry that ended the walk.
        [32 Out] fetch_addr: u64,
        /// 0.
        [40 Out] unused: [u8; 24],
    }
}
impl Entry for LinuxFaultUnrecoverable {}

impl LinuxFaultUnrecoverable {
    /// Flag: `pasid` is valid.
    pub const PASID_VALID: u32 = 1 << 0;
    /// Flag: `addr` is valid.
    pub const ADDR_VALID: u32 = 1 << 1;
    /// Flag: `fetch_addr` is valid.
    pub const FETCH_ADDR_VALID: u32 = 1 << 2;
}

layout! {
    /// `struct iommu_fault` of v5.10 with [`LinuxFaultType::PageReq`].
    pub struct LinuxFaultPageRequest: 64 bytes, 64 in version 3 {
        /// [`LinuxFaultType::PageReq`].
        [0 Out] kind: u32,
        /// 0.
        [4 Out] padding: u32,
        /// [`PASID_VALID`](Self::PASID_VALID), [`LAST_PAGE`](Self::LAST_PAGE),
        /// [`RESPONSE_NEEDS_PASID`](Self::RESPONSE_NEEDS_PASID).
        [8 Out] flags: u32,
        /// With [`PASID_VALID`](Self::PASID_VALID): the PASID, of the guest's numbering.
        [12 Out] pasid: u32,
        /// The group, by the device's numbering.
        [16 Out] grpid: u32,
        /// 1 a read, 2 a write, 8 with supervisor rights.
        [20 Out] perm: u32,
        /// The address, page-aligned.
        [24 Out] addr: u64,
        /// 0: what a device passes for itself stays with the hypervisor.
        [32 Out] private_data: [u64; 2],
        /// 0.
        [48 Out] unused: [u8; 16],
    }
}
impl Entry for LinuxFaultPageRequest {}

impl LinuxFaultPageRequest {
    /// Flag: `pasid` is valid.
    pub const PASID_VALID: u32 = 1 << 0;
    /// Flag: the last request of its group, which is answered as a whole.
    pub const LAST_PAGE: u32 = 1 << 1;
    /// Flag: `private_data` is valid. Never given.
    pub const PRIV_DATA: u32 = 1 << 2;
    /// Flag: the response must name the PASID.
    pub const RESPONSE_NEEDS_PASID: u32 = 1 << 3;
}

layout! {
    /// Argument of [`Op::LinuxPageResponse`](crate::Op::LinuxPageResponse): answers a group
    /// of page requests. `ENOENT` if no group that waits is meant.
    pub struct LinuxPageResponse: 24 bytes, 24 in version 3 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The device that asked.
        [8 In] device_id: u32,
        /// 0.
        [12 Reserved] reserved: u32,
        /// Guest-physical address of a [`LinuxPageResponseData`].
        [16 In] structure: u64,
    }
}
argument!(LinuxPageResponse, LinuxPageResponse, flags: 0);

layout! {
    /// `struct iommu_page_response` of v5.10.
    pub struct LinuxPageResponseData: 24 bytes, 24 in version 3 {
        /// Size of the structure, as the caller knows it.
        [0 In] argsz: u32,
        /// 1.
        [4 In] version: u32,
        /// [`PASID_VALID`](Self::PASID_VALID).
        [8 In] flags: u32,
        /// With [`PASID_VALID`](Self::PASID_VALID): the PASID in the requests, of the
        /// guest's numbering. Else not looked at.
        [12 In] pasid: u32,
        /// The group, as the request had it.
        [16 In] grpid: u32,
        /// A [`LinuxPageResponseCode`].
        [20 In] code: u32,
    }
}
impl Entry for LinuxPageResponseData {}

impl LinuxPageResponseData {
    /// Flag: `pasid` is valid.
    pub const PASID_VALID: u32 = 1 << 0;
}

numbers! {
    /// `enum iommu_page_response_code` of v5.10. Not what hardware is told: see
    /// [`PageResponseCode`](crate::PageResponseCode).
    pub enum LinuxPageResponseCode {
        /// The pages are there: try again.
        Success = 0,
        /// At least one page cannot be had: that access fails.
        Invalid = 1,
        /// The device must stop asking.
        Failure = 2,
    }
}
