//! Root entries, one for each bus (§9.1, §9.2).

use super::above_host_width;
use bitfield_struct::bitfield;

/// Lower word of a legacy root entry (§9.1). The upper word is reserved.
///
/// Each half of a scalable root entry (§9.2) has the same layout: the lower word leads to
/// the context entries of devices below 16, the upper one to those from 16 on.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct RootEntry {
    /// Present.
    pub p: bool,
    #[bits(11)]
    __: u16,
    /// Context table's frame number.
    #[bits(52)]
    pub ctp: u64,
}

impl RootEntry {
    /// Reserved bits of a present entry on a unit with this host address width.
    pub const fn reserved(host_bits: u8) -> u64 {
        0xffe | above_host_width(host_bits)
    }
}
