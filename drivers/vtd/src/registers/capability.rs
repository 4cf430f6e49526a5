//! What a unit can do: VER, CAP and ECAP (§11.4.1 to §11.4.3).

use super::register;
use bitfield_struct::bitfield;

/// Version Register (§11.4.1).
///
/// Three rules hang on the major number: from 2 on invalidations always drain, from 6 on
/// register-based invalidation is gone, and from 8 on requests to execute are refused.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Ver {
    /// Minor version.
    #[bits(4)]
    pub min: u8,
    /// Major version.
    #[bits(4)]
    pub max: u8,
    #[bits(24)]
    __: u32,
}
register!(Ver: u32, 0x000, "VER");

/// Capability Register (§11.4.2).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Cap {
    /// Number of domains: domain ids have 4 + 2·ND bits.
    #[bits(3)]
    pub nd: u8,
    #[bits(1)]
    __: u8,
    /// Required write-buffer flushing.
    pub rwbf: bool,
    /// Protected low-memory region.
    pub plmr: bool,
    /// Protected high-memory region.
    pub phmr: bool,
    /// Caching mode: not-present entries may be cached.
    pub cm: bool,
    /// Supported adjusted guest address widths: bit 1 is 39, bit 2 is 48, bit 3 is 57.
    #[bits(5)]
    pub sagaw: u8,
    #[bits(3)]
    __: u8,
    /// Maximum guest address width, less one.
    #[bits(6)]
    pub mgaw: u8,
    /// Zero-length reads of write-only pages succeed.
    pub zlr: bool,
    #[bits(1)]
    __: u8,
    /// Fault-recording register offset, in units of 16 bytes.
    #[bits(10)]
    pub fro: u16,
    /// Second-stage large pages: bit 0 is 2 MiB, bit 1 is 1 GiB.
    #[bits(4)]
    pub sslps: u8,
    #[bits(1)]
    __: u8,
    /// Page-selective invalidation of second-stage translations.
    pub psi: bool,
    /// Number of fault-recording registers, less one.
    #[bits(8)]
    pub nfr: u8,
    /// Maximum address mask of second-stage page-selective invalidation.
    #[bits(6)]
    pub mamv: u8,
    /// Write draining.
    pub dwd: bool,
    /// Read draining.
    pub drd: bool,
    /// First-stage 1 GiB pages.
    pub fs1gp: bool,
    #[bits(2)]
    __: u8,
    /// Posted interrupts.
    pub pi: bool,
    /// First-stage 5-level paging.
    pub fs5lp: bool,
    /// Enhanced commands.
    pub ecmds: bool,
    /// Setting the interrupt-remapping table pointer invalidates the entry cache.
    pub esirtps: bool,
    /// Setting the root table pointer invalidates all DMA-remapping caches.
    pub esrtps: bool,
}
register!(Cap: u64, 0x008, "CAP");

impl Cap {
    /// Bits that revision 5.10 reserves.
    pub const RESERVED: u64 = 0x0600_0040_0080_e008;

    /// How many domain ids there are, 0 among them.
    pub const fn domain_ids(self) -> u32 {
        match self.nd() {
            0 => 1 << 4,
            1 => 1 << 6,
            2 => 1 << 8,
            3 => 1 << 10,
            4 => 1 << 12,
            5 => 1 << 14,
            // 7 is reserved; ids have 16 bits everywhere.
            _ => 1 << 16,
        }
    }

    /// Bits of guest address that the unit translates at most.
    pub const fn guest_address_bits(self) -> u8 {
        self.mgaw().saturating_add(1)
    }

    /// Whether second-stage tables of `levels` levels can be walked.
    pub const fn has_second_stage_levels(self, levels: u8) -> bool {
        match levels {
            3 => self.sagaw() & 0b0010 != 0,
            4 => self.sagaw() & 0b0100 != 0,
            5 => self.sagaw() & 0b1000 != 0,
            _ => false,
        }
    }

    /// Fault-recording registers that the unit has, 1 to 256.
    pub const fn fault_records(self) -> usize {
        (self.nfr() as usize).saturating_add(1)
    }

