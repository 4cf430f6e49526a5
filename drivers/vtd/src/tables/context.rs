//! Context entries, one for each function (§9.3, §9.4).

use super::above_host_width;
use crate::registers::Ecap;
use bitfield_struct::bitfield;

/// What a legacy context entry does with requests (TT).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum TranslationType {
    /// Untranslated requests are translated; translation and translated requests refused.
    Untranslated = 0,
    /// All three kinds are served (needs ECAP.DT).
    All = 1,
    /// Untranslated requests pass as they are (needs ECAP.PT).
    PassThrough = 2,
    /// Reserved.
    Reserved = 3,
}

impl TranslationType {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Untranslated,
            1 => Self::All,
            2 => Self::PassThrough,
            _ => Self::Reserved,
        }
    }

    const fn into_bits(self) -> u8 {
        self as u8
    }

    /// The type of an entry that leads to tables.
    pub const fn of_tables(translation_requests: bool) -> Self {
        if translation_requests {
            Self::All
        } else {
            Self::Untranslated
        }
    }
}

/// Lower word of a legacy context entry (§9.3).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct ContextLow {
    /// Present.
    pub p: bool,
    /// Fault processing disable; counts even if the entry is not present.
    pub fpd: bool,
    /// Translation type.
    #[bits(2, default = TranslationType::Untranslated)]
    pub tt: TranslationType,
    #[bits(8)]
    __: u8,
    /// Second-stage page-translation pointer: frame number of the root table.
    #[bits(52)]
    pub ssptptr: u64,
}

impl ContextLow {
    /// Reserved bits on a unit with this host address width.
    pub const fn reserved(host_bits: u8) -> u64 {
        0xff0 | above_host_width(host_bits)
    }
}

/// Upper word of a legacy context entry (§9.3).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct ContextHigh {
    /// Address width: 1 is 39 bits, 2 is 48, 3 is 57.
    #[bits(3)]
    pub aw: u8,
    /// For software; ignored.
    #[bits(4)]
    pub ign: u8,
    #[bits(1)]
    __: u8,
    /// Domain id.
    pub did: u16,
    #[bits(40)]
    __: u64,
}

impl ContextHigh {
    /// Reserved bits, those of DID above the unit's width left out.
    pub const RESERVED: u64 = 0xffff_ffff_ff00_0080;
}

/// Word 0 of a scalable context entry (§9.4).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct ScalableContext0 {
    /// Present.
    pub p: bool,
    /// Fault processing disable; counts even if the entry is not present.
    pub fpd: bool,
    /// Device-TLB enable: translation and translated requests are served.
    pub dte: bool,
    /// Requests with PASID are served.
    pub paside: bool,
    /// Page requests are served; needs DTE.
    pub pre: bool,
    /// Translated requests are checked in the host permission table.
    pub hpte: bool,
    /// Translated requests may carry a PASID; needs PASIDE.
    pub eptr: bool,
    #[bits(2)]
    __: u8,
    /// PASID directory size: 2^(PDTS+7) entries.
    #[bits(3)]
    pub pdts: u8,
    /// Frame number of the PASID directory.
    #[bits(52)]
    pub pasiddirptr: u64,
}

impl ScalableContext0 {
    /// Reserved bits on a unit with these abilities and this host address width.
    pub const fn reserved(ecap: Ecap, host_bits: u8) -> u64 {
        let mut mask = 0x180 | above_host_width(host_bits);
        if !ecap.dt() {
            mask |= Self::new().with_dte(true).into_bits();
        }
        if !ecap.pasid() {
            mask |= Self::new().with_paside(true).into_bits();
        }
        if !ecap.prs() {
            mask |= Self::new().with_pre(true).into_bits();
        }
        if !ecap.hpts() {
            mask |= Self::new().with_hpte(true).into_bits();
        }
        if !ecap.ptrs() {
            mask |= Self::new().with_eptr(true).into_bits();
        }
        mask
    }
}

/// Word 1 of a scalable context entry (§9.4). Words 2 and 3 are reserved.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct ScalableContext1 {
    /// PASID of requests that carry none (needs ECAP.RPS).
    #[bits(20)]
    pub rid_pasid: u32,
    /// Privilege of requests that carry no PASID (needs ECAP.RPRIVS).
    pub rid_priv: bool,
    #[bits(43)]
    __: u64,
}

impl ScalableContext1 {
    /// Reserved bits on a unit with these abilities.
    pub const fn reserved(ecap: Ecap) -> u64 {
        let mut mask = 0xffff_ffff_ffe0_0000;
        if !ecap.rps() {
            mask |= 0xf_ffff;
        }
        if !ecap.rprivs() {
            mask |= Self::new().with_rid_priv(true).into_bits();
        }
        mask
    }
}
