//! The page request queue and its event (§11.4.11).

use super::register;
use bitfield_struct::bitfield;

/// Page Request Queue Head Register (§11.4.11.1).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Pqh {
    #[bits(5)]
    __: u8,
    /// Offset of the next request to be read, in units of 32 bytes.
    #[bits(14)]
    pub pqh: u16,
    #[bits(45)]
    __: u64,
}
register!(Pqh: u64, 0x0c0, "PQH");

/// Page Request Queue Tail Register (§11.4.11.2).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Pqt {
    #[bits(5)]
    __: u8,
    /// Offset of the next request to be written, in units of 32 bytes.
    #[bits(14)]
    pub pqt: u16,
    #[bits(45)]
    __: u64,
}
register!(Pqt: u64, 0x0c8, "PQT");

/// Page Request Queue Address Register (§11.4.11.3).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Pqa {
    /// Queue size: 2^PQS pages.
    #[bits(3)]
    pub pqs: u8,
    #[bits(9)]
    __: u16,
    /// Queue's frame number.
    #[bits(52)]
    pub pqa: u64,
}
register!(Pqa: u64, 0x0d0, "PQA");

/// Page Request Status Register (§11.4.11.4).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Prs {
    /// A page request is pending; write 1 to clear.
    pub ppr: bool,
    /// The queue overflowed; write 1 to clear.
    pub pro: bool,
    #[bits(30)]
    __: u32,
}
register!(Prs: u32, 0x0dc, "PRS");

/// Page Request Event Control Register (§11.4.11.5).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Pectl {
    #[bits(30)]
    __: u32,
    /// A message is pending.
    pub ip: bool,
    /// The message is masked.
    pub im: bool,
}
register!(Pectl: u32, 0x0e0, "PECTL");

/// Page Request Event Data Register (§11.4.11.6).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Pedata {
    /// Message data.
    pub imd: u16,
    __: u16,
}
register!(Pedata: u32, 0x0e4, "PEDATA");

/// Page Request Event Address Register (§11.4.11.7).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Peaddr {
    #[bits(2)]
    __: u8,
    /// Message address, bits 31:2.
    #[bits(30)]
    pub ma: u32,
}
register!(Peaddr: u32, 0x0e8, "PEADDR");

/// Page Request Event Upper Address Register (§11.4.11.8).
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Peuaddr {
    /// Message address, bits 63:32.
    pub mua: u32,
}
register!(Peuaddr: u32, 0x0ec, "PEUADDR");