    /// Byte offset of the first fault-recording register.
    pub const fn fault_records_at(self) -> usize {
        16usize.saturating_mul(self.fro() as usize)
    }
}

/// Extended Capability Register (§11.4.3).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Ecap {
    /// Page-walk coherency of root, context, PASID and interrupt tables, and of legacy
    /// second-stage tables.
    pub c: bool,
    /// Queued invalidation.
    pub qi: bool,
    /// Device-TLBs.
    pub dt: bool,
    /// Interrupt remapping.
    pub ir: bool,
    /// Extended interrupt mode: 32-bit APIC ids.
    pub eim: bool,
    #[bits(1)]
    __: u8,
    /// Pass-through translation type.
    pub pt: bool,
    /// Snoop control.
    pub sc: bool,
    /// IOTLB register offset, in units of 16 bytes.
    #[bits(10)]
    pub iro: u16,
    #[bits(2)]
    __: u8,
    /// Maximum handle mask of interrupt-entry invalidation.
    #[bits(4)]
    pub mhmv: u8,
    #[bits(1)]
    __: u8,
    /// Memory types.
    pub mts: bool,
    /// Nested translation.
    pub nest: bool,
    #[bits(2)]
    __: u8,
    /// Page requests.
    pub prs: bool,
    /// Execute requests; 0 in current revisions.
    pub ers: bool,
    /// Supervisor requests.
    pub srs: bool,
    #[bits(1)]
    __: u8,
    /// No-Write flag of translation requests is honoured.
    pub nwfs: bool,
    /// Extended accessed flag.
    pub eafs: bool,
    /// PASID size supported: PASIDs have PSS + 1 bits.
    #[bits(5)]
    pub pss: u8,
    /// Requests with PASID.
    pub pasid: bool,
    /// Device-TLB invalidation throttling.
    pub dit: bool,
    /// Page-request drain flag of the wait descriptor.
    pub pds: bool,
    /// Scalable mode.
    pub smts: bool,
    /// Virtual commands.
    pub vcs: bool,
    /// Second-stage accessed and dirty bits.
    pub ssads: bool,
    /// Second-stage translation in scalable mode.
    pub ssts: bool,
    /// First-stage translation.
    pub fsts: bool,
    /// Scalable-mode page-walk coherency (PWSNP).
    pub smpwcs: bool,
    /// RID_PASID can be set; else it is 0.
    pub rps: bool,
    /// TDX Connect.
    pub tdxcs: bool,
    /// Performance monitoring.
    pub pms: bool,
    /// Abort-DMA mode.
    pub adms: bool,
    /// RID_PRIV can be set.
    pub rprivs: bool,
    #[bits(1)]
    __: u8,
    /// Host permission tables.
    pub hpts: bool,
    /// PASID in translated requests.
    pub ptrs: bool,
    /// IR and IW bits in second-stage entries.
    pub ssirws: bool,
    /// Stop markers.
    pub sms: bool,
    /// 1 GiB pages in host permission tables.
    pub hpt1gps: bool,
    /// RMID and CLOS can be set.
    pub rdts: bool,
    /// Extended interrupt mode is required.
    pub eimer: bool,
    /// Interrupt remapping is required: interrupts are blocked while it is off.
    pub irreq: bool,
    #[bits(1)]
    __: u8,
}
register!(Ecap: u64, 0x010, "ECAP");

impl Ecap {
    /// Bits that revision 5.10 reserves.
    pub const RESERVED: u64 = 0x8040_0001_190c_0020;

    /// Bits of PASID that the unit takes; 0 if it takes no request with PASID.
    pub const fn pasid_bits(self) -> u8 {
        // A PASID has 20 bits; what would be more is reserved (§11.4.3).
        const MOST: u8 = 20;
        let bits = self.pss().saturating_add(1);
        match self.pasid() {
            false => 0,
            true if bits > MOST => MOST,
            true => bits,
        }
    }

    /// Byte offset of IVA; IOTLB follows 8 bytes later.
    pub const fn invalidate_address_at(self) -> usize {
        16usize.saturating_mul(self.iro() as usize)
    }
}
