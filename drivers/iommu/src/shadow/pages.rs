//! The shadow pages of one guest: a slab with two indices and reverse maps.
//!
//! Each shadow page is two frames: the table that hardware walks, and beside it one link
//! for each entry. A present entry is on exactly one list: that of the shadow page that it
//! leads to, or that of the 2 MiB of host memory that it maps. So it can be found, and
//! taken out in constant time, from either end.

use super::key::{Key, spread};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use iommu_core::{Frame, FrameList, Hpa, Order, OutOfFrames, Platform};

/// No page, no entry.
pub(super) const NIL: u32 = u32::MAX;
/// Entries in a table page, as a power of two.
const INDEX_BITS: u32 = 9;
/// Log2 of the host memory that shares one list of leaves.
const REGION_SHIFT: u32 = 21;

/// A shadow page, by its place in the slab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PageId(u32);

/// An entry of a shadow page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct EntryRef(u32);

impl EntryRef {
    pub(super) fn new(page: PageId, index: usize) -> Self {
        Self(page.0 << INDEX_BITS | (index as u32 & 0x1ff))
    }

    pub(super) fn page(self) -> PageId {
        PageId(self.0 >> INDEX_BITS)
    }

    pub(super) fn index(self) -> usize {
        (self.0 & 0x1ff) as usize
    }

    fn some(raw: u32) -> Option<Self> {
        (raw != NIL).then_some(Self(raw))
    }
}

/// What an entry leads to, and so which list it is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// Another shadow page.
    Page(PageId),
    /// Host memory from here on, up to 2 MiB.
    Memory(Hpa),
    /// 1 GiB of host memory.
    HugeMemory,
}

/// One shadow page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) key: Key,
    pub(super) table: Frame,
    links: Frame,
    /// First of the entries that lead here.
    parents: u32,
    /// Entries that lead here, and roots that this is.
    pub(super) references: u32,
    /// The call that looked at all entries last.
    pub(super) looked_at: u64,
    /// Where the guest's table lies, for those that mirror one.
    pub(super) backing: Option<Hpa>,
    /// Entries were taken out that the guest still has: look again once hardware has
    /// forgotten them.
    pub(super) stale: bool,
    /// For a cut root: the guest's table that it mirrored last, with its rights.
    pub(super) source: Option<super::source::Source>,
    next_by_key: u32,
    next_by_frame: u32,
}

#[derive(Debug)]
enum Slot {
    Free { next: u32 },
    Used(Page),
}

/// Why no shadow page can be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ShadowError {
    /// The guest's quota is used up.
    Quota,
    /// The machine has no frame now.
    OutOfFrames(OutOfFrames),
    /// The call has done its work for now, and goes on later.
    Unfinished,
}

/// All shadow pages of a guest.
#[derive(Debug)]
pub(super) struct Pages {
    slots: Vec<Slot>,
    free: u32,
    used: u32,
    by_key: Vec<u32>,
    by_frame: Vec<u32>,
    /// Leaves by 2 MiB of host memory, hashed.
    by_memory: Vec<u32>,
    /// Leaves of 1 GiB.
    huge: u32,
    seed: u64,
    /// Tables that are in no shadow any more, and that hardware may still know.
    released: FrameList,
}

fn filled(count: usize) -> Option<Vec<u32>> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(count).ok()?;
    vector.resize(count, NIL);
    Some(vector)
}

impl Pages {
    /// Room for `quota` pages; `None` without memory.
    pub(super) fn new(quota: u32, seed: u64) -> Option<Self> {
        let quota = quota.min(1 << 22) as usize;
        let mut slots = Vec::new();
        slots.try_reserve_exact(quota).ok()?;
        for place in 0..quota {
            let next = place.saturating_add(1);
            slots.push(Slot::Free {
                next: if next == quota { NIL } else { next as u32 },
            });
        }
        let buckets = quota.next_power_of_two();
        Some(Self {
            free: if quota == 0 { NIL } else { 0 },
            slots,
            used: 0,
            by_key: filled(buckets)?,
            by_frame: filled(buckets)?,
            by_memory: filled(buckets)?,
            huge: NIL,
            seed,
            released: FrameList::new(),
        })
    }

    /// Pages in use.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    pub(super) fn get(&self, id: PageId) -> Option<&Page> {
        match self.slots.get(id.0 as usize) {
            Some(Slot::Used(page)) => Some(page),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, id: PageId) -> Option<&mut Page> {
        match self.slots.get_mut(id.0 as usize) {
            Some(Slot::Used(page)) => Some(page),
            _ => None,
        }
    }

