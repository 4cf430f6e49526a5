//! Performance monitoring (§11.4.13); only with ECAP.PMS. Where counters lie is told by the
//! offset registers.

use super::register;
use bitfield_struct::bitfield;

/// Performance Monitoring Capability Register.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Perfcap {
    /// Number of counters.
    pub counters: u16,
    /// Bits of a counter.
    #[bits(7)]
    pub width: u8,
    #[bits(1)]
    __: u8,
    /// Number of event groups.
    #[bits(5)]
    pub event_groups: u8,
    #[bits(3)]
    __: u8,
    /// Which filters there are.
    #[bits(5)]
    pub filters: u8,
    #[bits(11)]
    __: u16,
    /// Counters can be written while enabled.
    pub cwe: bool,
    /// All counters can be frozen at once.
    pub gfs: bool,
    /// Overflow can interrupt.
    pub pis: bool,
    /// Counters have capabilities of their own.
    pub pcc: bool,
    /// Counters lie 2^(stride+10) bytes apart.
    #[bits(3)]
    pub stride: u8,
    #[bits(9)]
    __: u16,
}
register!(Perfcap: u64, 0x300, "PERFCAP");

/// Offset of the configuration registers.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Perfcfgoff {
    /// Bytes from the unit's base.
    pub offset: u32,
}
register!(Perfcfgoff: u32, 0x310, "PERFCFGOFF");

/// Offset of the freeze registers.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Perffrzoff {
    /// Bytes from the unit's base.
    pub offset: u32,
}
register!(Perffrzoff: u32, 0x314, "PERFFRZOFF");

/// Offset of the overflow registers.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Perfovfoff {
    /// Bytes from the unit's base.
    pub offset: u32,
}
register!(Perfovfoff: u32, 0x318, "PERFOVFOFF");

/// Offset of the counters.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Perfcntroff {
    /// Bytes from the unit's base.
    pub offset: u32,
}
register!(Perfcntroff: u32, 0x31c, "PERFCNTROFF");

/// Performance Monitoring Interrupt Status Register.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Perfintrsts {
    /// A counter overflowed; write 1 to clear.
    pub pis: bool,
    #[bits(31)]
    __: u32,
}
register!(Perfintrsts: u32, 0x324, "PERFINTRSTS");

/// Performance Monitoring Interrupt Control Register.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Perfintrctl {
    #[bits(30)]
    __: u32,
    /// A message is pending.
    pub ip: bool,
    /// The message is masked.
    pub im: bool,
}
register!(Perfintrctl: u32, 0x328, "PERFINTRCTL");

/// Performance Monitoring Interrupt Data Register.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Perfintrdata {
    /// Message data.
    pub imd: u16,
    __: u16,
}
register!(Perfintrdata: u32, 0x32c, "PERFINTRDATA");

/// Performance Monitoring Interrupt Address Register.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Perfintraddr {
    #[bits(2)]
    __: u8,
    /// Message address, bits 31:2.
    #[bits(30)]
    pub ma: u32,
}
register!(Perfintraddr: u32, 0x330, "PERFINTRADDR");

/// Performance Monitoring Interrupt Upper Address Register.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Perfintruaddr {
    /// Message address, bits 63:32.
    pub mua: u32,
}
register!(Perfintruaddr: u32, 0x334, "PERFINTRUADDR");

/// What a counter counts (§11.4.13.15), at PERFCFGOFF + 100h·counter.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct CounterConfiguration {
    /// EN: it counts. Changed by commands alone.
    pub en: bool,
    /// IO: an overflow interrupts.
    pub io: bool,
    /// GFO: an overflow freezes all counters.
    pub gfo: bool,
    #[bits(5)]
    __: u8,
    /// EGI: event group.
    #[bits(4)]
    pub egi: u8,
    #[bits(20)]
    __: u32,
    /// ES: events of the group.
    #[bits(28)]
    pub es: u32,
    #[bits(4)]
    __: u8,
}

/// A filter of a counter (§11.4.13.16 to §11.4.13.20), behind its configuration.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct CounterFilter {
    /// What is compared: 16 bits of source or domain id, 20 of PASID, 5 of address types or
    /// levels.
    #[bits(20)]
    pub value: u32,
    #[bits(11)]
    __: u16,
    /// EN: the filter counts.
    pub en: bool,
}

/// What one counter can do, if counters differ (§11.4.13.21), at 80h behind its
/// configuration.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct CounterCapability {
    /// PCC: what this register says counts.
    pub pcc: bool,
    #[bits(7)]
    __: u8,
    /// CW: bits of the counter.
    pub width: u8,
    /// IOS: an overflow can interrupt.
    pub ios: bool,
    /// GFS: an overflow can freeze.
    pub gfs: bool,
    #[bits(10)]
    __: u16,
    /// EGCNT: groups that the counter can count.
    #[bits(4)]
    pub egcnt: u8,
}

/// Event capabilities of a group, at 380h + 8·group (§11.4.13).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Perfevntcap {
    /// Which events can be counted.
    #[bits(28)]
    pub events: u32,
    #[bits(36)]
    __: u64,
}
