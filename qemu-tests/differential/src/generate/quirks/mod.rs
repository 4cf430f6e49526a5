//! What QEMU is known to do otherwise: few cases of each, so that every rule is tried.

mod entries;
mod interrupts;
mod steps;
mod structures;

use super::{Card, Make};
use crate::case::Mode;

/// Cases of each.
const COUNT: u64 = 3;

pub(super) fn cards() -> Vec<Card> {
    let hands: &[(Mode, &'static str, Make)] = &[
        (
            Mode::Second,
            "a right is missing above a fault",
            entries::right_above_fault,
        ),
        (
            Mode::First,
            "a right is missing above a fault",
            entries::right_above_fault,
        ),
        (
            Mode::Second,
            "the other half of the root is reserved",
            structures::other_half,
        ),
        (
            Mode::PassThrough,
            "pointer of pass-through",
            structures::pass_through_pointer,
        ),
        (
            Mode::Second,
            "flags of a context entry",
            structures::context_flags,
        ),
        (
            Mode::RidPasid,
            "RID_PASID beyond the directory",
            structures::directory_size,
        ),
        (
            Mode::First,
            "directory entry reserved",
            structures::directory_reserved,
        ),
        (Mode::Second, "PASID entry of zeros", structures::pasid_zero),
        (
            Mode::First,
            "fault disabled in the PASID entry",
            structures::pasid_silent,
        ),
        (
            Mode::First,
            "PASID entry reserved",
            structures::pasid_reserved,
        ),
        (
            Mode::First,
            "second stage where there is a first",
            structures::other_stage,
        ),
        (Mode::Legacy, "entry of ones", entries::all_ones),
        (
            Mode::First,
            "narrow first stage",
            entries::narrow_first_stage,
        ),
        (Mode::Legacy, "far beyond the width", entries::far_beyond),
        (
            Mode::PassThrough,
            "pass-through beyond the host",
            entries::pass_through_beyond,
        ),
        (
            Mode::Legacy,
            "large page around the interrupt range",
            entries::around_interrupts,
        ),
        (Mode::First, "flags without snooping", entries::unsnooped),
        (
            Mode::First,
            "one flag without snooping",
            entries::one_flag_unsnooped,
        ),
        (Mode::First, "one flag of two in a ROM", entries::one_flag),
        (Mode::First, "one flag of two", entries::one_flag_in_ram),
        (
            Mode::Legacy,
            "context reserved and silent",
            structures::context_silent,
        ),
        (Mode::Second, "snoop bit", entries::snoop_bit),
        (
            Mode::Xapic,
            "compatibility format",
            interrupts::compatibility,
        ),
        (Mode::Xapic, "range of buses", interrupts::bus_range),
        (
            Mode::X2apic,
            "reserved and wrong source",
            interrupts::reserved_and_source,
        ),
        (Mode::Xapic, "reserved check", interrupts::reserved_check),
        (
            Mode::Xapic,
            "fields that nobody checks",
            interrupts::unchecked_fields,
        ),
        (Mode::X2apic, "posted entry", interrupts::posted),
        (Mode::X2apic, "index of 17 bits", interrupts::long_index),
        (Mode::Second, "device-TLB descriptor", steps::device_tlb),
        (
            Mode::First,
            "PASID-cache descriptor reserved",
            steps::pasid_cache,
        ),
        (
            Mode::Legacy,
            "wait without effect",
            steps::wait_without_effect,
        ),
        (Mode::Legacy, "denied after a hit", steps::denied_hit),
        (Mode::Second, "P of a PASID entry", steps::present_bit),
        (
            Mode::PassThrough,
            "pass-through that ends",
            steps::pass_through_ends,
        ),
    ];
    hands
        .iter()
        .map(|&(mode, intent, make)| Card {
            count: COUNT,
            mode,
            intent,
            make,
        })
        .collect()
}