    /// Every page in use.
    pub(super) fn ids(&self) -> impl Iterator<Item = PageId> + use<> {
        (0..self.slots.len() as u32).map(PageId)
    }

    /// The page that mirrors this.
    pub(super) fn find(&self, key: &Key) -> Option<PageId> {
        let bucket = bucket(&self.by_key, key.hash(self.seed));
        self.chain(bucket, |page| page.next_by_key)
            .find(|&id| self.get(id).is_some_and(|page| page.key == *key))
    }

    /// The page whose table lies there.
    pub(super) fn find_frame(&self, table: Hpa) -> Option<PageId> {
        let bucket = bucket(&self.by_frame, spread(table.as_u64(), self.seed));
        self.chain(bucket, |page| page.next_by_frame)
            .find(|&id| self.get(id).is_some_and(|page| page.table.hpa() == table))
    }

    fn chain(&self, first: u32, next: impl Fn(&Page) -> u32) -> impl Iterator<Item = PageId> {
        core::iter::successors((first != NIL).then_some(PageId(first)), move |&id| {
            let following = self.get(id).map_or(NIL, &next);
            (following != NIL).then_some(PageId(following))
        })
    }

    /// A new page with no entries and no references.
    pub(super) fn create<P: Platform>(
        &mut self,
        platform: &P,
        key: Key,
    ) -> Result<PageId, ShadowError> {
        let place = self.free;
        let Some(&Slot::Free { next }) = self.slots.get(place as usize) else {
            return Err(ShadowError::Quota);
        };
        let allocate = || {
            platform
                .allocate(Order::PAGE)
                .map_err(ShadowError::OutOfFrames)
        };
        let table = allocate()?;
        let links = match allocate() {
            Ok(links) => links,
            Err(error) => {
                platform.release(table);
                return Err(error);
            }
        };
        let by_key = key.hash(self.seed);
        let by_frame = spread(table.hpa().as_u64(), self.seed);
        let page = Page {
            key,
            table,
            links,
            parents: NIL,
            references: 0,
            looked_at: 0,
            stale: false,
            backing: None,
            source: None,
            next_by_key: push(&mut self.by_key, by_key, place),
            next_by_frame: push(&mut self.by_frame, by_frame, place),
        };
        if let Some(slot) = self.slots.get_mut(place as usize) {
            *slot = Slot::Used(page);
        }
        self.free = next;
        self.used = self.used.saturating_add(1);
        Ok(PageId(place))
    }

    /// Takes a page without entries and references apart. Its table goes to those that
    /// hardware may still know.
    pub(super) fn remove<P: Platform>(&mut self, platform: &P, id: PageId) {
        let Some(page) = self.get(id) else { return };
        let by_key = page.key.hash(self.seed);
        let by_frame = spread(page.table.hpa().as_u64(), self.seed);
        self.unchain(
            id,
            by_key,
            |pages| &mut pages.by_key,
            |page| &mut page.next_by_key,
        );
        self.unchain(
            id,
            by_frame,
            |pages| &mut pages.by_frame,
            |page| &mut page.next_by_frame,
        );
        let next = self.free;
        let Some(slot) = self.slots.get_mut(id.0 as usize) else {
            return;
        };
        if let Slot::Used(page) = core::mem::replace(slot, Slot::Free { next }) {
            self.free = id.0;
            self.used = self.used.saturating_sub(1);
            // Hardware never sees the links. The table is a single page, which a list
            // always takes.
            platform.release(page.links);
            let _ = self
                .released
                .push(page.table)
                .map_err(|table| platform.release(table));
        }
    }

    /// Tables that hardware may know until the flush that is owed is done.
    pub(super) fn take_released(&mut self) -> FrameList {
        core::mem::take(&mut self.released)
    }

    fn unchain(
        &mut self,
        id: PageId,
        hash: u64,
        heads: impl Fn(&mut Self) -> &mut Vec<u32>,
        next: impl Fn(&mut Page) -> &mut u32,
    ) {
        let Some(after) = self.get_mut(id).map(|page| *next(page)) else {
            return;
        };
        let Some(head) = bucket_mut(heads(self), hash) else {
            return;
        };
        if *head == id.0 {
            *head = after;
            return;
        }
        let mut at = PageId(*head);
        while let Some(link) = self.get_mut(at).map(&next) {
            if *link == id.0 {
                *link = after;
                return;
            }
            at = PageId(*link);
        }
    }

