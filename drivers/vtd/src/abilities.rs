//! What a unit can do, and the rules that follow from it. Each rule stands here once, those
//! above all that depend on a unit's age:
//!
//! | rule | tells | section |
//! |---|---|---|
//! | [`invalidates_by_register`](Abilities::invalidates_by_register) | VER.MAX below 6 | §6.5.1 |
//! | [`root_change_invalidates`](Abilities::root_change_invalidates) | CAP.ESRTPS | §6.6 |
//! | [`interrupt_table_change_invalidates`](Abilities::interrupt_table_change_invalidates) | CAP.ESIRTPS | §6.7 |
//! | [`caches_absence`](Abilities::caches_absence) | CAP.CM | §6.1 |
//! | [`needs_write_buffer_flush`](Abilities::needs_write_buffer_flush) | CAP.RWBF | §6.8 |
//! | [`second_stage_mask_limit`](Abilities::second_stage_mask_limit) | CAP.PSI, CAP.MAMV | §6.5.2.3 |
//! | [`table_coherence`](Abilities::table_coherence), [`paging_coherence`](Abilities::paging_coherence) | ECAP.C, ECAP.SMPWCS | §3.10 |
//!
//! Draining (DR, DW) needs no rule: it is asked for always, which a unit of version 2 or
//! later ignores because it always drains, and one without CAP.DRD and CAP.DWD because it
//! cannot (§6.5.4).

use crate::registers::{Cap, Ecap, Ver};
use iommu_core::{Coherence, LeafSizes, Stage, TableFormat};

/// VER, CAP and ECAP of a unit, with the width of the host's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Abilities {
    /// VER.
    pub version: Ver,
    /// CAP.
    pub cap: Cap,
    /// ECAP.
    pub ecap: Ecap,
    /// Bits of physical address (DMAR's host address width).
    pub host_bits: u8,
}

impl Abilities {
    /// Whether tables of this format can be walked in legacy mode.
    pub const fn legacy_format(&self, format: TableFormat) -> bool {
        match format.stage() {
            Stage::First => false,
            Stage::Second => self.cap.has_second_stage_levels(format.levels()),
        }
    }

    /// Whether tables of this format can be walked in scalable mode.
    pub const fn scalable_format(&self, format: TableFormat) -> bool {
        match format {
            TableFormat::FirstStage4 => self.ecap.fsts(),
            TableFormat::FirstStage5 => self.ecap.fsts() && self.cap.fs5lp(),
            _ => self.ecap.ssts() && self.cap.has_second_stage_levels(format.levels()),
        }
    }

    /// Large pages of first-stage tables. 2 MiB is always there (§3.6).
    pub const fn first_stage_leaves(&self) -> LeafSizes {
        LeafSizes {
            mib2: true,
            gib1: self.cap.fs1gp(),
        }
    }

    /// Large pages of second-stage tables.
    pub const fn second_stage_leaves(&self) -> LeafSizes {
        LeafSizes {
            mib2: self.cap.sslps() & 1 != 0,
            gib1: self.cap.sslps() & 2 != 0,
        }
    }

    /// How root, context, PASID and interrupt tables are read, and legacy second-stage
    /// tables (ECAP.C).
    pub const fn table_coherence(&self) -> Coherence {
        coherence(self.ecap.c())
    }

    /// How paging structures are read: in scalable mode they are snooped if PWSNP can be
    /// set in the PASID entry (§3.10), in legacy mode as the other tables are.
    pub const fn paging_coherence(&self, scalable: bool) -> Coherence {
        if scalable {
            coherence(self.walks_can_snoop())
        } else {
            self.table_coherence()
        }
    }

    /// Paging structures are snooped in scalable mode where PWSNP is set, which every entry
    /// then has (§3.10).
    pub const fn walks_can_snoop(&self) -> bool {
        self.ecap.smpwcs()
    }

