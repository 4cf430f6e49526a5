//! What a shadow page mirrors.

use iommu_core::{Address, Gpa};

/// Which of a guest's table formats a shadow is kept in; an index into
/// [`Kinds`](super::kind::Kinds).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KindId(pub(super) u8);

/// What stands behind a shadow page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// A root table of the guest's, entry by entry, as far as the shadow's width goes.
    Root,
    /// The table behind entry 0 of a root table of the guest's: a shadow of 39 bits has no
    /// level 4.
    CutRoot,
    /// Another table of the guest's, entry by entry.
    Table,
    /// No table: a part of a large page of the guest's whose host memory is scattered.
    Fragment,
}

impl Role {
    pub(super) fn is_root(self) -> bool {
        matches!(self, Self::Root | Self::CutRoot)
    }
}

/// What a shadow page mirrors. Two places that need the same get the same page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    /// The guest's table page; for a fragment the first address that it maps.
    pub(super) address: Gpa,
    /// Level of the shadow page: 1 for a page of 4 KiB leaves.
    pub(super) level: u8,
    pub(super) role: Role,
    pub(super) kind: KindId,
}

impl Key {
    /// A number that is spread evenly for those who do not know `seed` (odd).
    pub(super) fn hash(&self, seed: u64) -> u64 {
        let role = match self.role {
            Role::Root => 0u64,
            Role::CutRoot => 1,
            Role::Table => 2,
            Role::Fragment => 3,
        };
        // Addresses are page-aligned: their low bits have room for the rest.
        let packed = self.address.as_u64()
            | u64::from(self.level) << 8
            | role << 4
            | u64::from(self.kind.0 & 0xf);
        spread(packed, seed)
    }
}

/// Multiplies by an odd number and folds the upper half down.
pub(super) fn spread(value: u64, seed: u64) -> u64 {
    let product = value.wrapping_mul(seed | 1);
    product ^ product >> 32
}

/// The page that holds `address`.
pub(super) fn page_of(address: Gpa) -> Gpa {
    address.align_down(iommu_core::PAGE_SHIFT)
}

/// Ones below bit `shift`; all ones from 64 on.
pub(super) fn low_bits(shift: u32) -> u64 {
    1u64.checked_shl(shift).unwrap_or(0).wrapping_sub(1)
}
