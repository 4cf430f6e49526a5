//! Registers.

use crate::int;
use vtd::registers::*;
use vtd_golden::{Structure, Vector};

pub(crate) fn encode(vector: &Vector) -> Option<Vec<u64>> {
    let v = vector;
    let word: u64 = match vector.structure {
        Structure::Ver => Ver::new()
            .with_min(int(v, "MIN"))
            .with_max(int(v, "MAX"))
            .into_bits()
            .into(),
        Structure::Cap => cap(v).into_bits(),
        Structure::Ecap => ecap(v).into_bits(),
        Structure::Gcmd => gcmd(v).into_bits().into(),
        Structure::Gsts => gsts(v).into_bits().into(),
        Structure::Rtaddr => Rtaddr::new()
            .with_ttm(match v.get("TTM") {
                0 => TableMode::Legacy,
                1 => TableMode::Scalable,
                _ => TableMode::Abort,
            })
            .with_rta(v.get("RTA"))
            .into_bits(),
        Structure::Ccmd => Ccmd::new()
            .with_did(int(v, "DID"))
            .with_sid(int(v, "SID"))
            .with_fm(int(v, "FM"))
            .with_cirg(int(v, "CIRG"))
            .with_icc(v.is("ICC"))
            .into_bits(),
        Structure::Iotlb => Iotlb::new()
            .with_did(int(v, "DID"))
            .with_dw(v.is("DW"))
            .with_dr(v.is("DR"))
            .with_iirg(int(v, "IIRG"))
            .with_ivt(v.is("IVT"))
            .into_bits(),
        Structure::Iva => Iva::new()
            .with_am(int(v, "AM"))
            .with_ih(v.is("IH"))
            .with_addr(v.get("ADDR"))
            .into_bits(),
        Structure::Fsts => Fsts::new()
            .with_pfo(v.is("PFO"))
            .with_ppf(v.is("PPF"))
            .with_iqe(v.is("IQE"))
            .with_ice(v.is("ICE"))
            .with_ite(v.is("ITE"))
            .with_fri(int(v, "FRI"))
            .into_bits()
            .into(),
        Structure::Fectl => Fectl::new()
            .with_im(v.is("IM"))
            .with_ip(v.is("IP"))
            .into_bits()
            .into(),
        Structure::Pmen => Pmen::new()
            .with_epm(v.is("EPM"))
            .with_prs(v.is("PRS"))
            .into_bits()
            .into(),
        Structure::Iqh => Iqh::new().with_qh(int(v, "QH")).into_bits(),
        Structure::Iqt => Iqt::new().with_qt(int(v, "QT")).into_bits(),
        Structure::Iqa => Iqa::new()
            .with_qs(int(v, "QS"))
            .with_dw(v.is("DW"))
            .with_iqa(v.get("IQA"))
            .into_bits(),
        Structure::Ics => Ics::new().with_iwc(v.is("IWC")).into_bits().into(),
        Structure::Iectl => Iectl::new()
            .with_im(v.is("IM"))
            .with_ip(v.is("IP"))
            .into_bits()
            .into(),
        Structure::Iqercd => Iqercd::new()
            .with_iqei(int(v, "IQEI"))
            .with_itesid(int(v, "ITESID"))
            .with_icesid(int(v, "ICESID"))
            .into_bits(),
        Structure::Irta => Irta::new()
            .with_s(int(v, "S"))
            .with_eime(v.is("EIME"))
            .with_irta(v.get("IRTA"))
            .into_bits(),
        Structure::Pqh => Pqh::new().with_pqh(int(v, "PQH")).into_bits(),
        Structure::Pqt => Pqt::new().with_pqt(int(v, "PQT")).into_bits(),
        Structure::Pectl => Pectl::new()
            .with_im(v.is("IM"))
            .with_ip(v.is("IP"))
            .into_bits()
            .into(),
        Structure::Pqa => Pqa::new()
            .with_pqs(int(v, "PQS"))
            .with_pqa(v.get("PQA"))
            .into_bits(),
        Structure::Prs => Prs::new()
            .with_ppr(v.is("PPR"))
            .with_pro(v.is("PRO"))
            .into_bits()
            .into(),
        _ => return None,
    };
    Some(vec![word])
}

fn cap(v: &Vector) -> Cap {
    Cap::new()
        .with_nd(int(v, "ND"))
        .with_rwbf(v.is("RWBF"))
        .with_plmr(v.is("PLMR"))
        .with_phmr(v.is("PHMR"))
        .with_cm(v.is("CM"))
        .with_sagaw(int(v, "SAGAW"))
        .with_mgaw(int(v, "MGAW"))
        .with_zlr(v.is("ZLR"))
        .with_fro(int(v, "FRO"))
        .with_sslps(int(v, "SSLPS"))
        .with_psi(v.is("PSI"))
        .with_nfr(int(v, "NFR"))
        .with_mamv(int(v, "MAMV"))
        .with_dwd(v.is("DWD"))
        .with_drd(v.is("DRD"))
        .with_fs1gp(v.is("FS1GP"))
        .with_pi(v.is("PI"))
        .with_fs5lp(v.is("FS5LP"))
        .with_ecmds(v.is("ECMDS"))
        .with_esirtps(v.is("ESIRTPS"))
        .with_esrtps(v.is("ESRTPS"))
}

fn ecap(v: &Vector) -> Ecap {
    Ecap::new()
        .with_c(v.is("C"))
        .with_qi(v.is("QI"))
        .with_dt(v.is("DT"))
        .with_ir(v.is("IR"))
        .with_eim(v.is("EIM"))
        .with_pt(v.is("PT"))
        .with_sc(v.is("SC"))
        .with_iro(int(v, "IRO"))
        .with_mhmv(int(v, "MHMV"))
        .with_nest(v.is("NEST"))
        .with_prs(v.is("PRS"))
        .with_srs(v.is("SRS"))
        .with_nwfs(v.is("NWFS"))
        .with_pss(int(v, "PSS"))
        .with_pasid(v.is("PASID"))
        .with_dit(v.is("DIT"))
        .with_pds(v.is("PDS"))
        .with_smts(v.is("SMTS"))
        .with_ssts(v.is("SSTS"))
        .with_fsts(v.is("FSTS"))
        .with_smpwcs(v.is("SMPWCS"))
        .with_rps(v.is("RPS"))
}

fn gcmd(v: &Vector) -> Gcmd {
    Gcmd::new()
        .with_te(v.is("TE"))
        .with_srtp(v.is("SRTP"))
        .with_wbf(v.is("WBF"))
        .with_qie(v.is("QIE"))
        .with_ire(v.is("IRE"))
        .with_sirtp(v.is("SIRTP"))
        .with_cfi(v.is("CFI"))
}

fn gsts(v: &Vector) -> Gsts {
    Gsts::new()
        .with_tes(v.is("TES"))
        .with_rtps(v.is("RTPS"))
        .with_wbfs(v.is("WBFS"))
        .with_qies(v.is("QIES"))
        .with_ires(v.is("IRES"))
        .with_irtps(v.is("IRTPS"))
        .with_cfis(v.is("CFIS"))
}
