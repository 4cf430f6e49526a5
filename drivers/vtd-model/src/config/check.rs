//! What a configuration may not say at the same time.

use super::Config;
use std::fmt;

/// A configuration that no unit may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The section that is broken.
    pub section: &'static str,
    /// What contradicts what.
    pub rule: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.rule, self.section)
    }
}

impl std::error::Error for ConfigError {}

const CAP: &str = "§11.4.2";
const ECAP: &str = "§11.4.3";

impl Config {
    /// Refuses a configuration that contradicts itself, with the section that it breaks.
    ///
    /// # Errors
    /// The first rule that is broken, in the order of the registers.
    pub fn check(&self) -> Result<(), ConfigError> {
        let broken = [
            self.numbers(),
            self.capability_rules(),
            self.extended_rules(),
            self.counters(),
            self.layout(),
        ];
        match broken.into_iter().flatten().next() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn numbers(&self) -> Option<ConfigError> {
        first(
            CAP,
            &[
                (
                    !(4..=16).contains(&self.domain_bits) || !self.domain_bits.is_multiple_of(2),
                    "a domain id has 4, 6, … 16 bits (ND)",
                ),
                (
                    !(32..=52).contains(&self.host_bits),
                    "the host address width lies between 32 and 52 bits",
                ),
                (
                    self.guest_bits < self.host_bits,
                    "MGAW is at least the host address width",
                ),
                (self.guest_bits > 57, "MGAW is at most 57 bits"),
                (
                    !(1..=256).contains(&self.fault_records),
                    "there are 1 to 256 fault records (NFR)",
                ),
                (self.max_address_mask > 52, "MAMV is at most 52"),
                (
                    self.major == 0 || self.major > 15,
                    "VER.MAX has 4 bits and is not 0",
                ),
            ],
        )
    }

    fn capability_rules(&self) -> Option<ConfigError> {
        let no_depth = !(self.depths.three || self.depths.four || self.depths.five);
        first(
            CAP,
            &[
                (
                    self.write_buffer_flush && self.scalable_mode,
                    "RWBF is 0 if SMTS is 1",
                ),
                (
                    self.second_stage_1g && !self.second_stage_2m,
                    "SSLPS is 0000, 0001 or 0011",
                ),
                (
                    self.first_stage_1g && !self.first_stage,
                    "FS1GP is 0 if FSTS is 0",
                ),
                (
                    self.first_stage_5_level && !self.first_stage,
                    "FS5LP is 0 if FSTS is 0",
                ),
                (
                    self.posted_interrupts && !self.interrupt_remapping,
                    "PI is 0 if IR is 0",
                ),
                (
                    self.major >= 2 && !self.draining,
                    "DRD and DWD are 1 from version 2 on",
                ),
                (
                    self.major >= 6 && !self.second_stage && !no_depth,
                    "SAGAW is 0 without SSTS from version 6 on",
                ),
                (
                    no_depth && (self.second_stage || self.major < 6),
                    "SAGAW names a depth where there is a second stage",
                ),
            ],
        )
    }

    fn extended_rules(&self) -> Option<ConfigError> {
        let pasid = self.pasid_bits.is_some();
        first(
            ECAP,
            &[
                (self.device_tlb && !self.queued_invalidation, "DT needs QI"),
                (
                    self.interrupt_remapping && !self.queued_invalidation,
                    "IR needs QI",
                ),
                (
                    self.scalable_mode && !self.queued_invalidation,
                    "SMTS needs QI",
                ),
                (self.x2apic && !self.interrupt_remapping, "EIM needs IR"),
                (self.x2apic_required && !self.x2apic, "EIMER needs EIM"),
                (
                    self.remapping_required && !self.interrupt_remapping,
                    "IRREQ needs IR",
                ),
                (
                    self.max_handle_mask > 15
                        || (self.max_handle_mask > 0 && !self.interrupt_remapping),
                    "MHMV is 0 if IR is 0",
                ),
                (self.memory_type && !self.scalable_mode, "MTS needs SMTS"),
                (self.first_stage && !self.scalable_mode, "FSTS needs SMTS"),
                (
                    self.nested && !(self.first_stage && self.second_stage),
                    "NEST needs FSTS and SSTS",
                ),
                (self.nested && !self.scalable_mode, "NEST needs SMTS"),
                (
                    self.page_requests && !(self.device_tlb && self.scalable_mode),
                    "PRS needs DT and SMTS",
                ),
                (
                    self.supervisor_requests && !self.scalable_mode,
                    "SRS needs SMTS",
                ),
                (
                    self.rid_priv && !self.supervisor_requests,
                    "RPRIVS needs SRS",
                ),
                (self.no_write_flag && !self.device_tlb, "NWFS needs DT"),
                (
                    self.walk_coherency && !self.scalable_mode,
                    "SMPWCS needs SMTS",
                ),
                (
                    self.extended_accessed && !(self.first_stage && self.walk_coherency),
                    "EAFS needs FSTS and SMPWCS",
                ),
                (
                    self.second_stage_dirty && !self.walk_coherency,
                    "SSADS needs SMPWCS",
                ),
                (pasid && !self.scalable_mode, "PASID needs SMTS"),
                (
                    self.pasid_bits
                        .is_some_and(|bits| !(1..=20).contains(&bits)),
                    "a PASID has 1 to 20 bits (PSS)",
                ),
                (
                    self.invalidation_throttle && !self.device_tlb,
                    "DIT needs DT",
                ),
                (self.page_request_drain && !self.device_tlb, "PDS needs DT"),
                (self.rid_pasid && !self.scalable_mode, "RPS needs SMTS"),
                (
                    self.pasid_in_translated && !(self.device_tlb && pasid),
                    "PTRS needs DT and PASID",
                ),
                (
                    self.second_stage_io_rights && !self.second_stage,
                    "SSIRWS needs SSTS",
                ),
                (self.stop_markers && !self.page_requests, "SMS needs PRS"),
                (
                    self.host_permissions && !(self.scalable_mode && self.device_tlb),
                    "HPTS needs SMTS and DT",
                ),
                (
                    self.host_permissions_1g && !self.host_permissions,
                    "HPT1GPS needs HPTS",
                ),
                (
                    self.perfmon.is_some() && !self.enhanced_commands,
                    "PMS needs ECMDS",
                ),
            ],
        )
    }

    fn counters(&self) -> Option<ConfigError> {
        let perfmon = self.perfmon.as_ref()?;
        first(
            "§11.4.13.2",
            &[
                (
                    !(1..=64).contains(&perfmon.counters),
                    "there are 1 to 64 counters (NCNTR)",
                ),
                (
                    !(1..=64).contains(&perfmon.width),
                    "a counter has 1 to 64 bits (CW)",
                ),
            ],
        )
    }

    fn layout(&self) -> Option<ConfigError> {
        let faults = 16 * u32::from(self.fault_offset);
        let faults_end = faults + 16 * u32::from(self.fault_records);
        let iotlb = 16 * u32::from(self.iotlb_offset);
        let overlap = iotlb < faults_end && faults < iotlb + 16;
        let fixed = [
            (true, 0x000..0x0f0_u32),
            (self.memory_type, 0x100..0x220),
            (self.perfmon.is_some(), 0x300..0x400),
            (self.enhanced_commands, 0x400..0x450),
            (self.virtual_commands, 0xe00..0xe38),
        ];
        let in_use = |start: u32, end: u32| {
            let meets = |range: &std::ops::Range<u32>| start < range.end && range.start < end;
            fixed.iter().any(|(there, range)| *there && meets(range))
        };
        first(
            "§11.1",
            &[
                (
                    self.fault_offset > 0x3ff || self.iotlb_offset > 0x3ff,
                    "FRO and IRO have 10 bits",
                ),
                (
                    in_use(faults, faults_end) || in_use(iotlb, iotlb + 16),
                    "FRO and IRO name unused places",
                ),
                (overlap, "fault records and IOTLB registers do not overlap"),
            ],
        )
    }
}

fn first(section: &'static str, rules: &[(bool, &'static str)]) -> Option<ConfigError> {
    let broken = rules.iter().find(|(broken, _)| *broken)?;
    Some(ConfigError {
        section,
        rule: broken.1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Perfmon;

    type Edit = fn(&mut Config);

    #[test]
    fn a_preset_is_accepted_and_each_contradiction_refused() {
        let cases: &[(&str, Edit)] = &[
            ("RWBF", |c| c.write_buffer_flush = true),
            ("SSLPS", |c| c.second_stage_2m = false),
            ("FS1GP", |c| {
                c.first_stage = false;
                c.nested = false;
                c.extended_accessed = false;
                c.first_stage_5_level = false
            }),
            ("PI is", |c| {
                c.interrupt_remapping = false;
                c.x2apic = false;
                c.max_handle_mask = 0
            }),
            ("DRD", |c| c.draining = false),
            ("DT needs", |c| c.queued_invalidation = false),
            ("EIM needs", |c| {
                c.interrupt_remapping = false;
                c.posted_interrupts = false
            }),
            ("EIMER", |c| {
                c.x2apic = false;
                c.x2apic_required = true
            }),
            ("MHMV", |c| c.max_handle_mask = 16),
            ("NEST", |c| {
                c.second_stage = false;
                c.second_stage_io_rights = false
            }),
            ("PRS", |c| {
                c.device_tlb = false;
                c.no_write_flag = false;
                c.pasid_in_translated = false;
                c.page_request_drain = false
            }),
            ("RPRIVS", |c| c.supervisor_requests = false),
            ("NWFS", |c| {
                c.device_tlb = false;
                c.page_requests = false
            }),
            ("EAFS", |c| c.walk_coherency = false),
            ("SSADS", |c| {
                c.walk_coherency = false;
                c.extended_accessed = false
            }),
            ("PSS", |c| c.pasid_bits = Some(21)),
            ("PTRS", |c| c.pasid_bits = None),
            ("SMS", |c| c.page_requests = false),
            ("HPTS needs", |c| {
                c.device_tlb = false;
                c.page_requests = false;
                c.stop_markers = false;
                c.no_write_flag = false;
                c.pasid_in_translated = false;
                c.page_request_drain = false
            }),
            ("PMS", |c| c.enhanced_commands = false),
            ("NCNTR", |c| {
                c.perfmon = Some(Perfmon {
                    counters: 65,
                    ..Perfmon::default()
                })
            }),
            ("HPT1GPS", |c| c.host_permissions = false),
            ("4, 6", |c| c.domain_bits = 5),
            ("MGAW is at least", |c| c.guest_bits = 40),
            ("1 to 256", |c| c.fault_records = 0),
            ("overlap", |c| c.iotlb_offset = c.fault_offset),
            ("unused", |c| c.iotlb_offset = 3),
            ("unused", |c| c.iotlb_offset = 0x44),
        ];
        assert_eq!(Config::everything().check(), Ok(()));
        for (rule, edit) in cases {
            let mut config = Config::everything();
            edit(&mut config);
            let error = config.check().expect_err(rule);
            assert!(error.rule.contains(rule), "{rule}: got {error}");
            assert!(error.section.starts_with('§'));
        }
    }
}
