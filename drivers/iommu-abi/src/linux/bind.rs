//! `struct iommu_gpasid_bind_data`.

use crate::Entry;
use crate::layout::{argument, layout};

layout! {
    /// Argument of [`Op::LinuxBindGpasid`](crate::Op::LinuxBindGpasid): makes one PASID of a
    /// device use a page table of the guest's, as [`Op::IoasAllocate`](crate::Op) and
    /// [`Op::Bind`](crate::Op::Bind) do together. `EBUSY` if the PASID is bound.
    pub struct LinuxBindGpasid: 24 bytes, 24 in version 3 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The device.
        [8 In] device_id: u32,
        /// The address space that was made. It goes when the PASID is unbound.
        [12 Out] ioas_id: u32,
        /// Guest-physical address of a [`LinuxGpasidBindData`].
        [16 In] structure: u64,
    }
}
argument!(LinuxBindGpasid, LinuxBindGpasid, flags: 0);

layout! {
    /// Argument of [`Op::LinuxUnbindGpasid`](crate::Op::LinuxUnbindGpasid): takes back what
    /// [`Op::LinuxBindGpasid`](crate::Op::LinuxBindGpasid) made. Of the structure only
    /// `hpasid` counts. `ENOENT` if nothing was bound so.
    pub struct LinuxUnbindGpasid: 24 bytes, 24 in version 3 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The device.
        [8 In] device_id: u32,
        /// 0.
        [12 Reserved] reserved: u32,
        /// Guest-physical address of a [`LinuxGpasidBindData`].
        [16 In] structure: u64,
    }
}
argument!(LinuxUnbindGpasid, LinuxUnbindGpasid, flags: 0);

layout! {
    /// `struct iommu_gpasid_bind_data` of v5.10, up to its union.
    pub struct LinuxGpasidBindData: 56 bytes, 56 in version 3 {
        /// Size of the structure, union included, as the caller knows it.
        [0 In] argsz: u32,
        /// 1.
        [4 In] version: u32,
        /// [`FORMAT_INTEL_VTD`](Self::FORMAT_INTEL_VTD).
        [8 In] format: u32,
        /// Bits of guest-virtual address: 48 or 57.
        [12 In] addr_width: u32,
        /// [`GPASID_VALID`](Self::GPASID_VALID).
        [16 In] flags: u64,
        /// Guest-physical address of the root table, page-aligned.
        [24 In] gpgd: u64,
        /// The PASID: of the guest's numbering, and taken by it before.
        [32 In] hpasid: u64,
        /// With [`GPASID_VALID`](Self::GPASID_VALID): the same number again. Else not
        /// looked at.
        [40 In] gpasid: u64,
        /// 0.
        [48 In] padding: [u8; 8],
    }
}
impl Entry for LinuxGpasidBindData {}

impl LinuxGpasidBindData {
    /// Format: a first-stage table of VT-d; a [`LinuxGpasidBindDataVtd`] follows.
    pub const FORMAT_INTEL_VTD: u32 = 1;
    /// Flag: `gpasid` is valid.
    pub const GPASID_VALID: u64 = 1 << 0;
}

layout! {
    /// `struct iommu_gpasid_bind_data_vtd` of v5.10: the union of
    /// [`LinuxGpasidBindData`], which it follows.
    pub struct LinuxGpasidBindDataVtd: 16 bytes, 16 in version 3 {
        /// [`SRE`](Self::SRE), and others that no device here has.
        [0 In] flags: u64,
        /// Page attribute table; counts with flags that no device here has.
        [8 In] pat: u32,
        /// Extended memory type; likewise.
        [12 In] emt: u32,
    }
}
impl Entry for LinuxGpasidBindDataVtd {}

impl LinuxGpasidBindDataVtd {
    /// Flag: supervisor requests are allowed.
    pub const SRE: u64 = 1 << 0;
    /// Flag: extended accessed flags.
    pub const EAFE: u64 = 1 << 1;
    /// Flag: page-level cache disable.
    pub const PCD: u64 = 1 << 2;
    /// Flag: page-level write-through.
    pub const PWT: u64 = 1 << 3;
    /// Flag: extended memory type.
    pub const EMTE: u64 = 1 << 4;
    /// Flag: PASID-level cache disable.
    pub const CD: u64 = 1 << 5;
}
