//! Why a request failed, by walking the guest's own table as nesting hardware would.

use crate::guest_table::{self, Contents};
use crate::shadow::{INTERRUPT_RANGE, meets_interrupts};
use io_pgtable::{Limits, in_width, index_of, span_shift};
use iommu_core::{Access, Address, AddressRange, FaultReason, Gpa, GuestMemory, Iova, TableFormat};

/// A table that a guest keeps, and what hardware would have accepted in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Table {
    pub(crate) root: Gpa,
    pub(crate) levels: u8,
    pub(crate) limits: Limits,
    /// Bits of guest address that a second stage could hold.
    pub(crate) guest_bits: u8,
}

/// The entry of the guest's table that ended a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct GuestEntry {
    /// 1 for a 4 KiB leaf.
    pub level: u8,
    /// Where it lies.
    pub at: Gpa,
    /// What it held when it was looked into.
    pub value: u64,
}

/// How a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    /// Why it failed; `None` if it did not.
    pub(crate) reason: Option<FaultReason>,
    /// The last entry that was read.
    pub(crate) entry: Option<GuestEntry>,
}

impl Outcome {
    fn fails(reason: FaultReason, entry: Option<GuestEntry>) -> Self {
        Self {
            reason: Some(reason),
            entry,
        }
    }
}

/// Walks for a request with user rights (§3.6, §3.8).
pub(crate) fn walk(
    memory: &dyn GuestMemory,
    table: &Table,
    address: Iova,
    wanted: Access,
) -> Outcome {
    let format = if table.levels == 5 {
        TableFormat::FirstStage5
    } else {
        TableFormat::FirstStage4
    };
    if !in_width(format, address, format.input_bits()) {
        return Outcome::fails(FaultReason::NOT_CANONICAL, None);
    }
    let mut at = table.root;
    let mut rights = Access::READ_WRITE;
    let mut last = None;
    for level in (1..=table.levels).rev() {
        if let Some(reason) = unreachable_table(memory, table, at) {
            return Outcome::fails(reason, last);
        }
        let index = index_of(address.as_u64(), level);
        let Ok((value, contents)) = guest_table::read(memory, at, index, level, &table.limits)
        else {
            return Outcome::fails(FaultReason::SECOND_STAGE_NOT_PRESENT, last);
        };
        last = guest_table::entry_address(at, index).map(|at| GuestEntry { level, at, value });
        match contents {
            Contents::NotPresent => {
                return Outcome::fails(FaultReason::FIRST_STAGE_NOT_PRESENT, last);
            }
            Contents::Reserved => return Outcome::fails(FaultReason::FIRST_STAGE_RESERVED, last),
            Contents::Supervisor => return Outcome::fails(FaultReason::USER_DENIED, last),
            Contents::Table { address, access } => {
                rights = rights.intersection(access);
                at = address;
            }
            Contents::Leaf {
                address: page,
                access,
            } => {
                let rights = rights.intersection(access);
                let target = page.checked_add(address.offset_in(span_shift(level)));
                let reason = target.map_or(Some(FaultReason::NESTED_BEYOND_WIDTH), |target| {
                    end_of_walk(memory, table, target, rights, wanted)
                });
                return Outcome {
                    reason,
                    entry: last,
                };
            }
        }
    }
    // The level-1 entry is a leaf or ends the walk.
    Outcome::fails(FaultReason::FIRST_STAGE_RESERVED, last)
}

/// Why the second stage does not lead to a table page.
fn unreachable_table(memory: &dyn GuestMemory, table: &Table, at: Gpa) -> Option<FaultReason> {
    if beyond(at, table.guest_bits) {
        return Some(FaultReason::NESTED_BEYOND_WIDTH);
    }
    match guest_table::backing(memory, at) {
        Some(_) => None,
        None => Some(FaultReason::SECOND_STAGE_NOT_PRESENT),
    }
}

/// Why a request that the guest's own table allows, or not, fails at its target.
fn end_of_walk(
    memory: &dyn GuestMemory,
    table: &Table,
    target: Gpa,
    rights: Access,
    wanted: Access,
) -> Option<FaultReason> {
    if !rights.allows(wanted) {
        return Some(FaultReason::SCALABLE_WRITE_DENIED);
    }
    if is_interrupt(target) {
        return Some(FaultReason::SCALABLE_INTO_INTERRUPT_RANGE);
    }
    if beyond(target, table.guest_bits) {
        return Some(FaultReason::NESTED_BEYOND_WIDTH);
    }
    let Ok(backing) = memory.resolve(target, Access::READ) else {
        return Some(FaultReason::SECOND_STAGE_NOT_PRESENT);
    };
    if !backing.access.allows(wanted) {
        return Some(FaultReason::SCALABLE_WRITE_DENIED);
    }
    let host = AddressRange::page_of(backing.hpa);
    meets_interrupts(&host).then_some(FaultReason::SCALABLE_INTO_INTERRUPT_RANGE)
}

fn beyond(address: Gpa, bits: u8) -> bool {
    address
        .as_u64()
        .checked_shr(u32::from(bits))
        .is_some_and(|rest| rest != 0)
}

fn is_interrupt(address: Gpa) -> bool {
    let (first, last) = INTERRUPT_RANGE;
    (first..=last).contains(&address.as_u64())
}
