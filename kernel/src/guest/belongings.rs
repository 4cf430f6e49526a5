//! What a hostile guest has, told so that QEMU's trace can be held against it: its device's
//! requests must lead nowhere else.

use super::Guest;
use crate::log::report;
use crate::vm::Canary;
use alloc::vec::Vec;
use arrayvec::{ArrayString, ArrayVec};
use core::fmt::Write;
use iommu_core::PAGE_SIZE;

/// Ranges in one line.
const RANGES: usize = 32;

/// Tells which memory of the host's is the guest's.
pub(super) fn tell(guest: &Guest, id: &str) {
    let Some(device) = guest.vm().devices().first() else {
        return;
    };
    let mut pages = Vec::new();
    let frames = guest.vm().ram().pages();
    if pages.try_reserve_exact(frames.len()).is_err() {
        return;
    }
    pages.extend(frames.map(|(_, frame)| frame.hpa().as_u64()));
    pages.sort_unstable();
    let mut rest = pages.as_slice();
    while !rest.is_empty() {
        let mut line = ArrayVec::<(u64, u64), RANGES>::new();
        while let Some((&first, _)) = rest.split_first() {
            let follows = |(page, number): (&u64, u64)| *page == first + number * PAGE_SIZE;
            let length = rest
                .iter()
                .zip(0..)
                .take_while(|&pair| follows(pair))
                .count();
            if line.try_push((first, length as u64)).is_err() {
                break;
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        let mut owns = ArrayString::<900>::new();
        for (first, pages) in &line {
            let comma = if owns.is_empty() { "" } else { "," };
            // 32 times 27 characters at most.
            let _ = write!(owns, "{comma}{first:#x}+{pages}");
        }
        let source = device.id().source;
        report::witness(id, format_args!("verdict=pass source={source} owns={owns}"));
    }
}

/// Tells whether the hypervisor's pages among the guest's are whole at its end.
pub(super) fn tell_end(guest: &Guest, id: &str) -> bool {
    let canaries = guest.vm().ram().canaries();
    let is_whole = canaries.iter().all(Canary::is_whole);
    let (verdict, canaries) = match is_whole {
        true => ("pass", "whole"),
        false => ("fail", "broken"),
    };
    let calls = guest.vm().hypercalls();
    report::witness(
        id,
        format_args!("verdict={verdict} canaries={canaries} hypercalls={calls}"),
    );
    is_whole
}
