//! How a page table of a guest's own is used for a device, and what the guest is told of
//! it.

use crate::nesting::ParentId;
use crate::object::Device;
use crate::shadow::Kind;
use crate::vm::Vm;
use io_pgtable::Limits;
use iommu_abi::{Capabilities, Format};
use iommu_core::{LeafSizes, TableFormat};

/// Bits of guest address that a second stage holds where there is none: what its usual
/// format of four levels would.
const SHADOWED_GUEST_BITS: u8 = 48;

/// What a guest must do, as opposed to what it may.
const DUTIES: Capabilities = Capabilities::INVALIDATE_ON_MAP;

/// How a guest's table of so many levels is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Service {
    /// As it is, above a second stage.
    Nested(NestedTable),
    /// By a shadow.
    Shadow(Kind),
}

/// What a table that hardware nests may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NestedTable {
    pub(crate) parent: ParentId,
    pub(crate) format: TableFormat,
    leaves: LeafSizes,
    /// Bits of host address: those above are reserved in the guest's entries too.
    host_bits: u8,
    /// Bits of I/O virtual address that the unit translates.
    iova_bits: u8,
    /// Bits of guest-physical address that the second stage translates.
    pub(crate) guest_bits: u8,
    /// Supervisor requests can be allowed.
    supervisor: bool,
}

/// Levels of a format that guests may keep.
pub(crate) fn levels_of(format: Format) -> u8 {
    match format {
        Format::X86_64Level4 => 4,
        Format::X86_64Level5 => 5,
    }
}

impl Service {
    /// How a table of the guest's of so many levels is used for a device of its; `None` if
    /// it cannot be.
    pub(crate) fn choose(guest: &Vm, device: &Device, levels: u8) -> Option<Self> {
        let nested = device
            .parent
            .and_then(|parent| NestedTable::choose(guest, device, parent, levels));
        match nested {
            Some(nested) => Some(Self::Nested(nested)),
            None => Kind::choose(levels, &device.capabilities).map(Self::Shadow),
        }
    }

    /// What holds for the table.
    pub(crate) fn capabilities(&self) -> Capabilities {
        let mut all = Capabilities::USER_TABLE | Capabilities::PAGE_2M | Capabilities::FAULT_EVENTS;
        all.set(Capabilities::UPPER_HALF, self.has_upper_half());
        match self {
            Self::Nested(table) => {
                // A first stage sets them always (§3.6.2).
                all |= Capabilities::HARDWARE_NESTED | Capabilities::ACCESSED_DIRTY;
                all.set(Capabilities::PAGE_1G, table.leaves.gib1);
                all.set(Capabilities::SUPERVISOR, table.supervisor);
            }
            // Large pages of both sizes can be shadowed whatever the unit has. Accessed and
            // dirty bits are not maintained, since hardware does not walk the guest's table.
            Self::Shadow(_) => all |= Capabilities::INVALIDATE_ON_MAP | Capabilities::PAGE_1G,
        }
        all
    }

    /// Whether what a guest was told of a table that is used so holds where it is used in
    /// the `other` way.
    pub(crate) fn stands_for(&self, other: &Self) -> bool {
        let (told, holds) = (self.capabilities(), other.capabilities());
        (holds | DUTIES).contains(told) && (told | !DUTIES).contains(holds & DUTIES)
    }

    /// The format that the device sees.
    pub(crate) fn format(&self) -> TableFormat {
        match self {
            Self::Nested(table) => table.format,
            Self::Shadow(kind) => kind.format,
        }
    }

    /// Whether devices can use the upper half of the guest's address space.
    pub(crate) fn has_upper_half(&self) -> bool {
        match self {
            Self::Nested(table) => table.iova_bits >= table.format.input_bits(),
            Self::Shadow(kind) => kind.has_upper_half(),
        }
    }

    /// Bits of address below the first one that is not translated, in the lower half.
    pub(crate) fn lower_half_bits(&self) -> u8 {
        match self {
            Self::Nested(table) => {
                let canonical = table.format.input_bits().saturating_sub(1);
                canonical.min(table.iova_bits)
            }
            Self::Shadow(kind) => kind.lower_half_bits(),
        }
    }

    /// What entries of the guest's table may hold.
    pub(crate) fn guest_limits(&self) -> Limits {
        match self {
            Self::Nested(table) => Limits {
                host_bits: table.host_bits,
                leaves: table.leaves,
                snoop_control: false,
            },
            Self::Shadow(kind) => kind.guest_limits(),
        }
    }

    /// Bits of guest address that a second stage holds.
    pub(crate) fn guest_bits(&self) -> u8 {
        match self {
            Self::Nested(table) => table.guest_bits,
            Self::Shadow(_) => SHADOWED_GUEST_BITS,
        }
    }
}

impl NestedTable {
    fn choose(guest: &Vm, device: &Device, parent: ParentId, levels: u8) -> Option<Self> {
        let format = match levels {
            4 => TableFormat::FirstStage4,
            5 => TableFormat::FirstStage5,
            _ => return None,
        };
        let capabilities = &device.capabilities;
        if !capabilities.supports(format) {
            return None;
        }
        Some(Self {
            parent,
            format,
            leaves: LeafSizes {
                mib2: true,
                ..capabilities.first_stage_leaves
            },
            host_bits: capabilities.host_bits,
            iova_bits: capabilities.iova_bits,
            guest_bits: guest.parents.guest_bits(parent)?,
            supervisor: capabilities.supervisor,
        })
    }
}
