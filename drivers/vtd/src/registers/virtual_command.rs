//! Virtual commands (§11.4.16); only with ECAP.VCS, which only emulations of a unit have: PASIDs
//! are then allocated by whoever emulates it.

use super::register;
use bitfield_struct::bitfield;

/// Virtual Command Capability Register.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Vccap {
    /// The null command.
    pub ns: bool,
    /// A PASID can be allocated.
    pub pas: bool,
    /// A PASID can be freed.
    pub fps: bool,
    #[bits(61)]
    __: u64,
}
register!(Vccap: u64, 0xe30, "VCCAP");

/// Virtual Command Register. Writing CMD starts a command.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Vcmd {
    /// 0 null, 1 allocate a PASID, 2 free one.
    pub cmd: u8,
    __: u8,
    /// The PASID to be freed.
    #[bits(20)]
    pub pasid: u32,
    #[bits(28)]
    __: u32,
}
register!(Vcmd: u64, 0xe00, "VCMD");

/// Virtual Command Extended Operand Register.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Vcmdeo {
    /// Operand B.
    pub ob: u64,
}
register!(Vcmdeo: u64, 0xe08, "VCMD_EO");

/// Virtual Command Response Register.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Vcrsp {
    /// A command is in progress.
    pub ip: bool,
    /// Status: 0 done, 1 undefined, 16 none available or invalid PASID.
    #[bits(7)]
    pub sc: u8,
    __: u8,
    /// The PASID that was allocated.
    #[bits(20)]
    pub pasid: u32,
    #[bits(28)]
    __: u32,
}
register!(Vcrsp: u64, 0xe10, "VCRSP");
