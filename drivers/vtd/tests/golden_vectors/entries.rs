//! Entries of tables, and what hardware writes.

use crate::int;
use io_pgtable::spec::{FirstStageEntry, SecondStageEntry};
use vtd::page_request::{PageRequest0, PageRequest1};
use vtd::registers::{FrcdHigh, FrcdLow};
use vtd::tables::context::{
    ContextHigh, ContextLow, ScalableContext0, ScalableContext1, TranslationType as LegacyType,
};
use vtd::tables::interrupt::{
    DeliveryMode, IoapicEntry, IrteHigh, IrteLow, RemappableAddress, SourceQualifier,
    SourceValidation,
};
use vtd::tables::pasid::{Pasid0, Pasid1, Pasid2, PasidDirectoryEntry, TranslationType};
use vtd::tables::posted::{PostedControl, PostedHigh, PostedLow};
use vtd::tables::root::RootEntry;
use vtd_golden::{Structure, Vector};

pub(crate) fn encode(v: &Vector) -> Option<Vec<u64>> {
    Some(match v.structure {
        Structure::Root => vec![
            RootEntry::new()
                .with_p(v.is("P"))
                .with_ctp(v.get("CTP"))
                .into_bits(),
        ],
        Structure::LegacyContext => legacy_context(v),
        Structure::ScalableContext => scalable_context(v),
        Structure::PasidDirectory => vec![
            PasidDirectoryEntry::new()
                .with_p(v.is("P"))
                .with_fpd(v.is("FPD"))
                .with_smptblptr(v.get("SMPTBLPTR"))
                .into_bits(),
        ],
        Structure::Pasid => pasid(v),
        Structure::FirstStage => vec![first_stage(v).into_bits()],
        Structure::SecondStage => vec![second_stage(v).into_bits()],
        Structure::RemappedInterrupt => interrupt(v),
        Structure::PostedInterrupt => posted_interrupt(v),
        Structure::PostedDescriptor => vec![
            PostedControl::new()
                .with_on(v.is("ON"))
                .with_sn(v.is("SN"))
                .with_nv(int(v, "NV"))
                .with_ndst(int(v, "NDST"))
                .into_bits(),
        ],
        Structure::RemappableAddress => vec![remappable_address(v)],
        Structure::IoapicEntry => vec![ioapic_entry(v).into_bits()],
        Structure::FaultRecord => fault_record(v),
        Structure::PageRequest => page_request(v),
        _ => return None,
    })
}

fn legacy_context(v: &Vector) -> Vec<u64> {
    let low = ContextLow::new()
        .with_p(v.is("P"))
        .with_fpd(v.is("FPD"))
        .with_tt(match v.get("TT") {
            0 => LegacyType::Untranslated,
            1 => LegacyType::All,
            _ => LegacyType::PassThrough,
        })
        .with_ssptptr(v.get("SSPTPTR"));
    let high = ContextHigh::new()
        .with_aw(int(v, "AW"))
        .with_did(int(v, "DID"));
    vec![low.into_bits(), high.into_bits()]
}

fn scalable_context(v: &Vector) -> Vec<u64> {
    let low = ScalableContext0::new()
        .with_p(v.is("P"))
        .with_fpd(v.is("FPD"))
        .with_dte(v.is("DTE"))
        .with_paside(v.is("PASIDE"))
        .with_pre(v.is("PRE"))
        .with_pdts(int(v, "PDTS"))
        .with_pasiddirptr(v.get("PASIDDIRPTR"));
    let high = ScalableContext1::new()
        .with_rid_pasid(int(v, "RID_PASID"))
        .with_rid_priv(v.is("RID_PRIV"));
    vec![low.into_bits(), high.into_bits()]
}

fn pasid(v: &Vector) -> Vec<u64> {
    let word0 = Pasid0::new()
        .with_p(v.is("P"))
        .with_fpd(v.is("FPD"))
        .with_aw(int(v, "AW"))
        .with_pgtt(TranslationType(int(v, "PGTT")))
        .with_ssptptr(v.get("SSPTPTR"));
    let word1 = Pasid1::new()
        .with_did(int(v, "DID"))
        .with_pwsnp(v.is("PWSNP"))
        .with_pgsnp(v.is("PGSNP"));
    let word2 = Pasid2::new()
        .with_fspm(int(v, "FSPM"))
        .with_fsptptr(v.get("FSPTPTR"));
    vec![word0.into_bits(), word1.into_bits(), word2.into_bits()]
}

