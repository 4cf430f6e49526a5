//! The formats that a guest's shadows are kept in.

use super::key::{KindId, Role, low_bits};
use arrayvec::ArrayVec;
use io_pgtable::{Limits, span_shift};
use iommu_core::{
    AddressRange, Coherence, DeviceCapabilities, Iova, LeafSizes, Stage, TableFormat,
};

/// Formats that a guest's devices need at a time, at most. Units of one machine differ in
/// a few ways only.
const MAX_KINDS: usize = 8;

/// How many bits the lower canonical half of a four-level table has.
const LOWER_HALF_BITS: u8 = 47;

/// Everything about a unit that decides what a shadow page looks like. Devices on units
/// that agree here share shadows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kind {
    /// Format of the shadow.
    pub(crate) format: TableFormat,
    /// Levels of the guest's own table.
    pub(crate) guest_levels: u8,
    /// Large leaves that shadows may have.
    pub(super) leaves: LeafSizes,
    pub(super) coherence: Coherence,
    /// Bits of host address.
    pub(super) host_bits: u8,
    /// Bits of I/O virtual address that the unit translates.
    iova_bits: u8,
    /// Hardware must be told of new translations too.
    pub(super) tell_of_new: bool,
}

impl Kind {
    /// How a guest's table of so many levels can be shadowed for such a device, the most
    /// faithful way first. `None` if there is no way.
    pub(crate) fn choose(guest_levels: u8, device: &DeviceCapabilities) -> Option<Self> {
        let formats: &[TableFormat] = match guest_levels {
            4 => &[
                TableFormat::FirstStage4,
                TableFormat::SecondStage4,
                TableFormat::SecondStage3,
            ],
            5 => &[TableFormat::FirstStage5],
            _ => &[],
        };
        let &format = formats.iter().find(|&&format| device.supports(format))?;
        let first_stage = format.stage() == Stage::First;
        Some(Self {
            format,
            guest_levels,
            leaves: if first_stage {
                LeafSizes {
                    mib2: true,
                    ..device.first_stage_leaves
                }
            } else {
                device.second_stage_leaves
            },
            coherence: if device.coherent {
                Coherence::Snooped
            } else {
                Coherence::WriteBack
            },
            host_bits: device.host_bits,
            iova_bits: device.iova_bits,
            // First-stage entries that are not present are never cached, not even with
            // CAP.CM = 1 (§6.1).
            tell_of_new: device.write_buffer_flush || device.caching_mode && !first_stage,
        })
    }

    /// Whether devices can use the upper half of the guest's address space.
    pub(crate) fn has_upper_half(&self) -> bool {
        self.format.stage() == Stage::First && self.iova_bits >= self.format.input_bits()
    }

    /// Bits of address below the first one that is not translated, in the lower half.
    pub(crate) fn lower_half_bits(&self) -> u8 {
        let canonical = if self.guest_levels == 5 {
            LOWER_HALF_BITS.saturating_add(9)
        } else {
            LOWER_HALF_BITS
        };
        canonical.min(self.iova_bits).min(self.format.input_bits())
    }

    /// Role and level of a root's shadow page.
    pub(super) fn root(&self) -> (Role, u8) {
        let levels = self.format.levels();
        if levels < self.guest_levels {
            (Role::CutRoot, levels)
        } else {
            (Role::Root, levels)
        }
    }

    /// How many entries of a root's shadow page may be filled.
    ///
    /// A second stage, and a unit of fewer bits, does not know canonical addresses: what
    /// the guest has in its upper half would appear where no address is canonical.
    pub(super) fn root_entries(&self) -> usize {
        if self.has_upper_half() {
            return 512;
        }
        let shift = span_shift(self.format.levels());
        let bits = u32::from(self.lower_half_bits()).saturating_sub(shift);
        1usize.checked_shl(bits).unwrap_or(512).min(512)
    }

    /// The addresses that an offset range within a root's span stands for, in the device's
    /// view: the two canonical halves are far apart there.
    pub(super) fn iovas(&self, first: u64, last: u64) -> [Option<AddressRange<Iova>>; 2] {
        let bits = u32::from(self.format.input_bits());
        if !self.has_upper_half() {
            return [range(first, last), None];
        }
        let middle = low_bits(bits.saturating_sub(1));
        let extend = |offset: u64| offset | !low_bits(bits);
        [
            (first <= middle)
                .then(|| range(first, last.min(middle)))
                .flatten(),
            (last > middle)
                .then(|| range(extend(first.max(middle.saturating_add(1))), extend(last)))
                .flatten(),
        ]
    }

    /// What shadow entries may hold.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            host_bits: self.host_bits,
            leaves: self.leaves,
            snoop_control: false,
        }
    }

    /// What entries of the guest's table may hold. Large pages of both sizes can be
    /// shadowed whatever the unit has.
    pub(crate) fn guest_limits(&self) -> Limits {
        Limits {
            host_bits: self.host_bits,
            leaves: LeafSizes {
                mib2: true,
                gib1: true,
            },
            snoop_control: false,
        }
    }
}

fn range(first: u64, last: u64) -> Option<AddressRange<Iova>> {
    AddressRange::inclusive(Iova::new(first), Iova::new(last)).ok()
}

/// The kinds that a guest uses.
#[derive(Debug, Default)]
pub(super) struct Kinds(ArrayVec<Kind, MAX_KINDS>);

impl Kinds {
    /// The number of a kind, new or known; `None` if there are too many.
    pub(super) fn intern(&mut self, kind: &Kind) -> Option<KindId> {
        let place = match self.0.iter().position(|known| known == kind) {
            Some(place) => place,
            None => {
                self.0.try_push(*kind).ok()?;
                self.0.len().checked_sub(1)?
            }
        };
        u8::try_from(place).ok().map(KindId)
    }

    pub(super) fn get(&self, id: KindId) -> Option<&Kind> {
        self.0.get(usize::from(id.0))
    }
}
