//! Words of invalidation descriptors (§6.5.2, §7.6.1). Layout only.
//!
//! A descriptor has 128 bits; in a queue of 256-bit slots the upper half is 0.

use bitfield_struct::bitfield;

/// Lower word of a Context-cache Invalidate Descriptor (§6.5.2.1).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct ContextCacheLow {
    /// Type, bits 3:0: 1.
    #[bits(4)]
    pub kind: u8,
    /// Granularity: 1 global, 2 domain, 3 device.
    #[bits(2)]
    pub g: u8,
    #[bits(10)]
    __: u16,
    /// Domain id.
    pub did: u16,
    /// Source id.
    pub sid: u16,
    /// Function mask.
    #[bits(2)]
    pub fm: u8,
    #[bits(14)]
    __: u16,
}

/// Lower word of an IOTLB Invalidate Descriptor (§6.5.2.3).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct IotlbLow {
    /// Type, bits 3:0: 2.
    #[bits(4)]
    pub kind: u8,
    /// Granularity: 1 global, 2 domain, 3 page in domain.
    #[bits(2)]
    pub g: u8,
    /// Drain writes.
    pub dw: bool,
    /// Drain reads.
    pub dr: bool,
    #[bits(8)]
    __: u8,
    /// Domain id.
    pub did: u16,
    __: u32,
}

/// Upper word of the IOTLB and PASID-IOTLB descriptors (§6.5.2.3, §6.5.2.4).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct IotlbHigh {
    /// Address mask: 2^AM pages.
    #[bits(6)]
    pub am: u8,
    /// Invalidation hint: only leaf entries changed.
    pub ih: bool,
    #[bits(5)]
    __: u8,
    /// Page number.
    #[bits(52)]
    pub addr: u64,
}

/// Lower word of a Device-TLB Invalidate Descriptor (§6.5.2.5).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct DeviceTlbLow {
    /// Type, bits 3:0: 3.
    #[bits(4)]
    pub kind: u8,
    __: u8,
    /// Physical function's source id, bits 3:0.
    #[bits(4)]
    pub pfsid_low: u8,
    /// Maximum invalidations pending; 0 is 32.
    #[bits(5)]
    pub mip: u8,
    #[bits(11)]
    __: u16,
    /// Source id.
    pub sid: u16,
    #[bits(4)]
    __: u8,
    /// Physical function's source id, bits 15:4.
    #[bits(12)]
    pub pfsid_high: u16,
}

/// Upper word of a Device-TLB Invalidate Descriptor (§6.5.2.5).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct DeviceTlbHigh {
    /// The lowest zero bit of the address tells the size.
    pub s: bool,
    #[bits(11)]
    __: u16,
    /// Page number and size.
    #[bits(52)]
    pub addr: u64,
}

/// Lower word of an Interrupt Entry Cache Invalidate Descriptor (§6.5.2.8).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct InterruptCacheLow {
    /// Type, bits 3:0: 4.
    #[bits(4)]
    pub kind: u8,
    /// Granularity: 0 global, 1 by index.
    #[bits(1)]
    pub g: u8,
    #[bits(22)]
    __: u32,
    /// Index mask: 2^IM entries.
    #[bits(5)]
    pub im: u8,
    /// First index.
    pub iidx: u16,
    __: u16,
}

/// Lower word of an Invalidation Wait Descriptor (§6.5.2.9).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct WaitLow {
    /// Type, bits 3:0: 5.
    #[bits(4)]
    pub kind: u8,
    /// Raise the invalidation event.
    pub iflag: bool,
    /// Write the status data.
    pub sw: bool,
    /// Fence: what follows starts after this completed.
    pub fnflag: bool,
    /// Drain page requests first (needs ECAP.PDS).
    pub pd: bool,
    #[bits(24)]
    __: u32,
    /// Status data.
    pub data: u32,
}

/// Upper word of an Invalidation Wait Descriptor (§6.5.2.9).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct WaitHigh {
    #[bits(2)]
    __: u8,
    /// Status address, bits 63:2.
    #[bits(62)]
    pub address: u64,
}

/// Lower word of the PASID-based IOTLB and PASID-cache descriptors (§6.5.2.2, §6.5.2.4).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PasidCacheLow {
    /// Type, bits 3:0: 6 for the IOTLB, 7 for the PASID-cache.
    #[bits(4)]
    pub kind: u8,
    /// Granularity. IOTLB: 2 PASID, 3 page in PASID. PASID-cache: 0 domain, 1 PASID in
    /// domain, 3 global.
    #[bits(2)]
    pub g: u8,
    #[bits(10)]
    __: u16,
    /// Domain id.
    pub did: u16,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
    #[bits(12)]
    __: u16,
}

/// Lower word of a PASID-based Device-TLB Invalidate Descriptor (§6.5.2.6).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PasidDeviceTlbLow {
    /// Type, bits 3:0: 8.
    #[bits(4)]
    pub kind: u8,
    /// Maximum invalidations pending; 0 is 32.
    #[bits(5)]
    pub mip: u8,
    #[bits(3)]
    __: u8,
    /// Physical function's source id, bits 3:0.
    #[bits(4)]
    pub pfsid_low: u8,
    /// Source id.
    pub sid: u16,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
    /// Physical function's source id, bits 15:4.
    #[bits(12)]
    pub pfsid_high: u16,
}

/// Upper word of a PASID-based Device-TLB Invalidate Descriptor (§6.5.2.6).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PasidDeviceTlbHigh {
    /// For all PASIDs.
    pub gi: bool,
    #[bits(10)]
    __: u16,
    /// The lowest zero bit of the address tells the size.
    pub s: bool,
    /// Page number and size.
    #[bits(52)]
    pub addr: u64,
}

/// Lower word of a Page Group Response Descriptor (§7.6.1).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PageGroupResponseLow {
    /// Type, bits 3:0: 9.
    #[bits(4)]
    pub kind: u8,
    /// The request carried a PASID.
    pub pp: bool,
    #[bits(7)]
    __: u8,
    /// Response code: 0 success, 1 invalid request, 15 failure.
    #[bits(4)]
    pub rc: u8,
    /// Requester.
    pub rid: u16,
    /// PASID, if PP.
    #[bits(20)]
    pub pasid: u32,
    #[bits(12)]
    __: u16,
}

/// Upper word of a Page Group Response Descriptor (§7.6.1).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PageGroupResponseHigh {
    #[bits(3)]
    __: u8,
    /// Page request group index.
    #[bits(9)]
    pub prgi: u16,
    #[bits(52)]
    __: u64,
}

/// Lower word of a Host Permission Table Cache Invalidate Descriptor (§6.5.2.7).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct HostPermissionLow {
    /// Type, bits 3:0: 10.
    #[bits(4)]
    pub kind: u8,
    /// Granularity: 1 global, 2 HPT domain, 3 page in HPT domain.
    #[bits(2)]
    pub g: u8,
    #[bits(10)]
    __: u16,
    /// Host permission table domain id.
    pub hptdid: u16,
    __: u32,
}
