//! What the guest wants an entry to be, read from its memory once.
//!
//! Nothing here trusts the guest: whatever stands in its tables becomes a page of its own
//! memory, with no more rights than the memory has, or nothing.

use super::key::{Key, KindId, Role, page_of};
use super::kind::Kind;
use super::pages::Page;
use crate::guest_table::{self, Contents};
use io_pgtable::span_shift;
use iommu_core::{Access, Address, AddressRange, Gpa, GuestMemory, Hpa, PAGE_SIZE};

/// Interrupt requests, not memory (§3.15); a translation that ends here is refused.
pub(crate) const INTERRUPT_RANGE: (u64, u64) = (0xfee0_0000, 0xfeef_ffff);

/// The guest's table that a shadow page mirrors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Source {
    pub(super) table: Gpa,
    /// What the entries above allow that have no shadow of their own.
    pub(super) access: Access,
}

/// What a shadow entry shall be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    Nothing,
    Table { child: Key, access: Access },
    Leaf { page: Hpa, access: Access },
}

/// The table that a page mirrors now. `None` for fragments, and for a cut root whose
/// guest has nothing there.
pub(super) fn source(memory: &dyn GuestMemory, page: &Page, kind: &Kind) -> Option<Source> {
    match page.key.role {
        Role::Root | Role::Table => Some(Source {
            table: page.key.address,
            access: Access::READ_WRITE,
        }),
        Role::CutRoot => {
            let level = kind.guest_levels;
            let (_, contents) =
                guest_table::read(memory, page.key.address, 0, level, &kind.guest_limits()).ok()?;
            match contents {
                Contents::Table { address, access } => Some(Source {
                    table: address,
                    access,
                }),
                _ => None,
            }
        }
        Role::Fragment => None,
    }
}

/// Where in host memory the guest's table lies that a page mirrors.
pub(super) fn backing(memory: &dyn GuestMemory, page: &Page) -> Option<Hpa> {
    match page.key.role {
        Role::Fragment => None,
        Role::Root | Role::CutRoot | Role::Table => guest_table::backing(memory, page.key.address),
    }
}

/// What entry `index` of a page shall be.
pub(super) fn wanted(
    memory: &dyn GuestMemory,
    kind: &Kind,
    key: &Key,
    source: Option<&Source>,
    index: usize,
) -> Wanted {
    if key.role == Role::Fragment {
        let offset = (index as u64).checked_shl(span_shift(key.level));
        let part = offset.and_then(|offset| key.address.checked_add(offset));
        return part.map_or(Wanted::Nothing, |part| {
            memory_entry(memory, kind, key.kind, key.level, part, Access::READ_WRITE)
        });
    }
    if matches!(key.role, Role::Root | Role::CutRoot) && index >= kind.root_entries() {
        return Wanted::Nothing;
    }
    let Some(source) = source else {
        return Wanted::Nothing;
    };
    let limits = kind.guest_limits();
    let Ok((_, contents)) = guest_table::read(memory, source.table, index, key.level, &limits)
    else {
        return Wanted::Nothing;
    };
    match contents {
        Contents::Table { address, access } => table_entry(memory, key, source, address, access),
        Contents::Leaf { address, access } => memory_entry(
            memory,
            kind,
            key.kind,
            key.level,
            address,
            access.intersection(source.access),
        ),
        Contents::NotPresent | Contents::Reserved | Contents::Supervisor { .. } => Wanted::Nothing,
    }
}

/// An entry that leads to a table of the guest's.
fn table_entry(
    memory: &dyn GuestMemory,
    key: &Key,
    source: &Source,
    table: Gpa,
    access: Access,
) -> Wanted {
    let Some(level) = key.level.checked_sub(1) else {
        return Wanted::Nothing;
    };
    if guest_table::backing(memory, table).is_none() {
        return Wanted::Nothing;
    }
    Wanted::Table {
        child: Key {
            address: page_of(table),
            level,
            role: Role::Table,
            kind: key.kind,
        },
        access: access.intersection(source.access),
    }
}

/// An entry of `level` that maps guest memory from `gpa` on: one leaf, if host memory and
/// unit allow, or else a table of fragments.
fn memory_entry(
    memory: &dyn GuestMemory,
    kind: &Kind,
    kind_id: KindId,
    level: u8,
    gpa: Gpa,
    access: Access,
) -> Wanted {
    let shift = span_shift(level);
    if allows_leaf(kind, level)
        && let Some((page, rights)) = contiguous(memory, kind, gpa, shift)
    {
        let access = access.intersection(rights);
        // Every present first-stage page can be read, so what cannot be read is left out
        // in both stages.
        return if access.reads() {
            Wanted::Leaf { page, access }
        } else {
            Wanted::Nothing
        };
    }
    let span = PAGE_SIZE.checked_shl(shift.saturating_sub(iommu_core::PAGE_SHIFT));
    match level {
        0 | 1 => Wanted::Nothing,
        _ if span.is_none_or(|span| memory.hole(gpa) >= span) => Wanted::Nothing,
        _ => Wanted::Table {
            child: Key {
                address: gpa,
                level: level.saturating_sub(1),
                role: Role::Fragment,
                kind: kind_id,
            },
            access,
        },
    }
}

fn allows_leaf(kind: &Kind, level: u8) -> bool {
    match level {
        1 => true,
        2 => kind.leaves.mib2,
        3 => kind.leaves.gib1,
        _ => false,
    }
}

/// The host memory behind `1 << shift` bytes of guest memory, if it is in one piece,
/// aligned, and all of it is memory in both views.
fn contiguous(
    memory: &dyn GuestMemory,
    kind: &Kind,
    gpa: Gpa,
    shift: u32,
) -> Option<(Hpa, Access)> {
    let bytes = PAGE_SIZE.checked_shl(shift.saturating_sub(iommu_core::PAGE_SHIFT))?;
    let backing = memory.resolve(gpa, Access::READ).ok()?;
    if backing.bytes < bytes || !backing.hpa.is_aligned(shift) {
        return None;
    }
    let host = AddressRange::of_bytes(backing.hpa, bytes).ok()?;
    let guest = AddressRange::of_bytes(gpa, bytes).ok()?;
    let within = host
        .last()
        .as_u64()
        .checked_shr(u32::from(kind.host_bits))
        .is_none_or(|beyond| beyond == 0);
    (within && !meets_interrupts(&host) && !meets_interrupts(&guest))
        .then_some((backing.hpa, backing.access))
}

/// Whether any of these addresses means interrupts.
pub(crate) fn meets_interrupts<A: Address>(range: &AddressRange<A>) -> bool {
    let (first, last) = INTERRUPT_RANGE;
    range.first().as_u64() <= last && first <= range.last().as_u64()
}
