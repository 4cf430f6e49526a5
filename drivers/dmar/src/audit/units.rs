//! Units: DRHD structures (§8.3), alone and together.

use super::{Report, expect_zero};
use crate::finding::{Finding, Oddity};
use crate::flags::{DmarFlags, DrhdFlags};
use crate::machine::is_register_base;
use crate::scope::ScopeKind;
use crate::structure::Drhd;
use crate::table::Dmar;
use iommu_core::{Address, Hpa, PAGE_SHIFT};

/// One unit, and how it goes with those before it.
pub(super) fn check(dmar: &Dmar<'_>, drhd: &Drhd<'_>, report: Report<'_>) {
    let unknown = drhd.flags.difference(DrhdFlags::all()).bits();
    expect_zero(
        drhd.offset,
        "reserved flags of a DRHD",
        unknown.into(),
        report,
    );
    let reserved = u64::from(drhd.size & 0xf0);
    expect_zero(drhd.offset, "bits 7:4 of a DRHD's size", reserved, report);
    check_registers(dmar, drhd, report);
    if drhd.includes_all() {
        check_include_all(dmar, drhd, report);
    } else if drhd.scopes.clone().next().is_none() {
        report(Finding {
            offset: drhd.offset,
            oddity: Oddity::UnitOfNothing,
        });
    }
}

fn check_registers(dmar: &Dmar<'_>, drhd: &Drhd<'_>, report: Report<'_>) {
    let base = drhd.register_base;
    let bytes = drhd.register_bytes();
    let oddity = if base.as_u64() == 0 || base.as_u64() == u64::MAX {
        Oddity::NoRegisters { base }
    } else if !base.is_aligned(PAGE_SHIFT) {
        Oddity::RegistersNotOnPage { base }
    } else if let Some(first) = dmar.first_with_registers_of(drhd) {
        let first = first.offset;
        Oddity::UnitTwice { first }
    } else if base.as_u64() & bytes.wrapping_sub(1) != 0 {
        Oddity::RegistersNotOnSize { base, bytes }
    } else if is_beyond_width(dmar, base) {
        Oddity::RegistersBeyondWidth { base }
    } else {
        return;
    };
    report(Finding {
        offset: drhd.offset,
        oddity,
    });
}

fn check_include_all(dmar: &Dmar<'_>, drhd: &Drhd<'_>, report: Report<'_>) {
    let counts = dmar.catch_all(drhd.segment);
    let is_another = |first: &Drhd<'_>| first.offset != drhd.offset;
    // One that is left out for other reasons was reported for those.
    let usable =
        is_register_base(drhd.register_base) && dmar.first_with_registers_of(drhd).is_none();
    if let Some(first) = counts.filter(is_another)
        && usable
    {
        report(Finding {
            offset: drhd.offset,
            oddity: Oddity::IncludeAllTwice {
                first: first.offset,
            },
        });
    }
    let follower = dmar
        .drhds()
        .find(|next| next.offset > drhd.offset && next.segment == drhd.segment);
    if let Some(next) = follower {
        report(Finding {
            offset: drhd.offset,
            oddity: Oddity::IncludeAllNotLast { next: next.offset },
        });
    }
}

/// What only all units together show.
pub(super) fn check_all(dmar: &Dmar<'_>, report: Report<'_>) {
    if dmar.units().next().is_none() {
        report(Finding {
            offset: 0,
            oddity: Oddity::NoUnit,
        });
        return;
    }
    let mut scopes = dmar.units().flat_map(|unit| unit.drhd.scopes);
    if dmar.flags().contains(DmarFlags::INTR_REMAP)
        && !scopes.any(|scope| scope.kind == ScopeKind::IoApic)
    {
        report(Finding {
            offset: 0,
            oddity: Oddity::NoIoApic,
        });
    }
    if dmar.rhsas().next().is_some() {
        for unit in dmar.units() {
            if dmar.proximity_domain(&unit).is_none() {
                report(Finding {
                    offset: unit.drhd.offset,
                    oddity: Oddity::AffinityMissing,
                });
            }
        }
    }
}

/// Whether an address has more bits than the host's, as the table says.
pub(super) fn is_beyond_width(dmar: &Dmar<'_>, address: Hpa) -> bool {
    let bits = dmar.host_address_width().unwrap_or(64);
    address
        .as_u64()
        .checked_shr(bits.into())
        .is_some_and(|rest| rest != 0)
}
