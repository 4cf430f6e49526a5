//! Reserved regions: RMRR structures (§8.4).

use super::units::is_beyond_width;
use super::{Report, expect_zero};
use crate::finding::{Finding, Oddity};
use crate::machine::{is_interrupts, pages_of};
use crate::structure::Rmrr;
use crate::table::Dmar;
use iommu_core::AddressRange;

pub(super) fn check(dmar: &Dmar<'_>, rmrr: &Rmrr<'_>, report: Report<'_>) {
    let offset = rmrr.offset;
    let reserved = rmrr.reserved.into();
    expect_zero(offset, "reserved bytes of an RMRR", reserved, report);
    let (base, limit) = (rmrr.base, rmrr.limit);
    let mut odd = |oddity| report(Finding { offset, oddity });
    if rmrr.scopes.clone().next().is_none() {
        odd(Oddity::RegionOfNobody);
    }
    let Ok(written) = AddressRange::inclusive(base, limit) else {
        return odd(Oddity::RegionBackwards { base, limit });
    };
    if is_interrupts(&written) {
        return odd(Oddity::RegionOfInterrupts);
    }
    if !written.is_page_aligned() {
        odd(Oddity::RegionNotOnPages { base, limit });
    }
    if is_beyond_width(dmar, limit) {
        odd(Oddity::RegionBeyondWidth { limit });
    }
    let earlier = dmar.rmrrs().take_while(|other| other.offset < offset);
    let overlaps = |other: &Rmrr<'_>| {
        let pages = pages_of(rmrr).zip(pages_of(other));
        other.segment == rmrr.segment && pages.is_some_and(|(one, two)| one.overlaps(&two))
    };
    if let Some(other) = earlier.clone().find(overlaps) {
        odd(Oddity::RegionsOverlap {
            other: other.offset,
        });
    }
}
