//! Where hardware, real or emulated, differs from revision 5.10. Each difference stands
//! here with its source.
//!
//! What follows from devices and CPUs, which no register of a unit tells, the caller says by
//! [`Corrections`]: the crate `quirks` has the table, with the sources.

use crate::abilities::Abilities;

/// What units say of themselves and is not so, or do not say and is.
///
/// Everything here takes an ability away or adds a duty; nothing makes a unit more able.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Corrections {
    /// Stores to tables must be flushed out of a buffer (CAP.RWBF reads 0 and means 1).
    pub needs_write_buffer_flush: bool,
    /// No large pages in second-stage tables (CAP.SSLPS).
    pub no_second_stage_superpages: bool,
    /// The largest address mask of page-selective invalidations (CAP.MAMV).
    pub mask_limit: Option<u8>,
    /// No interrupt remapping (ECAP.IR).
    pub no_interrupt_remapping: bool,
    /// No protected memory regions (CAP.PLMR, CAP.PHMR).
    pub no_protected_regions: bool,
    /// No nesting in hardware (ECAP.NEST).
    pub no_nesting: bool,
    /// The command to turn translation off may never end: it is not given.
    pub keeps_translating: bool,
}

impl Corrections {
    /// What the unit can do then.
    pub(crate) fn apply(&self, abilities: &mut Abilities) {
        let (mut cap, mut ecap) = (abilities.cap, abilities.ecap);
        if self.needs_write_buffer_flush {
            cap = cap.with_rwbf(true);
        }
        if self.no_second_stage_superpages {
            cap = cap.with_sslps(0);
        }
        if let Some(limit) = self.mask_limit {
            cap = cap.with_mamv(cap.mamv().min(limit));
        }
        if self.no_protected_regions {
            cap = cap.with_plmr(false).with_phmr(false);
        }
        if self.no_interrupt_remapping {
            ecap = ecap.with_ir(false).with_eim(false);
        }
        if self.no_nesting {
            ecap = ecap.with_nest(false);
        }
        (abilities.cap, abilities.ecap) = (cap, ecap);
    }
}

/// AW of PASID table entries that have no second stage.
///
/// Revision 5.10 ignores the field there on a unit with ECAP.SSTS and reserves it on one
/// without (§9.6). QEMU (10.0 and 11.1, `hw/i386/intel_iommu.c`) offers either SSTS or
/// FSTS, reports version 1.0, checks no reserved bits in the entry, and takes the limit of
/// canonical first-stage addresses from AW: with AW = 0 everything from 2^29 on is refused.
/// Scalable mode came with later versions than 1.0, so no other unit looks like that.
pub(crate) fn unused_address_width(abilities: &Abilities) -> u8 {
    const FORTY_EIGHT_BITS: u8 = 2;
    if abilities.ecap.ssts() {
        abilities.largest_address_width_code()
    } else if abilities.version.max() == 1 {
        FORTY_EIGHT_BITS
    } else {
        0
    }
}
