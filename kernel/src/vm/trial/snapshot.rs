//! Which pages of a guest changed, and by whom.

use crate::vm::nested::NestedTables;
use crate::vm::ram::GuestRam;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use iommu_core::{Frame, Gpa};

/// A digest of every page, as it was when it was last looked at.
#[derive(Debug)]
pub(super) struct Snapshot {
    digests: Vec<u64>,
}

/// What became of a page since the last look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// The same bytes.
    None,
    /// Software wrote to it: the guest's CPU or the hypervisor on its behalf. A device may
    /// have too.
    BySoftware,
    /// It changed, and no software wrote to it.
    ByDevice,
}

impl Snapshot {
    /// Looks at every page. `None` without memory for the digests.
    pub(super) fn new(ram: &GuestRam, nested: &NestedTables) -> Option<Self> {
        let mut digests = Vec::new();
        digests.try_reserve_exact(ram.pages().len()).ok()?;
        for (number, (gpa, frame)) in ram.pages().enumerate() {
            software_wrote(ram, nested, number, gpa);
            digests.push(digest(frame));
        }
        Some(Self { digests })
    }

    /// Looks again at the pages that software wrote to. What a device changes is still to
    /// be seen.
    pub(super) fn catch_up(&mut self, ram: &GuestRam, nested: &NestedTables) {
        for (number, ((gpa, frame), known)) in ram.pages().zip(&mut self.digests).enumerate() {
            if software_wrote(ram, nested, number, gpa) {
                *known = digest(frame);
            }
        }
    }

    /// Looks at every page and tells what became of each.
    pub(super) fn compare(
        &mut self,
        ram: &GuestRam,
        nested: &NestedTables,
        mut tell: impl FnMut(Gpa, Change),
    ) {
        for (number, ((gpa, frame), known)) in ram.pages().zip(&mut self.digests).enumerate() {
            let now = digest(frame);
            let change = if software_wrote(ram, nested, number, gpa) {
                Change::BySoftware
            } else if now != *known {
                Change::ByDevice
            } else {
                Change::None
            };
            *known = now;
            tell(gpa, change);
        }
    }
}

fn software_wrote(ram: &GuestRam, nested: &NestedTables, number: usize, gpa: Gpa) -> bool {
    // Both must be taken, whatever the first says.
    let by_cpu = nested.take_dirty(gpa);
    ram.take_written(number) | by_cpu
}

/// FNV-1a over words: fast, and good enough against accidents.
fn digest(frame: &Frame) -> u64 {
    frame
        .cells()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |digest, cell| {
            (digest ^ cell.load(Ordering::Relaxed)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}