    /// The value of an entry; 0 if there is none.
    pub(super) fn entry(&self, at: EntryRef) -> u64 {
        self.get(at.page())
            .and_then(|page| page.table.load(at.index()))
            .unwrap_or(0)
    }

    /// Puts an entry on the list of what it leads to.
    pub(super) fn link(&mut self, at: EntryRef, target: Target) {
        let Some(head) = self.head(target) else {
            return;
        };
        let first = core::mem::replace(head, at.0);
        self.set_link(at, first, NIL);
        if let Some(first) = EntryRef::some(first) {
            let (next, _) = self.links_of(first);
            self.set_link(first, next, at.0);
        }
        if let Target::Page(id) = target
            && let Some(page) = self.get_mut(id)
        {
            page.references = page.references.saturating_add(1);
        }
    }

    /// Takes an entry off the list that [`link`](Self::link) put it on. Says how many
    /// references are left to the page that it led to.
    pub(super) fn unlink(&mut self, at: EntryRef, target: Target) -> Option<u32> {
        let (next, previous) = self.links_of(at);
        match EntryRef::some(previous) {
            Some(previous) => {
                let (_, before) = self.links_of(previous);
                self.set_link(previous, next, before);
            }
            None => {
                if let Some(head) = self.head(target) {
                    *head = next;
                }
            }
        }
        if let Some(next) = EntryRef::some(next) {
            let (after, _) = self.links_of(next);
            self.set_link(next, after, previous);
        }
        let Target::Page(id) = target else {
            return None;
        };
        let page = self.get_mut(id)?;
        page.references = page.references.saturating_sub(1);
        Some(page.references)
    }

    /// The first entry that leads to a page.
    pub(super) fn first_parent(&self, id: PageId) -> Option<EntryRef> {
        EntryRef::some(self.get(id)?.parents)
    }

    /// The first entry that maps something in the 2 MiB around `hpa`, or in memory that
    /// hashes alike.
    pub(super) fn first_leaf(&self, hpa: Hpa) -> Option<EntryRef> {
        EntryRef::some(bucket(&self.by_memory, self.region(hpa)))
    }

    /// The first leaf of 1 GiB.
    pub(super) fn first_huge(&self) -> Option<EntryRef> {
        EntryRef::some(self.huge)
    }

    /// The entry after this one on its list.
    pub(super) fn next(&self, at: EntryRef) -> Option<EntryRef> {
        EntryRef::some(self.links_of(at).0)
    }

    fn head(&mut self, target: Target) -> Option<&mut u32> {
        match target {
            Target::Page(id) => self.get_mut(id).map(|page| &mut page.parents),
            Target::Memory(hpa) => {
                let hash = self.region(hpa);
                bucket_mut(&mut self.by_memory, hash)
            }
            Target::HugeMemory => Some(&mut self.huge),
        }
    }

    fn region(&self, hpa: Hpa) -> u64 {
        spread(hpa.as_u64() >> REGION_SHIFT, self.seed)
    }

    /// Next and previous entry on the list.
    fn links_of(&self, at: EntryRef) -> (u32, u32) {
        let cell = self
            .get(at.page())
            .and_then(|page| page.links.load(at.index()));
        match cell {
            Some(both) => (both as u32, (both >> 32) as u32),
            None => (NIL, NIL),
        }
    }

    fn set_link(&mut self, at: EntryRef, next: u32, previous: u32) {
        let both = u64::from(next) | u64::from(previous) << 32;
        if let Some(page) = self.get(at.page())
            && let Some(cell) = page.links.cells().get(at.index())
        {
            cell.store(both, Ordering::Relaxed);
        }
    }
}

fn bucket(heads: &[u32], hash: u64) -> u32 {
    let mask = heads.len().saturating_sub(1);
    heads.get(hash as usize & mask).copied().unwrap_or(NIL)
}

fn bucket_mut(heads: &mut [u32], hash: u64) -> Option<&mut u32> {
    let mask = heads.len().saturating_sub(1);
    heads.get_mut(hash as usize & mask)
}

/// Makes `place` the first of its chain, and returns what was.
fn push(heads: &mut [u32], hash: u64, place: u32) -> u32 {
    match bucket_mut(heads, hash) {
        Some(head) => core::mem::replace(head, place),
        None => NIL,
    }
}