fn first_stage(v: &Vector) -> FirstStageEntry {
    FirstStageEntry::new()
        .with_present(v.is("P"))
        .with_writable(v.is("RW"))
        .with_user(v.is("US"))
        .with_accessed(v.is("A"))
        .with_dirty(v.is("D"))
        .with_page_size(v.is("PS"))
        .with_frame(v.get("ADDR"))
}

fn second_stage(v: &Vector) -> SecondStageEntry {
    SecondStageEntry::new()
        .with_read(v.is("R"))
        .with_write(v.is("W"))
        .with_page_size(v.is("PS"))
        .with_accessed(v.is("A"))
        .with_dirty(v.is("D"))
        .with_snoop(v.is("SNP"))
        .with_frame(v.get("ADDR"))
}

fn interrupt(v: &Vector) -> Vec<u64> {
    let low = IrteLow::new()
        .with_p(v.is("P"))
        .with_fpd(v.is("FPD"))
        .with_dm(v.is("DM"))
        .with_rh(v.is("RH"))
        .with_tm(v.is("TM"))
        .with_dlm(DeliveryMode(int(v, "DLM")))
        .with_v(int(v, "V"))
        .with_dst(int(v, "DST"));
    let high = IrteHigh::new()
        .with_sid(int(v, "SID"))
        .with_sq(SourceQualifier(int(v, "SQ")))
        .with_svt(SourceValidation(int(v, "SVT")));
    vec![low.into_bits(), high.into_bits()]
}

fn posted_interrupt(v: &Vector) -> Vec<u64> {
    let descriptor = v.get("PDA");
    let low = PostedLow::new()
        .with_p(v.is("P"))
        .with_fpd(v.is("FPD"))
        .with_urg(v.is("URG"))
        .with_im(v.is("IM"))
        .with_vv(int(v, "V"))
        .with_pda_low((descriptor & 0xffff_ffff) as u32 >> 6);
    let high = PostedHigh::new()
        .with_sid(int(v, "SID"))
        .with_sq(SourceQualifier(int(v, "SQ")))
        .with_svt(SourceValidation(int(v, "SVT")))
        .with_pda_high((descriptor >> 32) as u32);
    vec![low.into_bits(), high.into_bits()]
}

/// The driver composes addresses with subhandles only; the others differ in one bit.
fn remappable_address(v: &Vector) -> u64 {
    let address = RemappableAddress::with_subhandle(int(v, "HANDLE"));
    address.with_shv(v.is("SHV")).into_bits().into()
}

fn ioapic_entry(v: &Vector) -> IoapicEntry {
    let index: u16 = int(v, "INDEX");
    IoapicEntry::new()
        .with_format(true)
        .with_vector(int(v, "V"))
        .with_index_low(index & 0x7fff)
        .with_index_high(index >> 15 != 0)
        .with_mask(v.is("MASK"))
        .with_level(v.is("TM"))
        .with_active_low(v.is("INTPOL"))
}

fn fault_record(v: &Vector) -> Vec<u64> {
    let low = FrcdLow::new().with_fi(v.get("FI") >> 12);
    let high = FrcdHigh::new()
        .with_f(v.is("F"))
        .with_t1(v.is("T1"))
        .with_fr(int(v, "FR"))
        .with_sid(int(v, "SID"))
        .with_pp(v.is("PP"))
        .with_pv(int(v, "PV"));
    vec![low.into_bits(), high.into_bits()]
}

fn page_request(v: &Vector) -> Vec<u64> {
    let word0 = PageRequest0::new()
        .with_kind(int(v, "TYPE"))
        .with_pp(v.is("PASID_PRESENT"))
        .with_rid(int(v, "RID"))
        .with_pasid(int(v, "PASID"))
        .with_exr(v.is("EXE"))
        .with_pmr(v.is("PRIV"));
    let word1 = PageRequest1::new()
        .with_rdr(v.is("RD"))
        .with_wrr(v.is("WR"))
        .with_lpig(v.is("LPIG"))
        .with_prgi(int(v, "PRGI"))
        .with_addr(v.get("ADDR"));
    vec![word0.into_bits(), word1.into_bits()]
}
