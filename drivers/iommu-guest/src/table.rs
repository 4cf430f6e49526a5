//! Page tables of the guest's own that devices use.

use crate::flush::Change;
use crate::{Capabilities, Owed};
use core::sync::atomic::{AtomicBool, Ordering};
use x86_64::structures::paging::page::PageRangeInclusive;

/// A PASID of this guest's numbering.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct GuestPasid(pub(crate) u32);

impl GuestPasid {
    /// The number.
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// A number that came from elsewhere. The hypervisor refuses one that does not exist.
    pub const fn from_u32(number: u32) -> Self {
        Self(number)
    }
}

/// A page table of the guest's own, known to the hypervisor.
///
/// The guest keeps the table: it changes entries as it likes and asks here what it then
/// owes. Table pages and mapped pages may be reused once that is flushed.
#[derive(Debug)]
pub struct UserTable {
    id: u32,
    capabilities: Capabilities,
    /// An [`Owed`] was dropped: the next flush is of everything.
    lost: AtomicBool,
}

impl UserTable {
    pub(crate) fn new(id: u32, capabilities: Capabilities) -> Self {
        Self {
            id,
            capabilities,
            lost: AtomicBool::new(false),
        }
    }

    /// The handle on the wire.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What holds for this table.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Entries of these pages were not present and are now. Owes something only where the
    /// hypervisor shadows the table; asking costs nothing where it does not.
    pub fn mapped(&self, pages: PageRangeInclusive) -> Owed<'_> {
        let owes = self.capabilities.contains(Capabilities::INVALIDATE_ON_MAP);
        Owed::new(self, owes.then(|| Change::table(pages)), ())
    }

    /// Leaf entries of these pages were changed or cleared; the tables above are as before.
    pub fn changed(&self, pages: PageRangeInclusive) -> Owed<'_> {
        Owed::new(self, Some(Change::leaf(pages)), ())
    }

    /// Tables that translate these pages were changed or taken out.
    pub fn tables_changed(&self, pages: PageRangeInclusive) -> Owed<'_> {
        Owed::new(self, Some(Change::table(pages)), ())
    }

    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::Relaxed)
    }
}