    /// Entries that are not present may be cached, so that making one present must be
    /// followed by an invalidation (§6.1). First-stage tables are never cached so.
    pub const fn caches_absence(&self) -> bool {
        self.cap.cm()
    }

    /// Stores to tables must be flushed out of a buffer by a command where no invalidation
    /// follows (§6.8).
    pub const fn needs_write_buffer_flush(&self) -> bool {
        self.cap.rwbf()
    }

    /// Setting the root table pointer leaves no cache behind (§6.6).
    pub const fn root_change_invalidates(&self) -> bool {
        self.cap.esrtps()
    }

    /// Setting the interrupt table pointer leaves no cache behind (§6.7).
    pub const fn interrupt_table_change_invalidates(&self) -> bool {
        self.cap.esirtps()
    }

    /// There is an invalidation queue. Scalable mode, interrupt remapping, Device-TLBs and
    /// page requests are told of through it, so a unit without one has none of them,
    /// whatever ECAP says (§11.4.3).
    pub const fn has_queue(&self) -> bool {
        self.ecap.qi()
    }

    /// Caches can be invalidated by registers, in legacy mode and with the queue off: gone
    /// from major version 6 on (§6.5.1).
    pub const fn invalidates_by_register(&self) -> bool {
        self.version.max() < 6
    }

    /// Scalable mode.
    pub const fn scalable_mode(&self) -> bool {
        self.ecap.smts() && self.has_queue()
    }

    /// Interrupt remapping.
    pub const fn remaps_interrupts(&self) -> bool {
        self.ecap.ir() && self.has_queue()
    }

    /// Remapped interrupts to 32-bit APIC ids.
    pub const fn extends_interrupts(&self) -> bool {
        self.ecap.eim() && self.remaps_interrupts()
    }

    /// Interrupts can be posted to a running guest.
    pub const fn posts_interrupts(&self) -> bool {
        self.cap.pi() && self.remaps_interrupts()
    }

    /// Devices may cache translations themselves.
    pub const fn device_tlbs(&self) -> bool {
        self.ecap.dt() && self.has_queue()
    }

    /// What devices translated themselves can be checked (§4.2.4).
    pub const fn checks_translated_requests(&self) -> bool {
        self.ecap.hpts() && self.device_tlbs() && self.scalable_mode()
    }

    /// Devices may ask for pages.
    pub const fn page_requests(&self) -> bool {
        self.ecap.prs() && self.device_tlbs() && self.scalable_mode()
    }

    /// A wait can hold back until page requests that came before are in their queue
    /// (§7.10).
    pub const fn drains_page_requests(&self) -> bool {
        self.ecap.pds() && self.page_requests()
    }

    /// There are protected memory regions (§11.4.8).
    pub const fn protected_regions(&self) -> bool {
        self.cap.plmr() || self.cap.phmr()
    }

    /// Queue slots have 256 bits. Scalable and abort mode accept nothing else, and with
    /// them legacy mode works too, so that the table mode can change without a new queue
    /// (§6.5.2).
    pub const fn wide_descriptors(&self) -> bool {
        self.scalable_mode() || self.ecap.adms()
    }

    /// Largest address mask of second-stage page-selective invalidations, or `None` if
    /// there are none.
    pub const fn second_stage_mask_limit(&self) -> Option<u8> {
        if self.cap.psi() {
            Some(self.cap.mamv())
        } else {
            None
        }
    }

    /// AW for second-stage tables of `levels` levels (§9.3, §9.6).
    pub const fn address_width_code(levels: u8) -> u8 {
        levels.saturating_sub(2)
    }

    /// The largest AW that the unit has; what entries without a second stage are given.
    pub const fn largest_address_width_code(&self) -> u8 {
        let sagaw = self.cap.sagaw();
        if sagaw & 0b1000 != 0 {
            3
        } else if sagaw & 0b0100 != 0 {
            2
        } else {
            1
        }
    }
}

const fn coherence(snooped: bool) -> Coherence {
    if snooped {
        Coherence::Snooped
    } else {
        Coherence::WriteBack
    }
}
