//! The PASID directory and PASID table entries (§9.5, §9.6).

use super::above_host_width;
use crate::registers::Ecap;
use bitfield_struct::bitfield;

/// PASID directory entry, indexed by bits 19:6 of the PASID (§9.5).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PasidDirectoryEntry {
    /// Present.
    pub p: bool,
    /// Fault processing disable; counts even if the entry is not present.
    pub fpd: bool,
    #[bits(10)]
    __: u16,
    /// Frame number of the PASID table.
    #[bits(52)]
    pub smptblptr: u64,
}

impl PasidDirectoryEntry {
    /// Reserved bits on a unit with this host address width.
    pub const fn reserved(host_bits: u8) -> u64 {
        0xffc | above_host_width(host_bits)
    }
}

/// PASID granular translation type (PGTT). Hardware may hold any of the eight values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TranslationType(pub u8);

impl TranslationType {
    /// First stage only.
    pub const FIRST_STAGE: Self = Self(0b001);
    /// Second stage only.
    pub const SECOND_STAGE: Self = Self(0b010);
    /// First stage on top of the second.
    pub const NESTED: Self = Self(0b011);
    /// Addresses pass as they are.
    pub const PASS_THROUGH: Self = Self(0b100);

    const fn from_bits(bits: u8) -> Self {
        Self(bits & 7)
    }

    const fn into_bits(self) -> u8 {
        self.0 & 7
    }

    /// Whether hardware looks at the first-stage half of the entry.
    pub const fn uses_first_stage(self) -> bool {
        matches!(self, Self::FIRST_STAGE | Self::NESTED)
    }

    /// Whether hardware looks at SSPTPTR and AW.
    pub const fn uses_second_stage(self) -> bool {
        matches!(self, Self::SECOND_STAGE | Self::NESTED)
    }
}

/// Word 0 of a PASID table entry (§9.6).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Pasid0 {
    /// Present.
    pub p: bool,
    /// Fault processing disable; counts even if the entry is not present.
    pub fpd: bool,
    /// Address width of the second stage: 1 is 39 bits, 2 is 48, 3 is 57.
    #[bits(3)]
    pub aw: u8,
    #[bits(1)]
    __: u8,
    /// Translation type.
    #[bits(3, default = TranslationType(0))]
    pub pgtt: TranslationType,
    /// Second-stage accessed and dirty bits are set.
    pub ssade: bool,
    #[bits(2)]
    __: u8,
    /// Second-stage page-translation pointer: frame number of the root table.
    #[bits(52)]
    pub ssptptr: u64,
}

/// Word 1 of a PASID table entry (§9.6).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Pasid1 {
    /// Domain id.
    pub did: u16,
    #[bits(7)]
    __: u8,
    /// Page walks snoop the CPU's caches.
    pub pwsnp: bool,
    /// Page accesses snoop the CPU's caches.
    pub pgsnp: bool,
    /// Caching of pages is disabled.
    pub cd: bool,
    /// The memory types of second-stage leaves count.
    pub emte: bool,
    #[bits(5)]
    __: u8,
    /// Page attribute table: 8 fields of 4 bits.
    pub pat: u32,
}

/// Word 2 of a PASID table entry (§9.6).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Pasid2 {
    /// Supervisor requests are allowed.
    pub sre: bool,
    #[bits(1)]
    __: u8,
    /// First-stage paging mode: 0 is 4 levels, 1 is 5.
    #[bits(2)]
    pub fspm: u8,
    /// Supervisor writes respect R/W = 0.
    pub wpe: bool,
    /// Ignored since revision 4.1 (once NXE and SMEP).
    #[bits(2)]
    pub ign: u8,
    /// Extended accessed flag enable.
    pub eafe: bool,
    #[bits(4)]
    __: u8,
    /// First-stage page-translation pointer: frame number of the root table, of guest
    /// memory if nested.
    #[bits(52)]
    pub fsptptr: u64,
}

/// Word 4 of a PASID table entry (§9.6). Counts only if the context entry has HPTE = 1.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Pasid4 {
    /// Size of the host permission table's root: 2^HPTSZ pages.
    #[bits(2)]
    pub hptsz: u8,
    /// Permissions are not fetched ahead of the requests that need them.
    pub hptpfd: bool,
    #[bits(9)]
    __: u16,
    /// Frame number of the host permission table's root.
    #[bits(52)]
    pub hptptr: u64,
}

/// Word 5 of a PASID table entry (§9.6). Counts only if the context entry has HPTE = 1.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Pasid5 {
    /// Domain id that cached host permissions are tagged with.
    pub hptdid: u16,
    #[bits(48)]
    __: u64,
}

/// A PASID table entry: 64 bytes, indexed by bits 5:0 of the PASID (§9.6).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PasidEntry {
    /// Bits 63 to 0.
    pub word0: Pasid0,
    /// Bits 127 to 64.
    pub word1: Pasid1,
    /// Bits 191 to 128.
    pub word2: Pasid2,
    /// Bits 319 to 256.
    pub word4: Pasid4,
    /// Bits 383 to 320.
    pub word5: Pasid5,
}

impl PasidEntry {
    /// Cells of 64 bits in an entry.
    pub const CELLS: usize = 8;

    /// All words. Those that have no field are reserved.
    pub const fn words(self) -> [u64; Self::CELLS] {
        [
            self.word0.into_bits(),
            self.word1.into_bits(),
            self.word2.into_bits(),
            0,
            self.word4.into_bits(),
            self.word5.into_bits(),
            0,
            0,
        ]
    }

    /// From all words.
    pub const fn from_words(words: [u64; Self::CELLS]) -> Self {
        let [word0, word1, word2, _, word4, word5, _, _] = words;
        Self {
            word0: Pasid0::from_bits(word0),
            word1: Pasid1::from_bits(word1),
            word2: Pasid2::from_bits(word2),
            word4: Pasid4::from_bits(word4),
            word5: Pasid5::from_bits(word5),
        }
    }

    /// Reserved bits of words 0 to 2 on a unit with these abilities and this host address
    /// width.
    pub const fn reserved(ecap: Ecap, host_bits: u8) -> [u64; 3] {
        let mut word0 = 0xc20 | above_host_width(host_bits);
        let mut word1 = 0xf87f_0000;
        let mut word2 = 0xf02 | above_host_width(host_bits);
        if !ecap.ssts() {
            word0 |= 0x21c | !0xfff;
        }
        if !ecap.ssads() {
            word0 |= Pasid0::new().with_ssade(true).into_bits();
        }
        if !ecap.smpwcs() {
            word1 |= Pasid1::new().with_pwsnp(true).into_bits();
        }
        if !ecap.sc() {
            word1 |= Pasid1::new().with_pgsnp(true).into_bits();
        }
        if !ecap.mts() {
            word1 |= 0xffff_ffff_0600_0000;
        }
        if !ecap.srs() {
            word2 |= Pasid2::new().with_sre(true).into_bits();
        }
        if !ecap.fsts() {
            word2 |= 0x1c | !0xfff;
        }
        if !ecap.eafs() {
            word2 |= Pasid2::new().with_eafe(true).into_bits();
        }
        [word0, word1, word2]
    }

    /// Reserved bits of words 4 and 5, likewise. Words 3, 6 and 7 are reserved whole.
    pub const fn reserved_permissions(ecap: Ecap, host_bits: u8) -> [u64; 2] {
        if ecap.hpts() {
            [0xff8 | above_host_width(host_bits), !0xffff]
        } else {
            [u64::MAX, u64::MAX]
        }
    }
}
