//! A guest's own page table, read as hardware's first stage reads it (§3.6).
//!
//! Each entry is read once, in one access; what the guest writes meanwhile is seen whole
//! or not at all, and is looked at again only when the guest says that it changed.

use io_pgtable::{Entry, Limits, decode};
use iommu_core::{
    Access, Address, Gpa, GuestMemory, GuestMemoryError, Hpa, PAGE_SHIFT, PAGE_SIZE, TableFormat,
};

/// What an entry of a guest's table means to a request with user rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contents {
    NotPresent,
    /// A reserved bit is set.
    Reserved,
    /// Present, and for supervisor requests only.
    Supervisor {
        address: Gpa,
    },
    Table {
        address: Gpa,
        access: Access,
    },
    Leaf {
        address: Gpa,
        access: Access,
    },
}

/// Reads entry `index` of the table at `table`. The raw value comes along.
pub(crate) fn read(
    memory: &dyn GuestMemory,
    table: Gpa,
    index: usize,
    level: u8,
    limits: &Limits,
) -> Result<(u64, Contents), GuestMemoryError> {
    let at = entry_address(table, index).ok_or(GuestMemoryError::Unmapped(table))?;
    let raw = memory.read_once(at)?;
    Ok((raw, contents(level, raw, limits)))
}

/// Where an entry lies.
pub(crate) fn entry_address(table: Gpa, index: usize) -> Option<Gpa> {
    table.checked_add((index as u64 & 0x1ff) << 3)
}

fn contents(level: u8, raw: u64, limits: &Limits) -> Contents {
    // The rules of one level are the same whether or not there is a fifth above.
    match decode(TableFormat::FirstStage5, level, raw, limits) {
        Entry::NotPresent => Contents::NotPresent,
        Entry::Reserved => Contents::Reserved,
        Entry::Table {
            user: false,
            address,
            ..
        }
        | Entry::Leaf {
            user: false,
            address,
            ..
        } => Contents::Supervisor {
            address: Gpa::new(address),
        },
        Entry::Table {
            address, access, ..
        } => Contents::Table {
            address: Gpa::new(address),
            access,
        },
        Entry::Leaf {
            address, access, ..
        } => Contents::Leaf {
            address: Gpa::new(address),
            access,
        },
    }
}

/// Where in host memory a table page of the guest's lies, if all of it is memory that the
/// guest may read.
pub(crate) fn backing(memory: &dyn GuestMemory, table: Gpa) -> Option<Hpa> {
    if !table.is_aligned(PAGE_SHIFT) {
        return None;
    }
    let backing = memory.resolve(table, Access::READ).ok()?;
    (backing.bytes >= PAGE_SIZE && backing.access.reads()).then_some(backing.hpa)
}
