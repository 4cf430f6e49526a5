//! How QEMU names what table 30 (§7.1.3) names, and how it fills a fault record: fixed
//! tables of a version, which are no rules.

use vtd_model::Condition;

use crate::answer::Record;
use crate::bench::{Emulator, Rig};

/// QEMU's fault reason for a condition; `None` for those that it does not know.
pub(crate) fn reason(condition: Condition, rig: Rig, write: bool) -> Option<u8> {
    use Condition as C;
    let right = if write { 0x05 } else { 0x06 };
    Some(match condition {
        C::Srt1 => 0x08,
        C::Srt2 => 0x01,
        C::Srt3 => 0x0a,
        C::Sct1 => 0x09,
        C::Sct2 => 0x02,
        C::Sct3 => 0x0b,
        C::Sss1 => 0x07,
        C::Sss3 => 0x0c,
        C::Sss4 => 0x03,
        C::Sgn5 => 0x04,
        C::Sss2 => right,
        C::Sgn6 | C::Sgn7 if rig != Rig::First => right,
        C::Sct41 | C::Sct42 | C::Sct43 | C::Spd3 | C::Spt3 | C::Sfs9 | C::Sgn42 => return None,
        C::Irq25 | C::Irq29 => return None,
        other => other.code(),
    })
}

/// Every reason that QEMU can record for a request that a case can make: of its list (1 to
/// Eh, 20h to 26h, 50h to 5Bh, 70h to 73h, 80h, 81h, 85h, 87h, 91h) not 0Dh, which only
/// translation requests meet, and not 25h, which it never raises.
pub(crate) const KNOWN: &[u8] = &[
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0e, 0x20, 0x21, 0x22,
    0x23, 0x24, 0x26, 0x50, 0x51, 0x58, 0x59, 0x5b, 0x70, 0x71, 0x72, 0x73, 0x80, 0x81, 0x85, 0x87,
    0x91,
];

/// PP and PV of a record: QEMU 10.0 fills both for faults of a paging structure, with the
/// PASID's lower 16 bits in scalable mode and with ones in legacy mode.
pub(crate) fn pasid_of_record(
    emulator: &Emulator,
    rig: Rig,
    reason: u8,
    pasid: u32,
) -> (bool, u32) {
    const WALK: &[u8] = &[
        3, 4, 5, 6, 7, 0xc, 0xe, 0x70, 0x71, 0x72, 0x73, 0x80, 0x81, 0x85, 0x87, 0x91,
    ];
    if emulator.is_recent || !WALK.contains(&reason) {
        (false, 0)
    } else if rig.is_scalable() {
        (true, pasid & 0xffff)
    } else {
        (false, 0xffff)
    }
}

/// The record that QEMU makes of a condition, or `None` if it does not know it.
pub(crate) fn record(
    emulator: &Emulator,
    rig: Rig,
    condition: Condition,
    wanted: &Wanted,
) -> Option<Record> {
    let reason = reason(condition, rig, !wanted.read)?;
    // In legacy mode 03h comes from the context entry but for one case: an unreadable root.
    let of_context = condition == Condition::Lct41 || condition == Condition::Lct42;
    let pasid = if wanted.interrupt || of_context {
        (false, 0)
    } else {
        pasid_of_record(emulator, rig, reason, wanted.pasid)
    };
    Some(Record {
        reason,
        source: wanted.source,
        info: wanted.info,
        read: wanted.read,
        pasid,
    })
}

/// What a record says besides the reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Requester.
    pub(crate) source: u16,
    /// Fault information.
    pub(crate) info: u64,
    /// A read.
    pub(crate) read: bool,
    /// The PASID that served the request.
    pub(crate) pasid: u32,
    /// Of an interrupt request.
    pub(crate) interrupt: bool,
}
