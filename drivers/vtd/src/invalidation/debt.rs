//! The note of a change.

use crate::domain::AttachmentRef;
use iommu_core::{AddressRange, DomainHandle, Iova, Pasid, SourceId};

/// What the driver notes about an invalidation that it owes. Opaque to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Debt(pub(crate) Kind);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    /// Nothing: hardware can hold nothing that is wrong.
    Nothing,
    /// An entry of a slot changed.
    Entry(EntryChange),
    /// The domain was destroyed and its tables are to be freed.
    Destroyed(Handle),
    /// Translations became present that were not.
    Mapped { domain: Handle, range: Range },
    /// Translations changed or went away.
    Changed {
        domain: Handle,
        range: Range,
        leaf_only: bool,
    },
    /// Any of the domain's translations may have changed.
    ChangedAll(Handle),
    /// All entries that lead to the domain, or to one nested on it, say something else of
    /// its second stage (SSADE).
    EntriesChanged(Handle),
}

/// A domain's handle, in an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Handle(u16, u32);

impl From<DomainHandle> for Handle {
    fn from(handle: DomainHandle) -> Self {
        Self(handle.index, handle.generation)
    }
}

impl From<Handle> for DomainHandle {
    fn from(Handle(index, generation): Handle) -> Self {
        Self { index, generation }
    }
}

/// A range of addresses, in an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Range {
    first: Iova,
    last: Iova,
}

impl From<AddressRange<Iova>> for Range {
    fn from(range: AddressRange<Iova>) -> Self {
        Self {
            first: range.first(),
            last: range.last(),
        }
    }
}

impl Range {
    pub(crate) fn get(self) -> AddressRange<Iova> {
        // Made from a range, so never empty; the fallback covers its first page.
        AddressRange::inclusive(self.first, self.last)
            .unwrap_or_else(|_| AddressRange::page_of(self.first))
    }
}

/// What happened to the entries of a slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct EntryChange {
    /// Position of the unit.
    pub(crate) unit: usize,
    pub(crate) source: SourceId,
    pub(crate) pasid: Option<Pasid>,
    /// What the slot led through before.
    pub(crate) left: Option<AttachmentRef>,
    /// What it leads through now.
    pub(crate) entered: Option<AttachmentRef>,
    /// A context table was linked to the root table.
    pub(crate) root_grew: bool,
    /// The context entry, present before or not, changed.
    pub(crate) context_changed: bool,
    /// Tables or directories were replaced by copies.
    pub(crate) tables_replaced: bool,
}

impl Debt {
    /// Whether hardware need not be told anything.
    pub(crate) fn is_nothing(&self) -> bool {
        self.0 == Kind::Nothing
    }
}
