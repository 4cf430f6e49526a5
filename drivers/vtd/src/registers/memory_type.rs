//! Memory types of devices in the processor's coherency domain (§11.4.12); only with ECAP.MTS.
//! The caller says what they shall be.

use super::register;
use bitfield_struct::bitfield;

/// MTRR Capability Register: equal to IA32_MTRRCAP.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Mtrrcap {
    /// Number of variable-range registers.
    pub vcnt: u8,
    /// Fixed-range registers exist.
    pub fix: bool,
    #[bits(1)]
    __: u8,
    /// Write-combining is supported.
    pub wc: bool,
    #[bits(53)]
    __: u64,
}
register!(Mtrrcap: u64, 0x100, "MTRRCAP");

/// MTRR Default Type Register.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Mtrrdef {
    /// Default memory type: 0, 1, 4, 5 or 6.
    pub kind: u8,
    #[bits(2)]
    __: u8,
    /// Fixed-range registers count.
    pub fe: bool,
    /// MTRRs count.
    pub e: bool,
    #[bits(52)]
    __: u64,
}
register!(Mtrrdef: u64, 0x108, "MTRRDEF");

/// Variable-range base, at 180h + 16·n (§11.4.12).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct MtrrPhysbase {
    /// Memory type.
    pub kind: u8,
    #[bits(4)]
    __: u8,
    /// Frame number of the base.
    #[bits(52)]
    pub base: u64,
}

/// Variable-range mask, at 188h + 16·n (§11.4.12).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct MtrrPhysmask {
    #[bits(11)]
    __: u16,
    /// The pair counts.
    pub v: bool,
    /// Mask of frame numbers.
    #[bits(52)]
    pub mask: u64,
}
