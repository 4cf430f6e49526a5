//! First-stage paging entries (§9.7, tables 34 to 40).

use bitfield_struct::bitfield;

/// A first-stage entry of any level.
///
/// Bit 7 is PS at levels 2 and 3, PAT at level 1, and reserved above; bit 12 is PAT in
/// large leaves and part of the address elsewhere.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct FirstStageEntry {
    /// P: present. Where it is 0, hardware looks at nothing else.
    pub present: bool,
    /// R/W: writable. Checked at every level.
    pub writable: bool,
    /// U/S: requests of user privilege are allowed. Checked at every level.
    pub user: bool,
    /// PWT: page-level write-through, in leaves.
    pub write_through: bool,
    /// PCD: page-level cache disable, in leaves.
    pub cache_disable: bool,
    /// A: hardware sets it in every entry that it uses (§3.6.2).
    pub accessed: bool,
    /// D: hardware sets it in the leaf that it writes through (§3.6.2).
    pub dirty: bool,
    /// PS at levels 2 and 3: the entry maps a page.
    pub page_size: bool,
    /// G: ignored.
    pub global: bool,
    #[bits(1)]
    __: u8,
    /// EA: extended accessed flag, if the PASID entry has EAFE = 1.
    pub extended_accessed: bool,
    #[bits(1)]
    __: u8,
    /// ADDR: frame number of the table or page.
    #[bits(40)]
    pub frame: u64,
    #[bits(12)]
    __: u16,
}
