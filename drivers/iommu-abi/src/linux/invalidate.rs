//! `struct iommu_cache_invalidate_info`.

use crate::Entry;
use crate::layout::{argument, layout};
use crate::number::numbers;

layout! {
    /// Argument of [`Op::LinuxCacheInvalidate`](crate::Op::LinuxCacheInvalidate): the guest
    /// changed page tables, or a PASID table, that the device uses.
    pub struct LinuxCacheInvalidate: 24 bytes, 24 in version 3 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The device.
        [8 In] device_id: u32,
        /// 0.
        [12 Reserved] reserved: u32,
        /// Guest-physical address of a [`LinuxCacheInvalidateInfo`].
        [16 In] structure: u64,
    }
}
argument!(LinuxCacheInvalidate, LinuxCacheInvalidate, flags: 0);

layout! {
    /// `struct iommu_cache_invalidate_info` of v5.10, up to its union: a
    /// [`LinuxInvPasidInfo`] or a [`LinuxInvAddrInfo`] follows, by `granularity`.
    pub struct LinuxCacheInvalidateInfo: 16 bytes, 16 in version 3 {
        /// Size of the structure, union included, as the caller knows it.
        [0 In] argsz: u32,
        /// 1.
        [4 In] version: u32,
        /// [`IOTLB`](Self::IOTLB), [`DEV_IOTLB`](Self::DEV_IOTLB),
        /// [`PASID`](Self::PASID).
        [8 In] cache: u8,
        /// A [`LinuxGranularity`].
        [9 In] granularity: u8,
        /// 0.
        [10 In] padding: [u8; 6],
    }
}
impl Entry for LinuxCacheInvalidateInfo {}

impl LinuxCacheInvalidateInfo {
    /// Cache: translations in the unit.
    pub const IOTLB: u8 = 1 << 0;
    /// Cache: translations in the device.
    pub const DEV_IOTLB: u8 = 1 << 1;
    /// Cache: entries of the PASID table.
    pub const PASID: u8 = 1 << 2;
}

numbers! {
    /// How much an invalidation of `linux/iommu.h` is about.
    pub enum LinuxGranularity {
        /// Everything that the device uses.
        Domain = 0,
        /// One PASID.
        Pasid = 1,
        /// Addresses of one PASID, or, if none is given, of everything that the device uses.
        Addr = 2,
    }
}

layout! {
    /// `struct iommu_inv_pasid_info` of v5.10.
    pub struct LinuxInvPasidInfo: 16 bytes, 16 in version 3 {
        /// [`PASID`](Self::PASID), which must be given; [`ARCHID`](Self::ARCHID), which
        /// VT-d has none of.
        [0 In] flags: u32,
        /// Not looked at.
        [4 In] archid: u32,
        /// The PASID, of the guest's numbering.
        [8 In] pasid: u64,
    }
}
impl Entry for LinuxInvPasidInfo {}

impl LinuxInvPasidInfo {
    /// Flag: `pasid` is valid.
    pub const PASID: u32 = 1 << 0;
    /// Flag: `archid` is valid.
    pub const ARCHID: u32 = 1 << 1;
}

layout! {
    /// `struct iommu_inv_addr_info` of v5.10.
    pub struct LinuxInvAddrInfo: 40 bytes, 40 in version 3 {
        /// [`PASID`](Self::PASID), [`LEAF`](Self::LEAF); [`ARCHID`](Self::ARCHID), which
        /// VT-d has none of.
        [0 In] flags: u32,
        /// Not looked at.
        [4 In] archid: u32,
        /// With [`PASID`](Self::PASID): the PASID, of the guest's numbering.
        [8 In] pasid: u64,
        /// The first address, page-aligned and canonical.
        [16 In] addr: u64,
        /// Bytes in a granule, a multiple of 4 KiB.
        [24 In] granule_size: u64,
        /// Granules, at least 1. Exactly these addresses are invalidated: nothing is
        /// rounded.
        [32 In] nb_granules: u64,
    }
}
impl Entry for LinuxInvAddrInfo {}

impl LinuxInvAddrInfo {
    /// Flag: `pasid` is valid.
    pub const PASID: u32 = 1 << 0;
    /// Flag: `archid` is valid.
    pub const ARCHID: u32 = 1 << 1;
    /// Flag, a hint: only leaf entries were changed.
    pub const LEAF: u32 = 1 << 2;
}
