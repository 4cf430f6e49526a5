//! CAP, §11.4.2.

use super::Config;
use bitfield_struct::bitfield;

#[bitfield(u64)]
pub(super) struct Capability {
    #[bits(3)]
    number_of_domains: u8,
    __: bool,
    rwbf: bool,
    plmr: bool,
    phmr: bool,
    cm: bool,
    #[bits(5)]
    sagaw: u8,
    #[bits(3)]
    __: u8,
    #[bits(6)]
    mgaw: u8,
    zlr: bool,
    __: bool,
    #[bits(10)]
    fro: u16,
    #[bits(4)]
    sslps: u8,
    __: bool,
    psi: bool,
    #[bits(8)]
    nfr: u8,
    #[bits(6)]
    mamv: u8,
    dwd: bool,
    drd: bool,
    fs1gp: bool,
    #[bits(2)]
    __: u8,
    pi: bool,
    fs5lp: bool,
    ecmds: bool,
    esirtps: bool,
    esrtps: bool,
}

impl Capability {
    pub(super) fn of(config: &Config) -> Self {
        let depths = config.depths;
        let sagaw =
            u8::from(depths.three) << 1 | u8::from(depths.four) << 2 | u8::from(depths.five) << 3;
        let sslps = u8::from(config.second_stage_2m) | u8::from(config.second_stage_1g) << 1;
        Self::new()
            .with_number_of_domains((config.domain_bits.saturating_sub(4) / 2) & 7)
            .with_rwbf(config.write_buffer_flush)
            .with_plmr(config.protected_low)
            .with_phmr(config.protected_high)
            .with_cm(config.caching_mode)
            .with_sagaw(sagaw)
            .with_mgaw(config.guest_bits.wrapping_sub(1) & 0x3f)
            .with_zlr(config.zero_length_read)
            .with_fro(config.fault_offset & 0x3ff)
            .with_sslps(sslps)
            .with_psi(config.page_selective)
            .with_nfr(config.fault_records.wrapping_sub(1) as u8)
            .with_mamv(config.max_address_mask & 0x3f)
            .with_dwd(config.draining)
            .with_drd(config.draining)
            .with_fs1gp(config.first_stage_1g)
            .with_pi(config.posted_interrupts)
            .with_fs5lp(config.first_stage_5_level)
            .with_ecmds(config.enhanced_commands)
            .with_esirtps(config.sirtp_invalidates)
            .with_esrtps(config.srtp_invalidates)
    }
}
