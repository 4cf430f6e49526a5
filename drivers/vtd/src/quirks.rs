//! Where hardware, real or emulated, differs from revision 5.10. Each difference stands
//! here with its source.

use crate::abilities::Abilities;

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
