//! The remaining structures: ATSR, RHSA, ANDD, SATC and SIDP (§8.5 to §8.9).

use super::{Report, expect_zero};
use crate::finding::{Finding, Oddity};
use crate::flags::{AtsrFlags, SatcFlags};
use crate::scope::{ScopeKind, Scopes};
use crate::structure::{Andd, Atsr, Rhsa, Satc, Sidp, Structure};
use crate::table::Dmar;

pub(super) fn check_atsr(atsr: &Atsr<'_>, report: Report<'_>) {
    let offset = atsr.offset;
    let unknown = atsr.flags.difference(AtsrFlags::all()).bits();
    expect_zero(offset, "reserved flags of an ATSR", unknown.into(), report);
    expect_zero(
        offset,
        "the reserved byte of an ATSR",
        atsr.reserved.into(),
        report,
    );
    let all = atsr.flags.contains(AtsrFlags::ALL_PORTS);
    let oddity = match (all, atsr.scopes.clone().next().is_some()) {
        (true, true) => Oddity::AllPortsAndSome,
        (false, false) => Oddity::NoPorts,
        _ => return,
    };
    report(Finding { offset, oddity });
}

pub(super) fn check_rhsa(dmar: &Dmar<'_>, rhsa: &Rhsa, report: Report<'_>) {
    let offset = rhsa.offset;
    expect_zero(
        offset,
        "reserved bytes of an RHSA",
        rhsa.reserved.into(),
        report,
    );
    if rhsa.excess > 0 {
        report(Finding {
            offset,
            oddity: Oddity::BytesInStructure {
                kind: 3,
                bytes: rhsa.excess,
            },
        });
    }
    let base = rhsa.register_base;
    if !dmar.drhds().any(|drhd| drhd.register_base == base) {
        report(Finding {
            offset,
            oddity: Oddity::AffinityOfNoUnit { base },
        });
    }
}

pub(super) fn check_andd(dmar: &Dmar<'_>, andd: &Andd<'_>, report: Report<'_>) {
    let offset = andd.offset;
    let reserved = andd
        .reserved
        .iter()
        .fold(0, |sum, &byte| sum | u64::from(byte));
    expect_zero(offset, "reserved bytes of an ANDD", reserved, report);
    let mut odd = |oddity| report(Finding { offset, oddity });
    if !andd.is_terminated() {
        odd(Oddity::NameUnterminated);
    }
    if andd.object_name().is_empty() {
        odd(Oddity::NameEmpty);
    }
    if !andd.object_name().iter().all(u8::is_ascii_graphic) {
        odd(Oddity::NameNotAscii);
    }
    let number = andd.acpi_device_number;
    if let Some(first) = declaration(dmar, number).filter(|&first| first < offset) {
        odd(Oddity::DeclaredTwice { number, first });
    }
    let mut scopes = dmar.drhds().flat_map(|drhd| drhd.scopes);
    let names = |kind, id| kind == ScopeKind::NamespaceDevice && id == number;
    if !scopes.any(|scope| names(scope.kind, scope.enumeration_id)) {
        odd(Oddity::DeclaredForNothing { number });
    }
}

/// Where the first ANDD with this number begins.
pub(super) fn declaration(dmar: &Dmar<'_>, number: u8) -> Option<usize> {
    dmar.structures().find_map(|structure| match structure {
        Structure::Andd(andd) if andd.acpi_device_number == number => Some(andd.offset),
        _ => None,
    })
}

pub(super) fn check_satc(satc: &Satc<'_>, report: Report<'_>) {
    let unknown = satc.flags.difference(SatcFlags::all()).bits();
    expect_zero(
        satc.offset,
        "reserved flags of an SATC",
        unknown.into(),
        report,
    );
    expect_zero(
        satc.offset,
        "the reserved byte of an SATC",
        satc.reserved.into(),
        report,
    );
    expect_devices(satc.offset, 5, &satc.scopes, report);
}

pub(super) fn check_sidp(sidp: &Sidp<'_>, report: Report<'_>) {
    let reserved = u16::from_le_bytes(sidp.reserved).into();
    expect_zero(sidp.offset, "reserved bytes of an SIDP", reserved, report);
    expect_devices(sidp.offset, 6, &sidp.scopes, report);
}

fn expect_devices(offset: usize, kind: u16, scopes: &Scopes<'_>, report: Report<'_>) {
    if scopes.clone().next().is_none() {
        report(Finding {
            offset,
            oddity: Oddity::NoDevices { kind },
        });
    }
}
