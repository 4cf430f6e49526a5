//! Second-stage paging entries (§9.8, tables 41 to 47).

use bitfield_struct::bitfield;

/// A second-stage entry of any level.
///
/// Bit 7 is PS at levels 2 and 3, ignored at level 1, and reserved above; bit 11 is SNP in
/// leaves and reserved in all others.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct SecondStageEntry {
    /// R: readable. Checked at every level.
    pub read: bool,
    /// W: writable. Checked at every level. Where R and W are 0, hardware looks at nothing
    /// else.
    pub write: bool,
    #[bits(1)]
    __: u8,
    /// EMT: memory type, in leaves, if the PASID entry has EMTE = 1.
    #[bits(3)]
    pub memory_type: u8,
    /// IPAT: ignore PAT, in leaves, likewise.
    pub ignore_pat: bool,
    /// PS at levels 2 and 3: the entry maps a page.
    pub page_size: bool,
    /// A: accessed, if the PASID entry has SSADE = 1.
    pub accessed: bool,
    /// D: dirty, in leaves, likewise.
    pub dirty: bool,
    #[bits(1)]
    __: u8,
    /// SNP: accesses to the page snoop the CPU's caches. Leaves only.
    pub snoop: bool,
    /// ADDR: frame number of the table or page.
    #[bits(40)]
    pub frame: u64,
    #[bits(9)]
    __: u16,
    /// IR: I/O read. Stands in for R if RTADDR.SSIRWE = 1, which this crate never uses.
    pub io_read: bool,
    /// IW: I/O write. Reserved as long as RTADDR.SSIRWE = 0.
    pub io_write: bool,
    #[bits(1)]
    __: u8,
}
