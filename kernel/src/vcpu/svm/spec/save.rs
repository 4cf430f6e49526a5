//! The state save area (APM 2, table B-2).

use bitfield_struct::bitfield;
use core::mem::offset_of;

/// Attributes of a segment: bits 55:52 and 47:40 of its descriptor.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct SegmentAttributes {
    /// Type.
    #[bits(4)]
    pub kind: u8,
    /// Code or data.
    pub user: bool,
    /// Privilege level.
    #[bits(2)]
    pub level: u8,
    /// Present.
    pub present: bool,
    /// Available.
    pub available: bool,
    /// 64-bit code.
    pub long: bool,
    /// 32-bit default size.
    pub big: bool,
    /// Limit in pages.
    pub granular: bool,
    #[bits(4)]
    __: u8,
}

/// A segment register with what it caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SegmentRegister {
    /// Selector.
    pub selector: u16,
    /// Attributes.
    pub attributes: SegmentAttributes,
    /// Limit in bytes.
    pub limit: u32,
    /// Base.
    pub base: u64,
}

impl SegmentRegister {
    /// A flat segment for 64-bit code.
    pub const fn code64(selector: u16) -> Self {
        Self {
            selector,
            attributes: SegmentAttributes::new()
                .with_kind(0b1011)
                .with_user(true)
                .with_present(true)
                .with_long(true)
                .with_granular(true),
            limit: u32::MAX,
            base: 0,
        }
    }

    /// A flat segment for data.
    pub const fn data(selector: u16) -> Self {
        Self {
            selector,
            attributes: SegmentAttributes::new()
                .with_kind(0b0011)
                .with_user(true)
                .with_present(true)
                .with_big(true)
                .with_granular(true),
            limit: u32::MAX,
            base: 0,
        }
    }

    /// A task state segment that is in use.
    pub const fn task() -> Self {
        Self {
            selector: 0,
            attributes: SegmentAttributes::new()
                .with_kind(0b1011)
                .with_present(true),
            limit: 0x67,
            base: 0,
        }
    }

    /// A local descriptor table without entries.
    pub const fn no_local_table() -> Self {
        Self {
            selector: 0,
            attributes: SegmentAttributes::new()
                .with_kind(0b0010)
                .with_present(true),
            limit: 0,
            base: 0,
        }
    }
}

/// The state save area of a VMCB.
#[derive(Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the registers of their names")]
pub struct SaveArea {
    pub es: SegmentRegister,
    pub cs: SegmentRegister,
    pub ss: SegmentRegister,
    pub ds: SegmentRegister,
    pub fs: SegmentRegister,
    pub gs: SegmentRegister,
    pub gdtr: SegmentRegister,
    pub ldtr: SegmentRegister,
    pub idtr: SegmentRegister,
    pub tr: SegmentRegister,
    reserved1: [u8; 0x2b],
    pub cpl: u8,
    reserved2: [u8; 4],
    pub efer: u64,
    reserved3: [u8; 0x70],
    pub cr4: u64,
    pub cr3: u64,
    pub cr0: u64,
    pub dr7: u64,
    pub dr6: u64,
    pub rflags: u64,
    pub rip: u64,
    reserved4: [u8; 0x58],
    pub rsp: u64,
    reserved5: [u8; 0x18],
    pub rax: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub cr2: u64,
    reserved6: [u8; 0x20],
    pub pat: u64,
    reserved7: [u8; 0x990],
}

const _: () = {
    assert!(offset_of!(SaveArea, tr) == 0x090);
    assert!(offset_of!(SaveArea, cpl) == 0x0cb);
    assert!(offset_of!(SaveArea, efer) == 0x0d0);
    assert!(offset_of!(SaveArea, cr4) == 0x148);
    assert!(offset_of!(SaveArea, cr0) == 0x158);
    assert!(offset_of!(SaveArea, rflags) == 0x170);
    assert!(offset_of!(SaveArea, rip) == 0x178);
    assert!(offset_of!(SaveArea, rsp) == 0x1d8);
    assert!(offset_of!(SaveArea, rax) == 0x1f8);
    assert!(offset_of!(SaveArea, kernel_gs_base) == 0x220);
    assert!(offset_of!(SaveArea, cr2) == 0x240);
    assert!(offset_of!(SaveArea, pat) == 0x268);
    assert!(size_of::<SaveArea>() == 0xc00);
};
