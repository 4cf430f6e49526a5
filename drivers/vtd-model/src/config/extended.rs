//! ECAP, §11.4.3.

use super::Config;
use bitfield_struct::bitfield;

#[bitfield(u64)]
pub(super) struct ExtendedCapability {
    c: bool,
    qi: bool,
    dt: bool,
    ir: bool,
    eim: bool,
    __: bool,
    pt: bool,
    sc: bool,
    #[bits(10)]
    iro: u16,
    #[bits(2)]
    __: u8,
    #[bits(4)]
    mhmv: u8,
    __: bool,
    mts: bool,
    nest: bool,
    #[bits(2)]
    __: u8,
    prs: bool,
    ers: bool,
    srs: bool,
    __: bool,
    nwfs: bool,
    eafs: bool,
    #[bits(5)]
    pss: u8,
    pasid: bool,
    dit: bool,
    pds: bool,
    smts: bool,
    vcs: bool,
    ssads: bool,
    ssts: bool,
    fsts: bool,
    smpwcs: bool,
    rps: bool,
    tdxcs: bool,
    pms: bool,
    adms: bool,
    rprivs: bool,
    __: bool,
    hpts: bool,
    ptrs: bool,
    ssirws: bool,
    sms: bool,
    hpt1gps: bool,
    rdts: bool,
    eimer: bool,
    irreq: bool,
    __: bool,
}

impl ExtendedCapability {
    pub(super) fn of(config: &Config) -> Self {
        Self::new()
            .with_c(config.coherent)
            .with_qi(config.queued_invalidation)
            .with_dt(config.device_tlb)
            .with_ir(config.interrupt_remapping)
            .with_eim(config.x2apic)
            .with_pt(config.pass_through)
            .with_sc(config.snoop_control)
            .with_iro(config.iotlb_offset & 0x3ff)
            .with_mhmv(config.max_handle_mask & 0xf)
            .with_mts(config.memory_type)
            .with_nest(config.nested)
            .with_prs(config.page_requests)
            .with_srs(config.supervisor_requests)
            .with_nwfs(config.no_write_flag)
            .with_eafs(config.extended_accessed)
            .with_pss(
                config
                    .pasid_bits
                    .map_or(0, |bits| bits.wrapping_sub(1) & 0x1f),
            )
            .with_pasid(config.pasid_bits.is_some())
            .with_dit(config.invalidation_throttle)
            .with_pds(config.page_request_drain)
            .with_smts(config.scalable_mode)
            .with_vcs(config.virtual_commands)
            .with_ssads(config.second_stage_dirty)
            .with_ssts(config.second_stage)
            .with_fsts(config.first_stage)
            .with_smpwcs(config.walk_coherency)
            .with_rps(config.rid_pasid)
            .with_pms(config.perfmon.is_some())
            .with_adms(config.abort_dma)
            .with_rprivs(config.rid_priv)
            .with_hpts(config.host_permissions)
            .with_ptrs(config.pasid_in_translated)
            .with_ssirws(config.second_stage_io_rights)
            .with_sms(config.stop_markers)
            .with_hpt1gps(config.host_permissions_1g)
            .with_eimer(config.x2apic_required)
            .with_irreq(config.remapping_required)
    }
}
