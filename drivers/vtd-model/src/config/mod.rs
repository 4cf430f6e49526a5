//! What a unit can do: CAP (§11.4.2), ECAP (§11.4.3) and VER (§11.4.1), composed from typed
//! fields.
//!
//! A [`Config`] is plain data that a test edits; [`Config::check`] refuses what contradicts
//! itself, naming the section, and a machine is built only from checked configurations.

mod capability;
mod check;
mod extended;
mod perfmon;
mod presets;

pub use check::ConfigError;
pub use perfmon::Perfmon;
pub(crate) use perfmon::{EVENTS, PerfmonPlaces, STRIDE, WITH_LEVEL, WITH_TYPE};

/// Second-stage table depths that a unit walks (CAP.SAGAW, §11.4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Depths {
    /// 3 levels, 39-bit input addresses.
    pub three: bool,
    /// 4 levels, 48-bit input addresses.
    pub four: bool,
    /// 5 levels, 57-bit input addresses.
    pub five: bool,
}

impl Depths {
    /// Whether tables of `levels` levels may be walked.
    pub fn allows(self, levels: u8) -> bool {
        match levels {
            3 => self.three,
            4 => self.four,
            5 => self.five,
            _ => false,
        }
    }
}

/// The capabilities of one remapping unit.
///
/// Field by field what §11.4.1 to §11.4.3 report; the comment gives the field's name there.
/// Start from a preset ([`Config::legacy`], [`Config::scalable`], …) and change what the
/// test is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// VER.MAX: rules change at 2, 6 and 8.
    pub major: u8,
    /// Host address width in bits: the DMAR table's value, not a register's.
    pub host_bits: u8,
    /// Bits of a domain id: 4, 6 … 16 (CAP.ND).
    pub domain_bits: u8,
    /// CAP.RWBF: software must flush the write buffer.
    pub write_buffer_flush: bool,
    /// CAP.PLMR: the protected low-memory region registers exist.
    pub protected_low: bool,
    /// CAP.PHMR: the protected high-memory region registers exist.
    pub protected_high: bool,
    /// CAP.CM: not-present and faulting entries may be cached.
    pub caching_mode: bool,
    /// CAP.SAGAW.
    pub depths: Depths,
    /// CAP.MGAW plus one: input address bits of the second stage.
    pub guest_bits: u8,
    /// CAP.ZLR: zero-length reads of write-only pages succeed.
    pub zero_length_read: bool,
    /// CAP.FRO: fault records begin at 16 times this.
    pub fault_offset: u16,
    /// CAP.NFR plus one: 1 to 256 fault records.
    pub fault_records: u16,
    /// Faults of a requester that has a pending record are dropped (§7.2.1, optional).
    pub fault_compression: bool,
    /// CAP.SSLPS bit 0: 2 MiB second-stage leaves.
    pub second_stage_2m: bool,
    /// CAP.SSLPS bit 1: 1 GiB second-stage leaves.
    pub second_stage_1g: bool,
    /// CAP.PSI: page-selective IOTLB invalidation.
    pub page_selective: bool,
    /// CAP.MAMV: the largest address mask of such an invalidation.
    pub max_address_mask: u8,
    /// CAP.DWD and CAP.DRD: drains when asked (always from VER.MAX 2 on).
    pub draining: bool,
    /// CAP.FS1GP: 1 GiB first-stage leaves.
    pub first_stage_1g: bool,
    /// CAP.FS5LP: 5-level first stage.
    pub first_stage_5_level: bool,
    /// CAP.PI: posted interrupts.
    pub posted_interrupts: bool,
    /// CAP.ESIRTPS: setting the interrupt table pointer invalidates by itself.
    pub sirtp_invalidates: bool,
    /// CAP.ESRTPS: setting the root table pointer invalidates by itself.
    pub srtp_invalidates: bool,
    /// ECAP.C: table reads snoop the processor's caches.
    pub coherent: bool,
    /// ECAP.QI.
    pub queued_invalidation: bool,
    /// ECAP.DT.
    pub device_tlb: bool,
    /// ECAP.IR.
    pub interrupt_remapping: bool,
    /// ECAP.EIM: 32-bit APIC ids.
    pub x2apic: bool,
    /// ECAP.EIMER: only 32-bit APIC ids work.
    pub x2apic_required: bool,
    /// ECAP.IRREQ: interrupts are blocked while remapping is off.
    pub remapping_required: bool,
    /// ECAP.PT.
    pub pass_through: bool,
    /// ECAP.SC.
    pub snoop_control: bool,
    /// ECAP.IRO: IVA and IOTLB begin at 16 times this.
    pub iotlb_offset: u16,
    /// ECAP.MHMV: the largest index mask of an interrupt entry invalidation.
    pub max_handle_mask: u8,
    /// ECAP.MTS.
    pub memory_type: bool,
    /// ECAP.NEST.
    pub nested: bool,
    /// ECAP.PRS.
    pub page_requests: bool,
    /// ECAP.SRS.
    pub supervisor_requests: bool,
    /// ECAP.NWFS.
    pub no_write_flag: bool,
    /// ECAP.EAFS.
    pub extended_accessed: bool,
    /// ECAP.PASID and PSS plus one: bits of a PASID, if requests may carry one.
    pub pasid_bits: Option<u8>,
    /// ECAP.DIT.
    pub invalidation_throttle: bool,
    /// ECAP.PDS.
    pub page_request_drain: bool,
    /// ECAP.SMTS.
    pub scalable_mode: bool,
    /// ECAP.SSADS.
    pub second_stage_dirty: bool,
    /// ECAP.SSTS.
    pub second_stage: bool,
    /// ECAP.FSTS.
    pub first_stage: bool,
    /// ECAP.SMPWCS.
    pub walk_coherency: bool,
    /// ECAP.RPS.
    pub rid_pasid: bool,
    /// ECAP.RPRIVS.
    pub rid_priv: bool,
    /// ECAP.ADMS.
    pub abort_dma: bool,
    /// ECAP.PTRS.
    pub pasid_in_translated: bool,
    /// ECAP.SSIRWS.
    pub second_stage_io_rights: bool,
    /// ECAP.SMS.
    pub stop_markers: bool,
    /// ECAP.HPTS: translated requests are checked in host permission tables (§4.2.4).
    pub host_permissions: bool,
    /// ECAP.HPT1GPS: 1 GiB pages in host permission tables.
    pub host_permissions_1g: bool,
    /// CAP.ECMDS: the enhanced command registers exist.
    pub enhanced_commands: bool,
    /// ECAP.PMS: counters of performance monitoring.
    pub perfmon: Option<Perfmon>,
    /// ECAP.VCS: virtual commands, which only emulations have.
    pub virtual_commands: bool,
}

