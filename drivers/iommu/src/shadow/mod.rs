//! Nesting without hardware for it: a guest's page tables, kept a second time with host
//! addresses.
//!
//! A shadow page mirrors one page of the guest's tables, entry by entry, as one level of a
//! first- or second-stage table that hardware walks. It is found by what it mirrors
//! ([`key`]), so that all tables of the guest which share a page share its shadow, and a
//! table that points to itself needs one shadow page a level. Rights are not folded: each
//! shadow entry has those of its guest entry, and hardware ands them on the way down.
//!
//! * [`build`](Shadow::build) makes a root and everything below it; devices here cannot
//!   wait for a page to be filled in.
//! * [`sync`](Shadow::sync) looks at the guest's entries for a range again, and only at
//!   those. A page below an entry that is new is looked at whole.
//! * [`release`](Shadow::release) gives a root up, and what nobody else needs.
//! * [`forget`](Shadow::forget) takes host memory out, wherever it is mapped.
//! * An invalidation that has done its work stops ([`part`]) and goes on where it was when
//!   it is called again.
//! * [`settle`](Shadow::settle) says what hardware must be told ([`plan`]) and hands over
//!   the frames that must wait for it.
//!
//! Levels fall from page to page, so nothing here recurses deeper than there are levels,
//! whatever the guest's tables look like; the number of pages is bounded by a quota, and a
//! page is looked at whole at most once a call. This module knows no guest object, no
//! device and no lock.

mod forget;
mod key;
mod kind;
mod pages;
mod part;
mod plan;
mod roots;
mod settle;
mod source;
mod sync;

pub(crate) use kind::Kind;
pub(crate) use pages::ShadowError;
pub(crate) use part::MAX_WORK;
pub(crate) use roots::RootId;
pub(crate) use settle::{SettleError, add as add_debt};
pub(crate) use source::{INTERRUPT_RANGE, meets_interrupts};

use key::{Key, page_of};
use kind::Kinds;
use pages::Pages;
use part::Part;
use plan::Plan;
use roots::Roots;

use iommu_core::{DomainHandle, FrameList, Gpa, GuestMemory, Hpa, Platform};

/// Ranges that one call can make hardware forget one by one; what is beyond is forgotten
/// wholesale.
pub(crate) const MAX_RANGES: usize = 512;
/// The same for all invalidations that a ring makes in one go.
pub(crate) const RING_RANGES: usize = 1024;

/// What the engine works with during a call.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a, P> {
    pub(crate) platform: &'a P,
    pub(crate) memory: &'a dyn GuestMemory,
}

/// All shadow tables of one guest.
#[derive(Debug)]
pub(crate) struct Shadow {
    pages: Pages,
    kinds: Kinds,
    roots: Roots,
    plan: Plan,
    /// Counts calls, so that a page is looked at whole once a call.
    call: u64,
    /// Entries looked at in this call.
    work: u64,
    /// What of the call is done in one go.
    part: Part,
}

impl Shadow {
    /// For `quota` pages and `roots` roots. `None` without memory. `seed` spreads what the
    /// guest chooses over hash chains.
    pub(crate) fn new(quota: u32, roots: usize, seed: u64) -> Option<Self> {
        Some(Self {
            pages: Pages::new(quota, seed)?,
            kinds: Kinds::default(),
            roots: Roots::new(roots)?,
            plan: Plan::new(RING_RANGES)?,
            call: 0,
            work: 0,
            part: Part::default(),
        })
    }

    /// Begins a call, which can make hardware forget `ranges` ranges one by one.
    pub(crate) fn begin(&mut self, ranges: usize) {
        self.call = self.call.wrapping_add(1);
        self.part.count(core::mem::take(&mut self.work));
        self.part.stops = false;
        self.plan.begin(ranges);
    }

    /// Begins another part of a call, for which pages that were looked at whole before are
    /// looked at again.
    pub(crate) fn next_in_call(&mut self) {
        self.call = self.call.wrapping_add(1);
    }

    /// Pages in use.
    pub(crate) fn pages_used(&self) -> u32 {
        self.pages.used()
    }

    /// Entries looked at since the call began.
    pub(crate) fn work(&self) -> u64 {
        self.work
    }

    /// Makes the shadow of a table of the guest's. Hardware does not know it yet. On error
    /// nothing is left of it.
    pub(crate) fn build<P: Platform>(
        &mut self,
        context: &Context<'_, P>,
        kind: &Kind,
        root: Gpa,
    ) -> Result<RootId, ShadowError> {
        if !self.roots.has_room() {
            return Err(ShadowError::Quota);
        }
        let kind_id = self.kinds.intern(kind).ok_or(ShadowError::Quota)?;
        let (role, level) = kind.root();
        let key = Key {
            address: page_of(root),
            level,
            role,
            kind: kind_id,
        };
        let page = match self.pages.find(&key) {
            Some(page) => {
                // What another table has of it may be older than what the guest has now.
                self.look_at_all(context, page)?;
                page
            }
            None => self.create(context, key)?,
        };
        match self.roots.add(page, kind_id) {
            Some(id) => {
                if let Some(page) = self.pages.get_mut(page) {
                    page.references = page.references.saturating_add(1);
                }
                Ok(id)
            }
            None => {
                self.release_page(context.platform, page);
                Err(ShadowError::Quota)
            }
        }
    }

    /// Where hardware finds the root's table.
    pub(crate) fn table(&self, id: RootId) -> Option<Hpa> {
        let page = self.pages.get(self.roots.get(id)?.page)?;
        Some(page.table.hpa())
    }

    /// The root's format and all that goes with it.
    pub(crate) fn kind(&self, id: RootId) -> Option<&Kind> {
        self.kinds.get(self.roots.get(id)?.kind)
    }

    /// From now on a domain uses the root, or (with `None`) none does any more.
    pub(crate) fn set_domain(&mut self, id: RootId, domain: Option<DomainHandle>) {
        if let Some(root) = self.roots.get_mut(id) {
            root.domain = domain;
        }
    }

    /// Gives a root up that no domain uses any more. Its frames wait for
    /// [`settle`](Self::settle): hardware must have been told to forget the domain before
    /// they are used again.
    pub(crate) fn release<P: Platform>(&mut self, platform: &P, id: RootId) {
        let Some(root) = self.roots.remove(id) else {
            return;
        };
        if let Some(page) = self.pages.get_mut(root.page) {
            page.references = page.references.saturating_sub(1);
        }
        self.release_page(platform, root.page);
    }

    /// Frames that fell out of the tables and that hardware may know until what is owed is
    /// settled.
    pub(crate) fn take_released(&mut self) -> FrameList {
        self.pages.take_released()
    }
}
