//! Encodings held against literal numbers.
//!
//! Each row: the section of revision 5.10, two sources that agree with it, what is encoded,
//! the encoding, and the number. Sources: the specification's own tables are S; Q QEMU
//! (`hw/i386/intel_iommu*.{c,h}`), L Linux (`drivers/iommu/intel`), X Xen
//! (`xen/drivers/passthrough/vtd`), O OpenVMM (`vm/devices/iommu/intel_vtd`), F FreeBSD
//! (`sys/x86/iommu`), D Intel's processor datasheets. Rows marked "S" twice stand in the
//! specification in two places and nowhere else that could be found.

use iommu_core::{Hpa, Iova, Order, Pasid, SourceId};
use vtd::queue::{
    Block, ContextScope, Descriptor, DeviceTlbTarget, IndexBlock, IotlbScope, PasidScope,
};
use vtd::registers::*;
use vtd::tables::context::{
    ContextHigh, ContextLow, ScalableContext0, ScalableContext1, TranslationType as LegacyType,
};
use vtd::tables::interrupt::{
    IoapicEntry, IrteHigh, IrteLow, RemappableAddress, SourceQualifier, SourceValidation,
};
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
    let gcmd = Gcmd::new();
    let fsts = Fsts::new();
    #[rustfmt::skip]
    hold(&[
        ("§11.4.4.1",  "Q L", "GCMD.TE",             gcmd.with_te(true).into_bits(),               0x8000_0000),
        ("§11.4.4.1",  "Q L", "GCMD.SRTP",           gcmd.with_srtp(true).into_bits(),             0x4000_0000),
        ("§11.4.4.1",  "Q L", "GCMD.WBF",            gcmd.with_wbf(true).into_bits(),              0x0800_0000),
        ("§11.4.4.1",  "Q L", "GCMD.QIE",            gcmd.with_qie(true).into_bits(),              0x0400_0000),
        ("§11.4.4.1",  "Q L", "GCMD.IRE",            gcmd.with_ire(true).into_bits(),              0x0200_0000),
        ("§11.4.4.1",  "Q L", "GCMD.SIRTP",          gcmd.with_sirtp(true).into_bits(),            0x0100_0000),
        ("§11.4.4.1",  "Q L", "GCMD.CFI",            gcmd.with_cfi(true).into_bits(),              0x0080_0000),
        ("§11.4.4.1",  "S T", "GCMD, nothing changes, all of GSTS set",
            Gsts::from_bits(u32::MAX).as_command().into_bits() & 0xff80_0000,                       0x9680_0000),
        ("§11.4.7.1",  "Q L", "FSTS.PFO",            fsts.with_pfo(true).into_bits(),              0x0000_0001),
        ("§11.4.7.1",  "Q L", "FSTS.PPF",            fsts.with_ppf(true).into_bits(),              0x0000_0002),
        ("§11.4.7.1",  "Q L", "FSTS.IQE",            fsts.with_iqe(true).into_bits(),              0x0000_0010),
        ("§11.4.7.1",  "Q L", "FSTS.ICE",            fsts.with_ice(true).into_bits(),              0x0000_0020),
        ("§11.4.7.1",  "Q L", "FSTS.ITE",            fsts.with_ite(true).into_bits(),              0x0000_0040),
        ("§11.4.7.1",  "Q L", "FSTS.FRI = 0xff",     fsts.with_fri(0xff).into_bits(),              0x0000_ff00),
        ("§11.4.7.2",  "Q L", "FECTL.IM",            Fectl::new().with_im(true).into_bits(),       0x8000_0000),
        ("§11.4.7.2",  "Q L", "FECTL.IP",            Fectl::new().with_ip(true).into_bits(),       0x4000_0000),
        ("§11.4.9.5",  "Q O", "IECTL.IM",            Iectl::new().with_im(true).into_bits(),       0x8000_0000),
        ("§11.4.9.4",  "Q L", "ICS.IWC",             Ics::new().with_iwc(true).into_bits(),        0x0000_0001),
        ("§11.4.11.4", "Q L", "PRS.PPR, PRO",        Prs::new().with_ppr(true).with_pro(true).into_bits(), 0x0000_0003),
        ("§11.4.8.1", "L X", "PMEN.EPM, PRS",       Pmen::new().with_epm(true).with_prs(true).into_bits(), 0x8000_0001),
        ("§5.1.2.2",   "Q L", "remappable address, handle 7, subhandle valid",
            RemappableAddress::with_subhandle(7).into_bits(),                                       0xfee0_00f8),
        ("§5.1.2.2",   "Q L", "remappable address, handle 0x8001",
            RemappableAddress::with_subhandle(0x8001).into_bits(),                                  0xfee0_003c),
    ]);
}

