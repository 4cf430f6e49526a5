//! Why a request failed, by walking the guest's own table as nesting hardware would.
//!
//! The specification's table of fault conditions (§7.1.3) gives no order to conditions that
//! hold at once. They are looked for here in the order in which its rows are grouped, which
//! is that in which a walk meets them: whether an entry is well formed (SFS.2, SFS.3, SFS.5)
//! before whose it is (SGN.2); what both stages lead to (SSS.2) before what they allow
//! together (SGN.6), which is known only after both.

use crate::guest_table::{self, Contents};
use crate::shadow::{INTERRUPT_RANGE, meets_interrupts};
use io_pgtable::{Limits, in_width, index_of, span_shift};
use iommu_core::{
    Access, Address, AddressRange, Backing, FaultReason, Gpa, GuestMemory, Iova, TableFormat,
};

/// A table that a guest keeps, and what hardware would have accepted in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Table {
    pub(crate) root: Gpa,
    pub(crate) levels: u8,
    pub(crate) limits: Limits,
    /// Bits of guest address that a second stage could hold.
    pub(crate) guest_bits: u8,
    /// Hardware walks it itself, and its reasons are the right ones.
    pub(crate) nested: bool,
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
            Contents::Supervisor { address } if beyond(address, table.guest_bits) => {
                return Outcome::fails(FaultReason::NESTED_BEYOND_WIDTH, last);
            }
            Contents::Supervisor { .. } => return Outcome::fails(FaultReason::USER_DENIED, last),
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
    if beyond(target, table.guest_bits) {
        return Some(FaultReason::NESTED_BEYOND_WIDTH);
    }
    // No second stage leads to what means interrupts, on either side.
    let backing = match memory.resolve(target, Access::READ) {
        Ok(backing) if !is_interrupt(target) && !is_behind_interrupts(&backing) => backing,
        _ => return Some(FaultReason::SECOND_STAGE_NOT_PRESENT),
    };
    let rights = rights.intersection(backing.access);
    (!rights.allows(wanted)).then_some(FaultReason::SCALABLE_WRITE_DENIED)
}

fn is_behind_interrupts(backing: &Backing) -> bool {
    meets_interrupts(&AddressRange::page_of(backing.hpa))
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

#[cfg(test)]
mod tests {
    use super::*;
    use iommu_core::{GuestMemoryError, Hpa, LeafSizes};

    /// One page at address 0, all of whose entries hold the same.
    struct Page(u64);

    impl GuestMemory for Page {
        fn resolve(&self, gpa: Gpa, _: Access) -> Result<Backing, GuestMemoryError> {
            if gpa.as_u64() >= 0x1000 {
                return Err(GuestMemoryError::Unmapped(gpa));
            }
            Ok(Backing {
                hpa: Hpa::new(0x7000 | gpa.as_u64()),
                bytes: 0x1000 - gpa.as_u64(),
                access: Access::READ_WRITE,
            })
        }

        fn read_once(&self, _: Gpa) -> Result<u64, GuestMemoryError> {
            Ok(self.0)
        }

        fn copy_in(&self, gpa: Gpa, _: &mut [u8]) -> Result<(), GuestMemoryError> {
            Err(GuestMemoryError::Unmapped(gpa))
        }

        fn copy_out(&self, gpa: Gpa, _: &[u8]) -> Result<(), GuestMemoryError> {
            Err(GuestMemoryError::Unmapped(gpa))
        }
    }

    /// Why a read fails where all entries hold `entry`, above a second stage of 39 bits.
    fn reason(entry: u64) -> Option<FaultReason> {
        let table = Table {
            root: Gpa::new(0),
            levels: 4,
            limits: Limits {
                host_bits: 46,
                leaves: LeafSizes::default(),
                snoop_control: false,
            },
            guest_bits: 39,
            nested: true,
        };
        walk(&Page(entry), &table, Iova::new(0x5000), Access::READ).reason
    }

    #[test]
    fn an_entry_is_well_formed_or_not_before_it_is_looked_at_whose_it_is() {
        let (present, writable, user) = (1, 1 << 1, 1 << 2);
        let everybodys = present | writable | user;
        assert_eq!(reason(everybodys), None);
        let supervisors = present | writable;
        assert_eq!(reason(supervisors), Some(FaultReason::USER_DENIED));
        for whose in [supervisors, everybodys] {
            let beyond = reason(1 << 39 | whose);
            assert_eq!(beyond, Some(FaultReason::NESTED_BEYOND_WIDTH));
            let reserved = reason(1 << 46 | 1 << 39 | whose);
            assert_eq!(reserved, Some(FaultReason::FIRST_STAGE_RESERVED));
        }
    }
}
