//! Table entries as chapter 9 lays them out, one type for each 64-bit word. Fields named
//! `reserved…` and `rest` are there to be set wrongly.

use bitfield_struct::bitfield;

/// Root entry, or one half of it in scalable mode (§9.1, §9.2).
#[bitfield(u64)]
pub(crate) struct Root {
    pub(crate) present: bool,
    #[bits(11)]
    pub(crate) reserved: u16,
    #[bits(52)]
    pub(crate) table: u64,
}

/// Lower word of a legacy context entry (§9.3).
#[bitfield(u64)]
pub(crate) struct ContextLow {
    pub(crate) present: bool,
    pub(crate) fault_disable: bool,
    #[bits(2)]
    pub(crate) kind: u8,
    #[bits(8)]
    pub(crate) reserved: u8,
    #[bits(52)]
    pub(crate) table: u64,
}

/// Upper word of a legacy context entry.
#[bitfield(u64)]
pub(crate) struct ContextHigh {
    #[bits(3)]
    pub(crate) width: u8,
    #[bits(4)]
    pub(crate) ignored: u8,
    pub(crate) reserved: bool,
    pub(crate) domain: u16,
    #[bits(40)]
    pub(crate) rest: u64,
}

/// First word of a scalable context entry (§9.4).
#[bitfield(u64)]
pub(crate) struct ScalableContext {
    pub(crate) present: bool,
    pub(crate) fault_disable: bool,
    pub(crate) device_tlb: bool,
    pub(crate) pasid_enable: bool,
    pub(crate) page_requests: bool,
    #[bits(4)]
    pub(crate) reserved: u8,
    #[bits(3)]
    pub(crate) directory_size: u8,
    #[bits(52)]
    pub(crate) directory: u64,
}

/// Second word of a scalable context entry.
#[bitfield(u64)]
pub(crate) struct RidPasid {
    #[bits(20)]
    pub(crate) pasid: u32,
    #[bits(44)]
    pub(crate) rest: u64,
}

/// PASID directory entry (§9.5).
#[bitfield(u64)]
pub(crate) struct Directory {
    pub(crate) present: bool,
    pub(crate) fault_disable: bool,
    #[bits(10)]
    pub(crate) reserved: u16,
    #[bits(52)]
    pub(crate) table: u64,
}

/// Bits 63:0 of a PASID table entry (§9.6).
#[bitfield(u64)]
pub(crate) struct PasidLow {
    pub(crate) present: bool,
    pub(crate) fault_disable: bool,
    #[bits(3)]
    pub(crate) width: u8,
    pub(crate) reserved: bool,
    #[bits(3)]
    pub(crate) kind: u8,
    pub(crate) second_flags: bool,
    #[bits(2)]
    pub(crate) reserved_too: u8,
    #[bits(52)]
    pub(crate) second: u64,
}

/// Bits 127:64 of a PASID table entry.
#[bitfield(u64)]
pub(crate) struct PasidDomain {
    pub(crate) domain: u16,
    #[bits(7)]
    pub(crate) reserved: u8,
    pub(crate) walk_snoop: bool,
    #[bits(40)]
    pub(crate) rest: u64,
}

/// Bits 191:128 of a PASID table entry.
#[bitfield(u64)]
pub(crate) struct PasidFirst {
    #[bits(2)]
    pub(crate) supervisor: u8,
    #[bits(2)]
    pub(crate) mode: u8,
    #[bits(8)]
    pub(crate) rest: u8,
    #[bits(52)]
    pub(crate) first: u64,
}

/// Second-stage entry (§9.8).
#[bitfield(u64)]
pub(crate) struct Second {
    pub(crate) read: bool,
    pub(crate) write: bool,
    #[bits(5)]
    pub(crate) ignored: u8,
    pub(crate) large: bool,
    #[bits(3)]
    pub(crate) flags: u8,
    pub(crate) snoop: bool,
    #[bits(52)]
    pub(crate) page: u64,
}

/// First-stage entry (§9.7).
#[bitfield(u64)]
pub(crate) struct First {
    pub(crate) present: bool,
    pub(crate) write: bool,
    pub(crate) user: bool,
    #[bits(2)]
    pub(crate) cache: u8,
    pub(crate) accessed: bool,
    pub(crate) dirty: bool,
    pub(crate) large: bool,
    #[bits(4)]
    pub(crate) ignored: u8,
    #[bits(52)]
    pub(crate) page: u64,
}

/// Lower word of an interrupt remapping entry (§9.9).
#[bitfield(u64)]
pub(crate) struct InterruptLow {
    pub(crate) present: bool,
    pub(crate) fault_disable: bool,
    pub(crate) logical: bool,
    pub(crate) hint: bool,
    pub(crate) level: bool,
    #[bits(3)]
    pub(crate) delivery: u8,
    #[bits(4)]
    pub(crate) available: u8,
    #[bits(3)]
    pub(crate) reserved: u8,
    pub(crate) posted: bool,
    pub(crate) vector: u8,
    pub(crate) reserved_too: u8,
    pub(crate) destination: u32,
}

/// Upper word of an interrupt remapping entry.
#[bitfield(u64)]
pub(crate) struct InterruptHigh {
    pub(crate) source: u16,
    #[bits(2)]
    pub(crate) qualifier: u8,
    #[bits(2)]
    pub(crate) check: u8,
    #[bits(44)]
    pub(crate) rest: u64,
}

/// Address of a remappable interrupt request (§5.1.2.2).
#[bitfield(u32)]
pub(crate) struct MessageAddress {
    #[bits(2)]
    pub(crate) ignored: u8,
    pub(crate) handle_high: bool,
    pub(crate) subhandle_valid: bool,
    pub(crate) remappable: bool,
    #[bits(15)]
    pub(crate) handle: u16,
    #[bits(12)]
    pub(crate) head: u16,
}

/// First word of an invalidation descriptor (§6.5.2): the fields that the types share the
/// places of.
#[bitfield(u64)]
pub(crate) struct DescriptorLow {
    #[bits(4)]
    pub(crate) kind: u8,
    #[bits(2)]
    pub(crate) granularity: u8,
    #[bits(10)]
    pub(crate) flags: u16,
    pub(crate) domain: u16,
    /// PASID, or source id and function mask, or status data.
    pub(crate) upper: u32,
}

/// Second word of a page-selective IOTLB descriptor.
#[bitfield(u64)]
pub(crate) struct DescriptorAddress {
    #[bits(6)]
    pub(crate) mask: u8,
    pub(crate) hint: bool,
    #[bits(5)]
    pub(crate) reserved: u8,
    #[bits(52)]
    pub(crate) page: u64,
}

/// Number of the page that an address lies in.
pub(crate) fn page(address: u64) -> u64 {
    address >> 12
}