#[test]
fn registers_of_64_bits() {
    #[rustfmt::skip]
    hold(&[
        ("§11.4.5",    "Q L", "RTADDR, scalable",     Rtaddr::new().with_rta(0x100).with_ttm(TableMode::Scalable).into_bits(), 0x0010_0400),
        ("§11.4.5",    "S O", "RTADDR, abort",        Rtaddr::new().with_ttm(TableMode::Abort).into_bits(),                   0x0000_0c00),
        ("§11.4.6.1",  "Q L", "CCMD, global",         Ccmd::new().with_icc(true).with_cirg(1).into_bits(),                    0xa000_0000_0000_0000),
        ("§11.4.6.1",  "Q L", "CCMD, device 20h of domain 7", Ccmd::new().with_icc(true).with_cirg(3).with_did(7).with_sid(0x20).into_bits(), 0xe000_0000_0020_0007),
        ("§11.4.6.3",  "Q L", "IOTLB, domain 7, drained", Iotlb::new().with_ivt(true).with_iirg(2).with_dr(true).with_dw(true).with_did(7).into_bits(), 0xa003_0007_0000_0000),
        ("§11.4.6.4",  "Q L", "IVA, 2 MiB, leaves only", Iva::new().with_addr(0x200).with_am(9).with_ih(true).into_bits(),     0x0020_0049),
        ("§11.4.9.1",  "Q L", "IQH at 0x40",          Iqh::new().with_qh(4).into_bits(),                                      0x0000_0040),
        ("§11.4.9.2",  "Q L", "IQT at 512 KiB - 16",  Iqt::new().with_qt(0x7fff).into_bits(),                                 0x0007_fff0),
        ("§11.4.9.3",  "S Q", "IQA, 256-bit, QS 6",   Iqa::new().with_iqa(0x180).with_dw(true).with_qs(6).into_bits(),        0x0018_0806),
        ("§11.4.9.9",  "L D", "IQERCD.ITESID",        Iqercd::new().with_itesid(0x20).into_bits(),                            0x0000_0020_0000_0000),
        ("§11.4.9.9",  "L D", "IQERCD.ICESID, IQEI",  Iqercd::new().with_icesid(0x20).with_iqei(4).into_bits(),               0x0020_0000_0000_0004),
        ("§11.4.10",   "Q L", "IRTA, 65536 entries, extended", Irta::new().with_irta(0x200).with_eime(true).with_s(15).into_bits(), 0x0020_080f),
        ("§11.4.11.1", "Q L", "PQH at 0x20",          Pqh::new().with_pqh(1).into_bits(),                                     0x0000_0020),
        ("§11.4.11.3", "Q L", "PQA, 8 pages",         Pqa::new().with_pqa(0x300).with_pqs(3).into_bits(),                     0x0030_0003),
        ("§11.4.12.2",   "S L", "MTRRDEF: on, write-back", memory_type::Mtrrdef::new().with_e(true).with_fe(true).with_kind(6).into_bits(), 0x0000_0c06),
        ("§11.4.13.2",   "S L", "PERFCAP: 8 counters of 48 bits, interrupt", performance::Perfcap::new().with_counters(8).with_width(48).with_pis(true).into_bits(), 0x0004_0000_0030_0008),
        ("§11.4.14",   "S L", "ECMD: enable counter 3", enhanced_command::Ecmd::new().with_cmd(240).with_oa(3).into_bits(),     0x0003_00f0),
        ("§11.4.14",   "S L", "ECCAP_3: freeze and unfreeze", enhanced_command::Eccap3::new().with_fcnts(true).with_ufcnts(true).into_bits(), 0x0030_0000_0000_0000),
        ("§11.4.16.1",   "S L", "VCMD: free PASID 12345h", virtual_command::Vcmd::new().with_cmd(2).with_pasid(0x12345).into_bits(), 0x0000_0001_2345_0002),
        ("§11.4.7.6",   "Q L", "FRCD high: read by 20h, reason 6", FrcdHigh::new().with_f(true).with_t1(true).with_fr(6).with_sid(0x20).into_bits(), 0xc000_0006_0000_0020),
        ("§11.4.7.6",   "L O", "FRCD high: PASID 12345h", FrcdHigh::new().with_pp(true).with_pv(0x12345).into_bits(),          0x0123_4500_8000_0000),
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
    let root = RootEntry::new().with_p(true).with_ctp(0x101);
    let context = ContextLow::new().with_p(true).with_ssptptr(0x110);
    let scalable = ScalableContext0::new().with_p(true).with_pasiddirptr(0x101);
    let low = IrteLow::new().with_p(true).with_v(0x51);
    #[rustfmt::skip]
    hold(&[
        ("§9.1",  "Q L", "root entry",                       root.into_bits(),                                                 0x0010_1001),
        ("§9.3",  "Q L", "legacy context, low",              context.into_bits(),                                              0x0011_0001),
        ("§9.3",  "Q L", "legacy context, pass-through",     context.with_tt(LegacyType::PassThrough).into_bits(),             0x0011_0009),
        ("§9.3",  "Q L", "legacy context, ATS",              context.with_tt(LegacyType::All).into_bits(),                     0x0011_0005),
        ("§9.3",  "Q L", "legacy context, FPD",              ContextLow::new().with_fpd(true).into_bits(),                     0x0000_0002),
        ("§9.3",  "Q L", "legacy context, 48 bits, domain 7", ContextHigh::new().with_aw(2).with_did(7).into_bits(),           0x0000_0702),
        ("§9.4",  "Q L", "scalable context, PDTS 7",         scalable.with_pdts(7).into_bits(),                                0x0010_1e01),
        ("§9.4",  "Q L", "scalable context, DTE PASIDE PRE", scalable.with_dte(true).with_paside(true).with_pre(true).into_bits(), 0x0010_101d),
        ("§9.4",  "S S", "scalable context, HPTE EPTR",      scalable.with_hpte(true).with_eptr(true).into_bits(),             0x0010_1061),
        ("§9.4",  "Q L", "scalable context, RID_PASID, PRIV", ScalableContext1::new().with_rid_pasid(0xabcde).with_rid_priv(true).into_bits(), 0x001a_bcde),
        ("§9.5",  "Q L", "PASID directory entry",            PasidDirectoryEntry::new().with_p(true).with_smptblptr(0x102).into_bits(), 0x0010_2001),
        ("§9.6",  "Q L", "PASID 0: first stage, AW 2",       Pasid0::new().with_p(true).with_pgtt(TranslationType::FIRST_STAGE).with_aw(2).into_bits(), 0x0000_0049),
        ("§9.6",  "Q L", "PASID 0: second stage, AW 2",      Pasid0::new().with_p(true).with_pgtt(TranslationType::SECOND_STAGE).with_aw(2).with_ssptptr(0x110).into_bits(), 0x0011_0089),
        ("§9.6",  "L O", "PASID 0: nested, AW 1, SSADE",     Pasid0::new().with_p(true).with_pgtt(TranslationType::NESTED).with_aw(1).with_ssade(true).into_bits(), 0x0000_02c5),
        ("§9.6",  "Q L", "PASID 0: pass-through",            Pasid0::new().with_p(true).with_pgtt(TranslationType::PASS_THROUGH).into_bits(), 0x0000_0101),
        ("§9.6",  "L O", "PASID 1: DID, PWSNP, PGSNP",       Pasid1::new().with_did(7).with_pwsnp(true).with_pgsnp(true).into_bits(), 0x0180_0007),
        ("§9.6",  "S O", "PASID 1: CD, EMTE, PAT",           Pasid1::new().with_cd(true).with_emte(true).with_pat(0x0007_0406).into_bits(), 0x0007_0406_0600_0000),
        ("§9.6",  "Q L", "PASID 2: 5 levels",                Pasid2::new().with_fspm(1).with_fsptptr(0x120).into_bits(),       0x0012_0004),
        ("§9.6",  "L O", "PASID 2: SRE, WPE, EAFE",          Pasid2::new().with_sre(true).with_wpe(true).with_eafe(true).into_bits(), 0x0000_0091),
        ("§9.9",  "Q L", "IRTE low: vector 51h to APIC 3",   low.with_dst(3 << 8).into_bits(),                                 0x0000_0300_0051_0001),
        ("§9.9",  "Q L", "IRTE low: level, logical, RH",     low.with_tm(true).with_dm(true).with_rh(true).into_bits(),        0x0000_0000_0051_001d),
        ("§9.9",  "Q L", "IRTE low: x2APIC id",              low.with_dst(0x0123_4567).into_bits(),                            0x0123_4567_0051_0001),
        ("§9.9",  "L X", "IRTE low: posted",                 IrteLow::new().with_im(true).into_bits(),                         0x0000_8000),
        ("§9.9",  "Q F", "IRTE high: source 20h, all bits",  IrteHigh::new().with_sid(0x20).with_svt(SourceValidation::SOURCE).with_sq(SourceQualifier::ALL).into_bits(), 0x0004_0020),
        ("§9.9",  "Q F", "IRTE high: buses 2 to 5",          IrteHigh::new().with_sid(0x0205).with_svt(SourceValidation::BUS_RANGE).into_bits(), 0x0008_0205),
        ("§5.1.5.1", "Q L", "I/O APIC entry, index 8007h",   IoapicEntry::new().with_format(true).with_index_low(7).with_index_high(true).with_vector(0x51).into_bits(), 0x000f_0000_0000_0851),
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

fn block(page: u64, log2: u8) -> Block {
    Block {
        first: Iova::new(page << 12),
        order: Order::new(log2).unwrap(),
    }
}

fn pasid(number: u32) -> Pasid {
    Pasid::new(number).unwrap()
}

#[test]
fn descriptors() {
    let source = SourceId::from_bits(0x20);
    let target = DeviceTlbTarget {
        source,
        physical: SourceId::from_bits(0x1238),
        pending: 8,
    };
    let plain = DeviceTlbTarget {
        physical: SourceId::default(),
        pending: 0,
        ..target
    };
    let wait = |fence, drain_page_requests| Descriptor::Wait {
        status: Hpa::new(0x18_1000),
        data: 1,
        fence,
        drain_page_requests,
    };
    #[rustfmt::skip]
    let rows: [(&str, &str, &str, Descriptor, [u64; 2]); 30] = [
        ("§6.5.2.1", "Q L", "context, global",          Descriptor::ContextCache(ContextScope::Global),                        [0x11, 0]),
        ("§6.5.2.1", "Q L", "context, domain 7",        Descriptor::ContextCache(ContextScope::Domain(7)),                     [0x0007_0021, 0]),
        ("§6.5.2.1", "Q L", "context, device 20h",      Descriptor::ContextCache(ContextScope::Device { domain: 7, source }),  [0x0020_0007_0031, 0]),
        ("§6.5.2.2", "L Q", "PASID-cache, global",      Descriptor::PasidCache(PasidScope::Global),                            [0x37, 0]),
        ("§6.5.2.2", "L Q", "PASID-cache, domain 7",    Descriptor::PasidCache(PasidScope::Domain(7)),                         [0x0007_0007, 0]),
        ("§6.5.2.2", "L Q", "PASID-cache, PASID",       Descriptor::PasidCache(PasidScope::Pasid { domain: 7, pasid: pasid(0x12345) }), [0x0001_2345_0007_0017, 0]),
        ("§6.5.2.3", "Q L", "IOTLB, global",            Descriptor::Iotlb(IotlbScope::Global),                                 [0xd2, 0]),
        ("§6.5.2.3", "Q L", "IOTLB, domain 7",          Descriptor::Iotlb(IotlbScope::Domain(7)),                              [0x0007_00e2, 0]),
        ("§6.5.2.3", "Q L", "IOTLB, 2 MiB",             Descriptor::Iotlb(IotlbScope::Pages { domain: 7, block: block(0x200, 9), leaf_only: false }), [0x0007_00f2, 0x0020_0009]),
        ("§6.5.2.3", "Q L", "IOTLB, page, leaves only", Descriptor::Iotlb(IotlbScope::Pages { domain: 7, block: block(5, 0), leaf_only: true }), [0x0007_00f2, 0x5040]),
        ("§6.5.2.4", "L Q", "PASID-IOTLB, PASID",       Descriptor::Iotlb(IotlbScope::Pasid { domain: 7, pasid: pasid(0x12345) }), [0x0001_2345_0007_0026, 0]),
        ("§6.5.2.4", "L Q", "PASID-IOTLB, pages",       Descriptor::Iotlb(IotlbScope::PasidPages { domain: 7, pasid: pasid(1), block: block(4, 2), leaf_only: true }), [0x0000_0001_0007_0036, 0x4042]),
        ("§6.5.2.5", "L X", "Device-TLB, page",         Descriptor::DeviceTlb { target: plain, pasid: None, block: Some(block(5, 0)) }, [0x0020_0000_0003, 0x5000]),
        ("§6.5.2.5", "L X", "Device-TLB, 8 KiB",        Descriptor::DeviceTlb { target: plain, pasid: None, block: Some(block(6, 1)) }, [0x0020_0000_0003, 0x6001]),
        ("§6.5.2.5", "L X", "Device-TLB, 16 KiB",       Descriptor::DeviceTlb { target: plain, pasid: None, block: Some(block(4, 2)) }, [0x0020_0000_0003, 0x5001]),
        ("§6.5.2.5", "L X", "Device-TLB, 2 MiB",        Descriptor::DeviceTlb { target: plain, pasid: None, block: Some(block(0x200, 9)) }, [0x0020_0000_0003, 0x002f_f001]),
        ("§6.5.2.5", "L X", "Device-TLB, 1 GiB",        Descriptor::DeviceTlb { target: plain, pasid: None, block: Some(block(0x4_0000, 18)) }, [0x0020_0000_0003, 0x5fff_f001]),
        ("§6.5.2.5", "L X", "Device-TLB, everything",   Descriptor::DeviceTlb { target: plain, pasid: None, block: None }, [0x0020_0000_0003, 0x7fff_ffff_ffff_f001]),
        ("§6.5.2.5", "S L", "Device-TLB, depth, PFSID", Descriptor::DeviceTlb { target, pasid: None, block: Some(block(5, 0)) }, [0x1230_0020_0008_8003, 0x5000]),
        ("§6.5.2.6", "L Q", "PASID-Device-TLB, page",   Descriptor::DeviceTlb { target: plain, pasid: Some(pasid(0x12345)), block: Some(block(5, 0)) }, [0x0001_2345_0020_0008, 0x5000]),
        ("§6.5.2.6", "L Q", "PASID-Device-TLB, 16 KiB", Descriptor::DeviceTlb { target, pasid: Some(pasid(1)), block: Some(block(4, 2)) }, [0x1230_0001_0020_8088, 0x5800]),
        ("§6.5.2.6", "L Q", "PASID-Device-TLB, all PASIDs", Descriptor::DeviceTlbAllPasids { target: plain }, [0x0000_0000_0020_0008, 0x7fff_ffff_ffff_f801]),
        ("§6.5.2.8", "Q L", "interrupt cache, global",  Descriptor::InterruptCache(None),                                      [0x4, 0]),
        ("§6.5.2.8", "Q L", "interrupt cache, 256 from 100h", Descriptor::InterruptCache(Some(IndexBlock { first: 0x100, mask: 8 })), [0x0100_4000_0014, 0]),
        ("§6.5.2.9", "Q L", "wait, status write",       wait(false, false),                                                    [0x0001_0000_0025, 0x0018_1000]),
        ("§6.5.2.9", "X J", "wait, with fence",         wait(true, false),                                                     [0x0001_0000_0065, 0x0018_1000]),
        ("§6.5.2.9", "S L", "wait, page requests drained", wait(true, true),                                                   [0x0001_0000_00e5, 0x0018_1000]),
        ("§7.6.1",   "L Q", "page group response",      Descriptor::PageGroupResponse { source, pasid: Some(pasid(0x12345)), group: 0x1ff, code: 1 }, [0x0001_2345_0020_1019, 0xff8]),
        ("§7.6.1",   "L Q", "the same without PASID, failure", Descriptor::PageGroupResponse { source, pasid: None, group: 1, code: 15 }, [0x0020_f009, 0x8]),
        ("§6.5.2.7", "S S", "host permissions, global", Descriptor::HostPermissionCache,                                       [0x1a, 0]),
    ];
    for (section, sources, what, descriptor, golden) in rows {
        let encoded = descriptor.encode();
        assert_eq!(
            encoded, golden,
            "{what} ({section}, {sources}): {encoded:x?} is not {golden:x?}"
        );
    }
}
