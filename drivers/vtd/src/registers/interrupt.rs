//! Where the interrupt-remapping table lies (§11.4.10).

use super::register;
use bitfield_struct::bitfield;

/// Interrupt Remapping Table Address Register (§11.4.10).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Irta {
    /// Size: 2^(S+1) entries.
    #[bits(4)]
    pub s: u8,
    #[bits(7)]
    __: u8,
    /// Extended interrupt mode: destinations have 32 bits.
    pub eime: bool,
    /// Table's frame number.
    #[bits(52)]
    pub irta: u64,
}
register!(Irta: u64, 0x0b8, "IRTA");
