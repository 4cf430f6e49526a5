//! The table's header (§8.1).

use super::{Report, expect_zero};
use crate::finding::{Finding, Oddity};
use crate::flags::DmarFlags;
use crate::raw;
use crate::table::Dmar;

/// Offsets of the fields that findings point at.
const LENGTH: usize = 4;
const REVISION: usize = 8;
const CHECKSUM: usize = 9;
const WIDTH: usize = 36;
const FLAGS: usize = 37;
const RESERVED: usize = 38;

/// Widths of physical addresses that processors with VT-d have.
const PLAUSIBLE_WIDTHS: core::ops::RangeInclusive<u16> = 32..=52;

/// Says whether the header is cut off, and with it everything else.
pub(super) fn check(dmar: &Dmar<'_>, report: Report<'_>) -> bool {
    let bytes = dmar.given.len();
    let Some(header) = dmar.header() else {
        report(Finding {
            offset: 0,
            oddity: Oddity::HeaderCutOff { bytes },
        });
        return true;
    };
    if &header.signature != b"DMAR" {
        report(Finding {
            offset: 0,
            oddity: Oddity::Signature(header.signature),
        });
    }
    check_length(dmar, header, report);
    if header.revision != 1 {
        report(Finding {
            offset: REVISION,
            oddity: Oddity::Revision(header.revision),
        });
    }
    check_width(dmar, report);
    check_flags(dmar, report);
    for (byte, offset) in header.reserved.iter().zip(RESERVED..) {
        expect_zero(
            offset,
            "a reserved byte of the header",
            (*byte).into(),
            report,
        );
    }
    false
}

fn check_length(dmar: &Dmar<'_>, header: &raw::Header, report: Report<'_>) {
    let claimed = header.length.get() as usize;
    let bytes = dmar.given.len();
    let mut at_length = |oddity| {
        report(Finding {
            offset: LENGTH,
            oddity,
        });
    };
    if claimed < raw::Header::SIZE {
        at_length(Oddity::LengthBelowHeader { claimed, bytes });
    } else if claimed > bytes {
        // Of bytes that are missing no sum is known.
        return at_length(Oddity::LengthBeyondData { claimed, bytes });
    } else if claimed < bytes {
        report(Finding {
            offset: claimed,
            oddity: Oddity::BytesBehind {
                bytes: bytes.saturating_sub(claimed),
            },
        });
    }
    let summed = if claimed < raw::Header::SIZE {
        bytes
    } else {
        claimed
    };
    if summed > dmar.length() {
        report(Finding {
            offset: dmar.length(),
            oddity: Oddity::Oversized { bytes: summed },
        });
    }
    let table = dmar.given.get(..summed).unwrap_or_default();
    let sum = table.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    if sum != 0 {
        report(Finding {
            offset: CHECKSUM,
            oddity: Oddity::Checksum { sum },
        });
    }
}

fn check_width(dmar: &Dmar<'_>, report: Report<'_>) {
    if let Some(bits) = dmar.host_address_width()
        && !PLAUSIBLE_WIDTHS.contains(&bits)
    {
        report(Finding {
            offset: WIDTH,
            oddity: Oddity::Width { bits },
        });
    }
}

fn check_flags(dmar: &Dmar<'_>, report: Report<'_>) {
    let flags = dmar.flags();
    let unknown = flags.difference(DmarFlags::all());
    expect_zero(FLAGS, "reserved flags", unknown.bits().into(), report);
    if flags.contains(DmarFlags::X2APIC_OPT_OUT) && !flags.contains(DmarFlags::INTR_REMAP) {
        report(Finding {
            offset: FLAGS,
            oddity: Oddity::X2apicOptOutAlone,
        });
    }
}
