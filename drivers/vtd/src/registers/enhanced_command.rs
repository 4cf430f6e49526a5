//! Enhanced commands (§11.4.14); only with CAP.ECMDS. With 32-bit accesses the upper half is
//! written first, and the operand register before it.

use super::register;
use bitfield_struct::bitfield;

/// Enhanced Command Register. Writing CMD starts a command.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Ecmd {
    /// Command: 240 and 241 enable and disable a counter, 242 and 243 reset its
    /// configuration and value, 244 and 245 freeze and unfreeze all.
    pub cmd: u8,
    __: u8,
    /// Operand A: the counter.
    #[bits(48)]
    pub oa: u64,
}
register!(Ecmd: u64, 0x400, "ECMD");

/// Enhanced Command Extended Operand Register.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Ecmdeo {
    /// Operand B.
    pub ob: u64,
}
register!(Ecmdeo: u64, 0x408, "ECEO");

/// Enhanced Command Response Register.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Ecrsp {
    /// A command is in progress: GCMD must not be written.
    pub ip: bool,
    /// Status: 0 done, 1 undefined, 2 aborted, 16 specific to the command.
    #[bits(7)]
    pub sc: u8,
    __: u8,
    /// Result.
    #[bits(48)]
    pub rslt: u64,
}
register!(Ecrsp: u64, 0x410, "ECRSP");

/// Enhanced Command Capability 3: commands 240 to 245.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Eccap3 {
    #[bits(48)]
    __: u64,
    /// Enable a counter.
    pub ecnts: bool,
    /// Disable a counter.
    pub dcnts: bool,
    /// Reset a counter's configuration.
    pub rcfgs: bool,
    /// Reset a counter's value.
    pub rcnts: bool,
    /// Freeze.
    pub fcnts: bool,
    /// Unfreeze.
    pub ufcnts: bool,
    #[bits(10)]
    __: u16,
}
register!(Eccap3: u64, 0x448, "ECCAP_3");
