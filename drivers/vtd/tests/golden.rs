//! Encodings held against literal numbers: what is the driver's alone, reserved bits, and
//! what no source outside was found for. The rest is in `golden_vectors`.
//!
//! Each row: the section of revision 5.10, two sources that agree with it, what is encoded,
//! the encoding, and the number. Sources: the specification's own tables are S; Q QEMU
//! (`hw/i386/intel_iommu*.{c,h}`), L Linux (`drivers/iommu/intel`), X Xen
//! (`xen/drivers/passthrough/vtd`), O OpenVMM (`vm/devices/iommu/intel_vtd`), F FreeBSD
//! (`sys/x86/iommu`), D Intel's processor datasheets. Rows marked "S" twice stand in the
//! specification in two places and nowhere else that could be found.

use vtd::queue::Descriptor;
use vtd::registers::*;
use vtd::tables::context::{ContextHigh, ContextLow, ScalableContext0, ScalableContext1};
use vtd::tables::interrupt::{IoapicEntry, IrteHigh, IrteLow};
use vtd::tables::pasid::{
    Pasid0, Pasid1, Pasid2, PasidDirectoryEntry, PasidEntry, TranslationType,
};
use vtd::tables::root::RootEntry;

/// Section, sources, what, how the driver encodes it, and what it has to be.
type Row<T> = (&'static str, &'static str, &'static str, T, T);

#[track_caller]
fn hold<T: PartialEq + std::fmt::LowerHex + std::fmt::Debug>(rows: &[Row<T>]) {
    for (section, sources, what, encoded, golden) in rows {
        assert_eq!(
            encoded, golden,
            "{what} ({section}, {sources}): {encoded:#x} is not {golden:#x}"
        );
    }
}

#[test]
fn registers_of_32_bits() {
    #[rustfmt::skip]
    hold(&[
        ("§11.4.4.1",  "S T", "GCMD, nothing changes, all of GSTS set",
            Gsts::from_bits(u32::MAX).as_command().into_bits() & 0xff80_0000,                       0x9680_0000),
        ("§11.4.9.5",  "Q O", "IECTL.IM",            Iectl::new().with_im(true).into_bits(),       0x8000_0000),
        ("§11.4.9.4",  "Q L", "ICS.IWC",             Ics::new().with_iwc(true).into_bits(),        0x0000_0001),
    ]);
}

#[test]
fn registers_of_64_bits() {
    #[rustfmt::skip]
    hold(&[
        ("§11.4.11.1", "Q L", "PQH at 0x20",          Pqh::new().with_pqh(1).into_bits(),                                     0x0000_0020),
        ("§11.4.12.2",   "S L", "MTRRDEF: on, write-back", memory_type::Mtrrdef::new().with_e(true).with_fe(true).with_kind(6).into_bits(), 0x0000_0c06),
        ("§11.4.13.2",   "S L", "PERFCAP: 8 counters of 48 bits, interrupt", performance::Perfcap::new().with_counters(8).with_width(48).with_pis(true).into_bits(), 0x0004_0000_0030_0008),
        ("§11.4.14",   "S L", "ECMD: enable counter 3", enhanced_command::Ecmd::new().with_cmd(240).with_oa(3).into_bits(),     0x0003_00f0),
        ("§11.4.14",   "S L", "ECCAP_3: freeze and unfreeze", enhanced_command::Eccap3::new().with_fcnts(true).with_ufcnts(true).into_bits(), 0x0030_0000_0000_0000),
        ("§11.4.16.1",   "S L", "VCMD: free PASID 12345h", virtual_command::Vcmd::new().with_cmd(2).with_pasid(0x12345).into_bits(), 0x0000_0001_2345_0002),
    ]);
}

#[test]
fn capabilities_as_real_units_and_emulated_ones_report_them() {
    // QEMU 10.0, first stage.
    let cap = Cap::from_bits(0x01d2_008c_222f_0606);
    let ecap = Ecap::from_bits(0x8800_00f0_0f4a);
    assert_eq!(cap.domain_ids(), 65_536);
    assert_eq!(cap.guest_address_bits(), 48);
    assert_eq!((cap.fault_records(), cap.fault_records_at()), (1, 0x220));
    assert_eq!(
        (cap.sagaw(), cap.sslps(), cap.mamv()),
        (0b00110, 0b0011, 18)
    );
    assert!(cap.psi() && cap.fs1gp() && cap.drd() && cap.dwd());
    assert!(!cap.cm() && !cap.rwbf() && !cap.esrtps() && !cap.plmr());
    assert!(ecap.qi() && ecap.ir() && ecap.pt() && ecap.smts() && ecap.fsts());
    assert!(!ecap.c() && !ecap.ssts() && !ecap.nest() && !ecap.pasid() && !ecap.dt());
    assert_eq!((ecap.mhmv(), ecap.invalidate_address_at()), (15, 0xf0));
    // QEMU 11.1 with everything on.
    let ecap = Ecap::from_bits(0x8d9a_20f0_0f4e);
    assert!(ecap.prs() && ecap.pds() && ecap.nwfs() && ecap.dt() && ecap.pasid());
    assert_eq!(ecap.pasid_bits(), 20);
    // A Cascade Lake server, as Linux logs it: cap 8d2078c106f0466, ecap f020df.
    let cap = Cap::from_bits(0x08d2_078c_106f_0466);
    assert!(cap.plmr() && cap.phmr() && cap.pi());
    assert_eq!((cap.domain_ids(), cap.fault_records()), (65_536, 8));
    assert_eq!(
        (cap.guest_address_bits(), cap.fault_records_at()),
        (48, 0x100)
    );
    let ecap = Ecap::from_bits(0xf0_20df);
    assert!(ecap.c() && ecap.qi() && ecap.dt() && ecap.eim() && ecap.sc() && !ecap.smts());
    assert_eq!(ecap.invalidate_address_at(), 0x200);
}

#[test]
fn table_entries() {
    let scalable = ScalableContext0::new().with_p(true).with_pasiddirptr(0x101);
    #[rustfmt::skip]
    hold(&[
        ("§9.4",  "S S", "scalable context, HPTE EPTR",      scalable.with_hpte(true).with_eptr(true).into_bits(),             0x0010_1061),
        ("§9.6",  "L O", "PASID 0: nested, AW 1, SSADE",     Pasid0::new().with_p(true).with_pgtt(TranslationType::NESTED).with_aw(1).with_ssade(true).into_bits(), 0x0000_02c5),
        ("§9.6",  "S O", "PASID 1: CD, EMTE, PAT",           Pasid1::new().with_cd(true).with_emte(true).with_pat(0x0007_0406).into_bits(), 0x0007_0406_0600_0000),
        ("§9.6",  "L O", "PASID 2: SRE, WPE, EAFE",          Pasid2::new().with_sre(true).with_wpe(true).with_eafe(true).into_bits(), 0x0000_0091),
        ("§9.9",  "L X", "IRTE low: posted",                 IrteLow::new().with_im(true).into_bits(),                         0x0000_8000),
        ("§5.1.5.1", "Q L", "I/O APIC entry, masked, level, low", IoapicEntry::new().with_mask(true).with_level(true).with_active_low(true).into_bits(), 0x0001_a000),
    ]);
}

#[test]
fn reserved_bits_of_tables() {
    // Host addresses of 46 bits.
    let above = 0xffff_c000_0000_0000;
    let none = Ecap::new();
    let all = Ecap::from_bits(u64::MAX);
    let entry = PasidEntry::reserved;
    #[rustfmt::skip]
    hold(&[
        ("§9.1", "Q O", "root",                          RootEntry::reserved(46),            above | 0xffe),
        ("§9.3", "Q O", "legacy context, low",           ContextLow::reserved(46),           above | 0xff0),
        ("§9.3", "Q O", "legacy context, high",          ContextHigh::RESERVED,              0xffff_ffff_ff00_0080),
        ("§9.4", "Q O", "scalable context 0, poor unit", ScalableContext0::reserved(none, 46), above | 0x1fc),
        ("§9.4", "S S", "scalable context 0, rich unit", ScalableContext0::reserved(all, 46), above | 0x180),
        ("§9.4", "Q O", "scalable context 1, rich unit", ScalableContext1::reserved(all),    0xffff_ffff_ffe0_0000),
        ("§9.4", "S O", "scalable context 1, poor unit", ScalableContext1::reserved(none),   u64::MAX),
        ("§9.5", "L O", "PASID directory",               PasidDirectoryEntry::reserved(46),  above | 0xffc),
        ("§9.6", "S O", "PASID 0, rich unit",            entry(all, 46)[0],                  above | 0xc20),
        ("§9.6", "S O", "PASID 1, rich unit",            entry(all, 46)[1],                  0xf87f_0000),
        ("§9.6", "S O", "PASID 2, rich unit",            entry(all, 46)[2],                  above | 0xf02),
        ("§9.6", "S O", "PASID 0, poor unit",            entry(none, 46)[0],                 !0x1c3),
        ("§9.6", "S O", "PASID 1, poor unit",            entry(none, 46)[1],                 0xffff_ffff_ffff_0000),
        ("§9.6", "S O", "PASID 2, poor unit",            entry(none, 46)[2],                 !0x60),
        ("§9.9", "X O", "IRTE low",                      IrteLow::RESERVED,                  0xff00_7000),
        ("§9.9", "X O", "IRTE high",                     IrteHigh::RESERVED,                 0xffff_ffff_fff0_0000),
        ("§11.4.2", "S S", "CAP",                        Cap::RESERVED,                      0x0600_0040_0080_e008),
        ("§11.4.3", "S S", "ECAP",                       Ecap::RESERVED,                     0x8040_0001_190c_0020),
    ]);
}

#[test]
fn host_permissions_of_one_domain_are_invalidated_at_all_levels() {
    let encoded = Descriptor::HostPermissions { domain: 0x1234 }.encode();
    assert_eq!(
        encoded,
        [0x1234_002a, 0],
        "§6.5.2.7; no code outside was found that uses it"
    );
}

#[test]
fn the_pointer_to_host_permissions_and_counters_are_laid_out_by_the_specification_alone() {
    use vtd::registers::performance::{CounterCapability, CounterConfiguration, CounterFilter};
    use vtd::tables::pasid::{Pasid4, Pasid5};
    let root = Pasid4::new()
        .with_hptsz(2)
        .with_hptpfd(true)
        .with_hptptr(0x1_2345);
    assert_eq!(root.into_bits(), 0x1234_5006, "§9.6, bits 319:256");
    let domain = Pasid5::new().with_hptdid(0xabcd);
    assert_eq!(domain.into_bits(), 0xabcd, "§9.6, bits 383:320");
    assert_eq!(
        PasidEntry::reserved_permissions(Ecap::from_bits(u64::MAX), 46),
        [0xffff_c000_0000_0ff8, 0xffff_ffff_ffff_0000],
        "§9.6"
    );
    let counter = CounterConfiguration::new()
        .with_es(0x800_0001)
        .with_egi(0xa)
        .with_gfo(true)
        .with_io(true);
    assert_eq!(counter.into_bits(), 0x0800_0001_0000_0a06, "§11.4.13.15");
    let filter = CounterFilter::new().with_en(true).with_value(0xf_ffff);
    assert_eq!(filter.into_bits(), 0x800f_ffff, "§11.4.13.16");
    let own = CounterCapability::from_bits(0x4003_3001);
    let found = (own.pcc(), own.width(), own.ios(), own.gfs(), own.egcnt());
    assert_eq!(found, (true, 0x30, true, true, 4), "§11.4.13.21");
}

#[test]
fn host_permissions_are_invalidated_globally() {
    let encoded = Descriptor::HostPermissionCache.encode();
    assert_eq!(
        encoded,
        [0x1a, 0],
        "§6.5.2.7; no code outside was found that uses it"
    );
}
