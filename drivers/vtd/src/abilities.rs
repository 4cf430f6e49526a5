//! What a unit can do, and the rules that follow from it. Each rule stands here once.

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
            coherence(self.ecap.smpwcs())
        } else {
            self.table_coherence()
        }
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

    /// Queue slots have 256 bits. Scalable and abort mode accept nothing else, and with
    /// them legacy mode works too, so that the table mode can change without a new queue
    /// (§6.5.2).
    pub const fn wide_descriptors(&self) -> bool {
        self.ecap.smts() || self.ecap.adms()
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
