//! Finding what is odd. Each file looks at one kind of thing; nothing is changed here, what
//! is done about an oddity is done where the thing is used.

mod header;
mod other;
mod regions;
mod scopes;
mod units;

use crate::finding::{Finding, Oddity};
use crate::structure::Structure;
use crate::table::Dmar;

/// Takes findings.
pub(crate) type Report<'r> = &'r mut dyn FnMut(Finding);

/// Reports everything that is odd, the header first and then in the table's order.
pub(crate) fn run(dmar: &Dmar<'_>, report: Report<'_>) {
    if header::check(dmar, report) {
        return;
    }
    let mut highest = 0;
    for record in dmar.records() {
        let structure = match record.and_then(Structure::parse) {
            Ok(structure) => structure,
            Err(finding) => {
                report(finding);
                continue;
            }
        };
        check_order(&structure, &mut highest, report);
        check(dmar, &structure, report);
    }
    units::check_all(dmar, report);
}

fn check(dmar: &Dmar<'_>, structure: &Structure<'_>, report: Report<'_>) {
    match structure {
        Structure::Drhd(drhd) => units::check(dmar, drhd, report),
        Structure::Rmrr(rmrr) => regions::check(dmar, rmrr, report),
        Structure::Atsr(atsr) => other::check_atsr(atsr, report),
        Structure::Rhsa(rhsa) => other::check_rhsa(dmar, rhsa, report),
        Structure::Andd(andd) => other::check_andd(dmar, andd, report),
        Structure::Satc(satc) => other::check_satc(satc, report),
        Structure::Sidp(sidp) => other::check_sidp(sidp, report),
        Structure::Unknown(unknown) => report(Finding {
            offset: unknown.offset,
            oddity: Oddity::UnknownStructure {
                kind: unknown.kind,
                length: unknown.bytes.len(),
            },
        }),
    }
    scopes::check_all(dmar, structure, report);
}

/// Structures come in the order of their types (§8.2).
fn check_order(structure: &Structure<'_>, highest: &mut u16, report: Report<'_>) {
    let kind = structure.kind();
    if kind < *highest {
        report(Finding {
            offset: structure.offset(),
            oddity: Oddity::OutOfOrder {
                kind,
                behind: *highest,
            },
        });
    }
    *highest = kind.max(*highest);
}

/// Reports a field that should be 0 and is not.
fn expect_zero(offset: usize, field: &'static str, value: u64, report: Report<'_>) {
    if value != 0 {
        report(Finding {
            offset,
            oddity: Oddity::ReservedBits { field, value },
        });
    }
}
