//! Host permission table entries (§9.12).

use bitfield_struct::bitfield;

/// The upper word of an entry of level 4, 3 or 2: where the table below it lies.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PermissionPointer {
    /// AV: the address is valid.
    pub valid: bool,
    #[bits(11)]
    __: u16,
    /// ADDRESS: frame number of the table.
    #[bits(40)]
    pub frame: u64,
    #[bits(12)]
    __: u16,
}

/// PPi: what is allowed with one page, in 4 bits.
#[bitfield(u8, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PagePermission {
    /// R.
    pub read: bool,
    /// W.
    pub write: bool,
    #[bits(6)]
    __: u8,
}