impl Config {
    /// VER (§11.4.1); the minor number is 0.
    pub fn version(&self) -> u32 {
        u32::from(self.major & 0xf) << 4
    }

    /// CAP (§11.4.2).
    pub fn capability(&self) -> u64 {
        capability::Capability::of(self).into_bits()
    }

    /// ECAP (§11.4.3).
    pub fn extended_capability(&self) -> u64 {
        extended::ExtendedCapability::of(self).into_bits()
    }

    /// Bytes of register space: whole pages that hold the fault records and the IOTLB
    /// registers (§11.1).
    pub fn register_bytes(&self) -> usize {
        let faults = 16 * (usize::from(self.fault_offset) + usize::from(self.fault_records));
        let iotlb = 16 * (usize::from(self.iotlb_offset) + 1);
        let perfmon = self.perfmon_places().map_or(0, |places| places.end);
        faults
            .max(iotlb)
            .max(perfmon)
            .max(0x1000)
            .next_multiple_of(0x1000)
            .next_power_of_two()
    }

    /// PERFCAP (§11.4.13.2).
    pub fn performance_capability(&self) -> u64 {
        self.perfmon.as_ref().map_or(0, |perfmon| {
            perfmon::PerformanceCapability::of(perfmon).into_bits()
        })
    }

    /// Where the counters' registers lie: in pages of their own.
    pub(crate) fn perfmon_places(&self) -> Option<PerfmonPlaces> {
        let faults = 16 * (usize::from(self.fault_offset) + usize::from(self.fault_records));
        let iotlb = 16 * (usize::from(self.iotlb_offset) + 1);
        let perfmon = self.perfmon.as_ref()?;
        Some(PerfmonPlaces::behind(
            faults.max(iotlb).max(0x1000),
            perfmon.counters,
        ))
    }

    /// The largest PASID plus one that a request may carry.
    pub(crate) fn pasid_limit(&self) -> u32 {
        self.pasid_bits.map_or(0, |bits| 1 << bits.min(20))
    }

    /// A mask of the address bits from the host address width up (within 63:0).
    pub(crate) fn above_host(&self) -> u64 {
        above(self.host_bits)
    }

    /// Highest second-stage input address for tables of `levels` levels (§3.7).
    pub(crate) fn second_stage_limit(&self, levels: u8) -> u64 {
        !above(self.guest_bits.min(12 + 9 * levels))
    }

    /// The part of a domain id that the unit looks at (§6.5.2.2).
    pub(crate) fn domain_mask(&self) -> u16 {
        u16::MAX >> (16 - self.domain_bits.clamp(4, 16))
    }
}

/// All bits from `bits` up.
pub(crate) const fn above(bits: u8) -> u64 {
    if bits >= 64 { 0 } else { u64::MAX << bits }
}
