//! Device scopes (§8.3.1), wherever they stand.

use super::{Report, expect_zero};
use crate::finding::{Finding, Oddity};
use crate::flags::DeviceProperties;
use crate::scope::{Scope, ScopeKind};
use crate::structure::{Drhd, Structure};
use crate::table::Dmar;
use iommu_core::SourceId;

pub(super) fn check_all(dmar: &Dmar<'_>, structure: &Structure<'_>, report: Report<'_>) {
    let Some(scopes) = structure.scopes() else {
        return;
    };
    for broken in scopes.records().filter_map(Result::err) {
        report(broken);
    }
    for scope in scopes {
        check_fields(&scope, structure, report);
        check_place(&scope, structure, report);
        check_path(&scope, structure, report);
        if let Structure::Drhd(drhd) = structure {
            check_rivals(dmar, drhd, &scope, report);
        }
        if scope.kind == ScopeKind::NamespaceDevice {
            check_declared(dmar, &scope, report);
        }
    }
}

fn check_fields(scope: &Scope<'_>, structure: &Structure<'_>, report: Report<'_>) {
    let offset = scope.offset;
    let has_properties = matches!(structure, Structure::Sidp(_))
        && matches!(scope.kind, ScopeKind::Endpoint | ScopeKind::NamespaceDevice);
    let unused = if has_properties {
        scope.flags.difference(DeviceProperties::all())
    } else {
        scope.flags
    };
    expect_zero(
        offset,
        "the flags of a device scope",
        unused.bits().into(),
        report,
    );
    let reserved = scope.reserved.into();
    expect_zero(
        offset,
        "the reserved byte of a device scope",
        reserved,
        report,
    );
    if scope.kind.is_pci() {
        let id = scope.enumeration_id.into();
        expect_zero(
            offset,
            "the enumeration id of a PCI device scope",
            id,
            report,
        );
    }
}

/// Which types of scopes a structure may have.
fn check_place(scope: &Scope<'_>, structure: &Structure<'_>, report: Report<'_>) {
    let kind = scope.kind;
    if let ScopeKind::Unknown(kind) = kind {
        return report(Finding {
            offset: scope.offset,
            oddity: Oddity::UnknownScope { kind },
        });
    }
    let belongs = match structure {
        Structure::Drhd(_) => true,
        Structure::Rmrr(_) => kind.is_pci() || kind == ScopeKind::NamespaceDevice,
        Structure::Atsr(_) => kind == ScopeKind::SubHierarchy,
        Structure::Satc(_) => kind == ScopeKind::Endpoint,
        Structure::Sidp(_) => matches!(kind, ScopeKind::Endpoint | ScopeKind::NamespaceDevice),
        Structure::Rhsa(_) | Structure::Andd(_) | Structure::Unknown(_) => true,
    };
    let oddity = match structure {
        Structure::Drhd(drhd) if drhd.includes_all() && kind.is_pci() => {
            Oddity::IncludeAllWithDevice { kind }
        }
        _ if !belongs => Oddity::ScopeOutOfPlace {
            kind,
            structure: structure.kind(),
        },
        _ => return,
    };
    report(Finding {
        offset: scope.offset,
        oddity,
    });
}

fn check_path(scope: &Scope<'_>, structure: &Structure<'_>, report: Report<'_>) {
    let mut odd = |oddity| {
        report(Finding {
            offset: scope.offset,
            oddity,
        });
    };
    if scope.has_odd_byte() {
        odd(Oddity::OddPath);
    }
    let hops = scope.hops();
    if hops == 0 {
        return odd(Oddity::EmptyPath);
    }
    let is_function = |device, function| SourceId::new(0, device, function).is_some();
    if let Some(hop) = scope
        .path()
        .find(|hop| !is_function(hop.device, hop.function))
    {
        odd(Oddity::NoSuchFunction {
            device: hop.device,
            function: hop.function,
        });
    }
    let integrated = matches!(structure, Structure::Satc(_) | Structure::Sidp(_));
    let is_id = matches!(scope.kind, ScopeKind::Hpet | ScopeKind::NamespaceDevice);
    if hops > 1 && (integrated || is_id) {
        odd(Oddity::PathTooLong { hops });
    }
}

/// A device belongs to one unit.
fn check_rivals(dmar: &Dmar<'_>, drhd: &Drhd<'_>, scope: &Scope<'_>, report: Report<'_>) {
    let rivals = dmar
        .usable_drhds()
        .take_while(|earlier| earlier.offset < drhd.offset)
        .filter(|earlier| {
            earlier.segment == drhd.segment && earlier.register_base != drhd.register_base
        })
        .flat_map(|earlier| earlier.scopes);
    let names_requester = scope.kind.is_pci() || scope.kind == ScopeKind::IoApic;
    if let Some(first) = rivals
        .into_iter()
        .find(|rival| names_requester && rival.is_same_as(scope))
    {
        report(Finding {
            offset: scope.offset,
            oddity: Oddity::ScopeTwice {
                first: first.offset,
            },
        });
    }
}

fn check_declared(dmar: &Dmar<'_>, scope: &Scope<'_>, report: Report<'_>) {
    let number = scope.enumeration_id;
    if super::other::declaration(dmar, number).is_none() {
        report(Finding {
            offset: scope.offset,
            oddity: Oddity::Undeclared { number },
        });
    }
}
