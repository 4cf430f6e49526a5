//! Posted interrupts: the entry that leads to a descriptor, and the descriptor (§9.10,
//! §9.11).

use super::interrupt::{SourceQualifier, SourceValidation};
use bitfield_struct::bitfield;

/// Lower word of a posted-interrupt entry (§9.10).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PostedLow {
    /// Present.
    pub p: bool,
    /// Fault processing disable.
    pub fpd: bool,
    #[bits(6)]
    __: u8,
    /// For software; ignored.
    #[bits(4)]
    pub avail: u8,
    #[bits(2)]
    __: u8,
    /// Notify at once, whatever SN says.
    pub urg: bool,
    /// Posted: 1.
    pub im: bool,
    /// Virtual vector.
    pub vv: u8,
    #[bits(14)]
    __: u16,
    /// Descriptor address, bits 31:6.
    #[bits(26)]
    pub pda_low: u32,
}

/// Upper word of a posted-interrupt entry (§9.10).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PostedHigh {
    /// Source id.
    pub sid: u16,
    /// Source-id qualifier.
    #[bits(2, default = SourceQualifier::ALL)]
    pub sq: SourceQualifier,
    /// Source validation type.
    #[bits(2, default = SourceValidation::NONE)]
    pub svt: SourceValidation,
    #[bits(12)]
    __: u16,
    /// Descriptor address, bits 63:32.
    pub pda_high: u32,
}

/// Word 4 of a posted-interrupt descriptor (§9.11); words 0 to 3 are PIR, 5 to 7 reserved.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PostedControl {
    /// A notification is outstanding (ON).
    pub on: bool,
    /// Notifications are suppressed (SN).
    pub sn: bool,
    #[bits(14)]
    __: u16,
    /// Notification vector.
    pub nv: u8,
    __: u8,
    /// Notification destination: all bits in extended mode, the APIC id in bits 15:8
    /// otherwise.
    pub ndst: u32,
}
