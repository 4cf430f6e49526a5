//! Context entries: §9.3 (legacy) and §9.4 (scalable).

use super::{bit, bits, page};
use crate::config::Config;

/// Translation type of a legacy context entry (TT, §9.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum TranslationType {
    /// 00: untranslated requests only.
    Untranslated,
    /// 01: translation and translated requests too.
    DeviceTlb,
    /// 10: output is input.
    PassThrough,
}

/// A valid legacy context entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Legacy {
    pub(crate) kind: TranslationType,
    pub(crate) levels: u8,
    pub(crate) table: u64,
    pub(crate) domain: u16,
    pub(crate) fpd: bool,
}

/// A valid scalable context entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Scalable {
    pub(crate) fpd: bool,
    pub(crate) device_tlb: bool,
    pub(crate) pasid_enable: bool,
    pub(crate) page_requests: bool,
    /// HPTE: translated requests are checked in host permission tables.
    pub(crate) permissions: bool,
    pub(crate) translated_pasid: bool,
    pub(crate) directory: u64,
    /// PASIDs below this are in the directory.
    pub(crate) pasids: u32,
    pub(crate) rid_pasid: u32,
    pub(crate) rid_priv: bool,
}

/// Why a present or absent entry serves no request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Bad {
    NotPresent,
    Reserved,
    /// LCT.4.1: the address width is not supported.
    Width,
    /// LCT.4.2: the translation type is not supported.
    Type,
    /// SCT.4.1: page requests without device-TLB.
    PageRequests,
    /// SCT.4.2: RID_PASID is beyond the directory.
    RidPasid,
    /// SCT.4.3: PASIDs in translated requests without PASIDs.
    TranslatedPasid,
}

/// FPD counts also in an entry that is not present.
pub(crate) fn fpd(words: &[u64]) -> bool {
    bit(words[0], 1)
}

/// Decodes a legacy entry.
pub(crate) fn legacy(words: [u64; 2], config: &Config) -> Result<Legacy, Bad> {
    if !bit(words[0], 0) {
        return Err(Bad::NotPresent);
    }
    let kind = bits(words[0], 3, 2);
    // With TT = 10 the pointer is ignored, reserved bits of it included.
    let pointer = if kind == 2 { 0 } else { config.above_host() };
    let domain_bits = u64::from(!config.domain_mask()) << 8;
    if words[0] & (0xff0 | pointer) != 0 || words[1] & (0xffff_ffff_ff00_0080 | domain_bits) != 0 {
        return Err(Bad::Reserved);
    }
    let kind = match kind {
        0 => TranslationType::Untranslated,
        1 if config.device_tlb => TranslationType::DeviceTlb,
        2 if config.pass_through => TranslationType::PassThrough,
        _ => return Err(Bad::Type),
    };
    let levels = bits(words[1], 2, 0) as u8 + 2;
    if !config.depths.allows(levels) {
        return Err(Bad::Width);
    }
    Ok(Legacy {
        kind,
        levels,
        table: page(words[0]),
        domain: bits(words[1], 23, 8) as u16,
        fpd: fpd(&words),
    })
}

/// Decodes a scalable entry.
pub(crate) fn scalable(words: [u64; 4], config: &Config) -> Result<Scalable, Bad> {
    if !bit(words[0], 0) {
        return Err(Bad::NotPresent);
    }
    if words[0] & reserved_low(config) != 0
        || words[1] & reserved_high(config) != 0
        || words[2] | words[3] != 0
    {
        return Err(Bad::Reserved);
    }
    let entry = Scalable {
        fpd: fpd(&words),
        device_tlb: bit(words[0], 2),
        pasid_enable: bit(words[0], 3),
        page_requests: bit(words[0], 4),
        permissions: bit(words[0], 5),
        translated_pasid: bit(words[0], 6),
        directory: page(words[0]),
        pasids: 1 << (bits(words[0], 11, 9) + 13).min(20),
        rid_pasid: bits(words[1], 19, 0) as u32,
        rid_priv: bit(words[1], 20),
    };
    if entry.page_requests && !entry.device_tlb {
        Err(Bad::PageRequests)
    } else if entry.rid_pasid >= entry.pasids {
        Err(Bad::RidPasid)
    } else if entry.translated_pasid && !entry.pasid_enable {
        Err(Bad::TranslatedPasid)
    } else {
        Ok(entry)
    }
}

