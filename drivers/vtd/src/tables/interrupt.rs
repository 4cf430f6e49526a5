//! Interrupt-remapping entries, and the requests that name them (§5.1.2, §9.9, §9.10).

use bitfield_struct::bitfield;

/// How an interrupt is delivered (DLM).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DeliveryMode(pub u8);

impl DeliveryMode {
    /// To the CPU that DST names.
    pub const FIXED: Self = Self(0);
    /// To the CPU of lowest priority among those that DST names.
    pub const LOWEST: Self = Self(1);

    const fn from_bits(bits: u8) -> Self {
        Self(bits & 7)
    }

    const fn into_bits(self) -> u8 {
        self.0 & 7
    }
}

/// Lower word of a remapped-interrupt entry (§9.9).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct IrteLow {
    /// Present.
    pub p: bool,
    /// Fault processing disable; counts even if the entry is not present.
    pub fpd: bool,
    /// Destination mode: logical.
    pub dm: bool,
    /// Redirection hint.
    pub rh: bool,
    /// Trigger mode: level.
    pub tm: bool,
    /// Delivery mode.
    #[bits(3, default = DeliveryMode::FIXED)]
    pub dlm: DeliveryMode,
    /// For software; ignored.
    #[bits(4)]
    pub avail: u8,
    #[bits(3)]
    __: u8,
    /// Posted instead of remapped.
    pub im: bool,
    /// Vector.
    pub v: u8,
    __: u8,
    /// Destination: all bits in extended mode, the APIC id in bits 15:8 otherwise.
    pub dst: u32,
}

impl IrteLow {
    /// Reserved bits of a remapped entry in extended mode.
    pub const RESERVED: u64 = 0xff00_7000;
    /// Reserved bits beside these when extended mode is off.
    pub const RESERVED_XAPIC: u64 = 0xffff_00ff_0000_0000;
}

/// Which bits of the source id are compared (SVT = 01).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SourceQualifier(pub u8);

impl SourceQualifier {
    /// All 16 bits.
    pub const ALL: Self = Self(0);

    pub(super) const fn from_bits(bits: u8) -> Self {
        Self(bits & 3)
    }

    pub(super) const fn into_bits(self) -> u8 {
        self.0 & 3
    }
}

/// How the source of an interrupt is verified (SVT).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SourceValidation(pub u8);

impl SourceValidation {
    /// Not at all.
    pub const NONE: Self = Self(0);
    /// The source id equals SID as far as SQ says.
    pub const SOURCE: Self = Self(1);
    /// The source's bus lies between bits 15:8 and bits 7:0 of SID.
    pub const BUS_RANGE: Self = Self(2);

    pub(super) const fn from_bits(bits: u8) -> Self {
        Self(bits & 3)
    }

    pub(super) const fn into_bits(self) -> u8 {
        self.0 & 3
    }
}

/// Upper word of a remapped-interrupt entry (§9.9).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct IrteHigh {
    /// Source id.
    pub sid: u16,
    /// Source-id qualifier.
    #[bits(2, default = SourceQualifier::ALL)]
    pub sq: SourceQualifier,
    /// Source validation type.
    #[bits(2, default = SourceValidation::NONE)]
    pub svt: SourceValidation,
    #[bits(44)]
    __: u64,
}

impl IrteHigh {
    /// Reserved bits of a remapped entry.
    pub const RESERVED: u64 = 0xffff_ffff_fff0_0000;
}

/// Address of an interrupt request in remappable format (§5.1.2.2).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct RemappableAddress {
    #[bits(2)]
    __: u8,
    /// Handle, bit 15.
    pub handle_high: bool,
    /// The data holds a subhandle that is added to the handle.
    pub shv: bool,
    /// Remappable format.
    pub format: bool,
    /// Handle, bits 14:0.
    #[bits(15)]
    pub handle_low: u16,
    /// 0xFEE.
    #[bits(12)]
    pub window: u16,
}

impl RemappableAddress {
    /// The address that names entry `handle` plus the subhandle in the data.
    pub const fn with_subhandle(handle: u16) -> Self {
        Self::new()
            .with_window(0xfee)
            .with_format(true)
            .with_shv(true)
            .with_handle_low(handle & 0x7fff)
            .with_handle_high(handle >> 15 != 0)
    }
}

/// I/O APIC redirection table entry in remappable format (§5.1.5.1).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct IoapicEntry {
    /// Vector; for level interrupts it must equal that of the remapping entry, because it
    /// is what an end-of-interrupt broadcast names.
    pub vector: u8,
    /// Must be 0.
    #[bits(3)]
    pub delivery: u8,
    /// Index, bit 15.
    pub index_high: bool,
    /// Delivery status; read-only.
    pub pending: bool,
    /// Active low.
    pub active_low: bool,
    /// Remote IRR; read-only.
    pub remote_irr: bool,
    /// Level-triggered; must equal TM of the remapping entry.
    pub level: bool,
    /// Masked.
    pub mask: bool,
    #[bits(31)]
    __: u32,
    /// Remappable format.
    pub format: bool,
    /// Index, bits 14:0.
    #[bits(15)]
    pub index_low: u16,
}
