//! The invalidation queue and its completion event (§11.4.9).

use super::register;
use bitfield_struct::bitfield;

/// Invalidation Queue Head Register (§11.4.9.1).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Iqh {
    #[bits(4)]
    __: u8,
    /// Offset of the next descriptor to be fetched, in units of 16 bytes.
    #[bits(15)]
    pub qh: u32,
    #[bits(45)]
    __: u64,
}
register!(Iqh: u64, 0x080, "IQH");

/// Invalidation Queue Tail Register (§11.4.9.2).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Iqt {
    #[bits(4)]
    __: u8,
    /// Offset of the next descriptor to be written, in units of 16 bytes.
    #[bits(15)]
    pub qt: u32,
    #[bits(45)]
    __: u64,
}
register!(Iqt: u64, 0x088, "IQT");

/// Invalidation Queue Address Register (§11.4.9.3).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Iqa {
    /// Queue size: 2^QS pages.
    #[bits(3)]
    pub qs: u8,
    #[bits(8)]
    __: u8,
    /// Descriptor width: 256 bits instead of 128.
    pub dw: bool,
    /// Queue's frame number.
    #[bits(52)]
    pub iqa: u64,
}
register!(Iqa: u64, 0x090, "IQA");

/// Invalidation Completion Status Register (§11.4.9.4).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Ics {
    /// A wait descriptor with IF completed; write 1 to clear.
    pub iwc: bool,
    #[bits(31)]
    __: u32,
}
register!(Ics: u32, 0x09c, "ICS");

/// Invalidation Event Control Register (§11.4.9.5).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Iectl {
    #[bits(30)]
    __: u32,
    /// A message is pending.
    pub ip: bool,
    /// The message is masked.
    pub im: bool,
}
register!(Iectl: u32, 0x0a0, "IECTL");

/// Invalidation Event Data Register (§11.4.9.6).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Iedata {
    /// Message data.
    pub imd: u16,
    __: u16,
}
register!(Iedata: u32, 0x0a4, "IEDATA");

/// Invalidation Event Address Register (§11.4.9.7).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Ieaddr {
    #[bits(2)]
    __: u8,
    /// Message address, bits 31:2.
    #[bits(30)]
    pub ma: u32,
}
register!(Ieaddr: u32, 0x0a8, "IEADDR");

/// Invalidation Event Upper Address Register (§11.4.9.8).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Ieuaddr {
    /// Message address, bits 63:32.
    pub mua: u32,
}
register!(Ieuaddr: u32, 0x0ac, "IEUADDR");

/// Invalidation Queue Error Record Register (§11.4.9.9). Each field is valid only while
/// its bit in FSTS is set.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Iqercd {
    /// Why a descriptor was refused (IQE).
    #[bits(4)]
    pub iqei: u8,
    #[bits(28)]
    __: u32,
    /// Whose Device-TLB invalidation timed out (ITE).
    pub itesid: u16,
    /// Who sent an unexpected completion (ICE).
    pub icesid: u16,
}
register!(Iqercd: u64, 0x0b0, "IQERCD");