fn reserved_low(config: &Config) -> u64 {
    let mut mask = 0x180 | config.above_host();
    for (supported, at) in [
        (config.device_tlb, 2),
        (config.pasid_bits.is_some(), 3),
        (config.page_requests, 4),
        (config.host_permissions, 5),
        (config.pasid_in_translated, 6),
    ] {
        mask |= u64::from(!supported) << at;
    }
    mask
}

fn reserved_high(config: &Config) -> u64 {
    let mut mask = 0xffff_ffff_ffe0_0000;
    if !config.rid_pasid {
        mask |= 0xf_ffff;
    }
    mask | u64::from(!config.rid_priv) << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    type Edit = fn(&mut Config);

    #[test]
    fn each_reserved_bit_of_a_legacy_entry_is_refused_and_the_entry_without_it_accepted() {
        let config = Config::legacy();
        let good = [0x5000_0001, 0x0702];
        let entry = legacy(good, &config).expect("a good entry");
        assert_eq!(
            (entry.table, entry.domain, entry.levels),
            (0x5000_0000, 7, 4)
        );
        for at in (4..12).chain(46..64) {
            assert_eq!(
                legacy([good[0] | 1 << at, good[1]], &config),
                Err(Bad::Reserved),
                "bit {at}"
            );
        }
        for at in [7].into_iter().chain(24..64) {
            assert_eq!(
                legacy([good[0], good[1] | 1 << at], &config),
                Err(Bad::Reserved),
                "bit {}",
                at + 64
            );
        }
        assert_eq!(
            legacy([good[0] & !1, u64::MAX], &config),
            Err(Bad::NotPresent)
        );
        assert_eq!(legacy([good[0], 0x0703], &config), Err(Bad::Width));
        assert_eq!(
            legacy([good[0] | 4, good[1]], &config),
            Err(Bad::Type),
            "DT = 0"
        );
    }

    #[test]
    fn bits_of_a_scalable_entry_are_reserved_by_capability() {
        let all = Config::everything();
        let good = [0x7000_0401, 0, 0, 0];
        assert_eq!(scalable(good, &all).map(|entry| entry.pasids), Ok(1 << 15));
        let cases: &[(u8, Edit)] = &[
            (2, |c| c.device_tlb = false),
            (3, |c| c.pasid_bits = None),
            (5, |c| c.host_permissions = false),
            (6, |c| c.pasid_in_translated = false),
        ];
        for (at, without) in cases {
            let words = [
                good[0] | 1 << at | 1 << 3 | u64::from(*at == 2) << 2,
                0,
                0,
                0,
            ];
            assert!(
                scalable(words, &all).is_ok(),
                "bit {at} with the capability"
            );
            let mut config = all.clone();
            without(&mut config);
            assert_eq!(
                scalable(words, &config),
                Err(Bad::Reserved),
                "bit {at} without"
            );
        }
        for at in [7, 8] {
            assert_eq!(
                scalable([good[0] | 1 << at, 0, 0, 0], &all),
                Err(Bad::Reserved),
                "bit {at}"
            );
        }
        assert_eq!(
            scalable([good[0] | 1 << 4, 0, 0, 0], &all),
            Err(Bad::PageRequests)
        );
        assert_eq!(scalable([good[0], 1 << 15, 0, 0], &all), Err(Bad::RidPasid));
        assert_eq!(
            scalable([good[0] | 1 << 6, 0, 0, 0], &all),
            Err(Bad::TranslatedPasid)
        );
        assert_eq!(scalable([good[0], 1 << 21, 0, 0], &all), Err(Bad::Reserved));
        assert_eq!(scalable([good[0], 0, 1, 0], &all), Err(Bad::Reserved));
    }
}
