//! Fault status, the fault event, and fault records (§11.4.7, §11.4.7.6).

use super::register;
use bitfield_struct::bitfield;

/// Fault Status Register (§11.4.7.1).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Fsts {
    /// Primary fault overflow; write 1 to clear.
    pub pfo: bool,
    /// A fault is recorded: the OR of all records' F.
    pub ppf: bool,
    #[bits(2)]
    __: u8,
    /// Invalidation queue error; write 1 to clear.
    pub iqe: bool,
    /// Invalidation completion error; write 1 to clear.
    pub ice: bool,
    /// Invalidation time-out error; write 1 to clear.
    pub ite: bool,
    #[bits(1)]
    __: u8,
    /// Index of the first pending record, valid while PPF is set.
    pub fri: u8,
    __: u16,
}
register!(Fsts: u32, 0x034, "FSTS");

/// Event control: FECTL, and by the same layout IECTL and PECTL (§11.4.7.2).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Fectl {
    #[bits(30)]
    __: u32,
    /// A message is pending.
    pub ip: bool,
    /// The message is masked.
    pub im: bool,
}
register!(Fectl: u32, 0x038, "FECTL");

/// Fault Event Data Register (§11.4.7.3).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Fedata {
    /// Message data.
    pub imd: u16,
    __: u16,
}
register!(Fedata: u32, 0x03c, "FEDATA");

/// Fault Event Address Register (§11.4.7.4).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Feaddr {
    #[bits(2)]
    __: u8,
    /// Message address, bits 31:2.
    #[bits(30)]
    pub ma: u32,
}
register!(Feaddr: u32, 0x040, "FEADDR");

/// Fault Event Upper Address Register (§11.4.7.5).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Feuaddr {
    /// Message address, bits 63:32.
    pub mua: u32,
}
register!(Feuaddr: u32, 0x044, "FEUADDR");

/// Lower quadword of a Fault Recording Register (§11.4.7.6).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct FrcdLow {
    #[bits(12)]
    __: u16,
    /// Fault information: the page number, or the interrupt index in bits 51:36 of it.
    #[bits(52)]
    pub fi: u64,
}

impl FrcdLow {
    /// Interrupt index of an interrupt fault.
    pub const fn interrupt_index(self) -> u16 {
        (self.into_bits() >> 48) as u16
    }
}

/// Upper quadword of a Fault Recording Register (§11.4.7.6).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct FrcdHigh {
    /// Requester.
    pub sid: u16,
    #[bits(12)]
    __: u16,
    /// Type, lower half: with T1, 00 write, 01 page request, 10 read, 11 atomic.
    pub t2: bool,
    /// Supervisor rights were asked for; valid if PP.
    pub privileged: bool,
    /// Execution was asked for; valid if PP.
    pub exe: bool,
    /// The request carried a PASID.
    pub pp: bool,
    /// Fault reason.
    pub fr: u8,
    /// PASID, if PP.
    #[bits(20)]
    pub pv: u32,
    /// Address type: 00 untranslated, 01 translation request, 10 translated.
    #[bits(2)]
    pub at: u8,
    /// Type, upper half.
    pub t1: bool,
    /// A fault is recorded; write 1 to clear.
    pub f: bool,
}
