//! Protected memory regions (§11.4.8), which firmware may have left on.

use super::register;
use bitfield_struct::bitfield;

/// Protected Memory Enable Register (§11.4.8.1).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Pmen {
    /// Protection is in effect.
    pub prs: bool,
    #[bits(30)]
    __: u32,
    /// Enable protection. A command: PRS says when it is done.
    pub epm: bool,
}
register!(Pmen: u32, 0x064, "PMEN");

/// Protected Low-Memory Base Register (§11.4.8.2).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Plmbase {
    /// Base; the alignment is the implementation's.
    pub plmb: u32,
}
register!(Plmbase: u32, 0x068, "PLMBASE");

/// Protected Low-Memory Limit Register (§11.4.8.3).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Plmlimit {
    /// Last protected address; low bits read as 0 and count as 1.
    pub plml: u32,
}
register!(Plmlimit: u32, 0x06c, "PLMLIMIT");

/// Protected High-Memory Base Register (§11.4.8.4).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Phmbase {
    /// Base; the alignment is the implementation's.
    pub phmb: u64,
}
register!(Phmbase: u64, 0x070, "PHMBASE");

/// Protected High-Memory Limit Register (§11.4.8.5).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Phmlimit {
    /// Last protected address; low bits read as 0 and count as 1.
    pub phml: u64,
}
register!(Phmlimit: u64, 0x078, "PHMLIMIT");
