//! What hardware must be told after shadow entries changed.
//!
//! The rule that makes sharing safe: **when an entry that hardware may know changes, every
//! root from which it can be reached is told, at every address at which it is.** So after
//! each call no cache holds what the shadow tables do not say, whichever of the guest's
//! tables the call was about, and a frame that fell out of one table can be reused although
//! another had it too.
//!
//! Addresses are found by climbing the reverse map. A structure that is shared so widely
//! that climbing takes long is told wholesale.

use super::key::low_bits;
use super::kind::Kinds;
use super::pages::{PageId, Pages};
use super::roots::{RootId, Roots};
use alloc::vec::Vec;
use io_pgtable::span_shift;
use iommu_core::{AddressRange, Iova};

/// Steps of climbing that one call may take before it tells everything to everybody.
const MAX_STEPS: u32 = 1 << 14;

/// A range that a root must forget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) root: RootId,
    pub(super) range: AddressRange<Iova>,
    pub(super) leaf_only: bool,
}

/// What one call owes.
#[derive(Debug)]
pub(super) struct Plan {
    ranges: Vec<Planned>,
    /// As many ranges as the call has room for.
    limit: usize,
    steps: u32,
    /// Every root must forget everything.
    everything: bool,
}

/// Entries of one page that changed, next to each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) page: PageId,
    pub(super) first: usize,
    pub(super) last: usize,
    /// All of them were leaves before.
    pub(super) leaf_only: bool,
}

impl Plan {
    /// Room for `ranges`; `None` without memory.
    pub(super) fn new(ranges: usize) -> Option<Self> {
        let mut room = Vec::new();
        room.try_reserve_exact(ranges).ok()?;
        Some(Self {
            ranges: room,
            limit: 0,
            steps: MAX_STEPS,
            everything: false,
        })
    }

    /// Begins a call that can settle `limit` ranges beside one debt for each root.
    pub(super) fn begin(&mut self, limit: usize) {
        self.ranges.clear();
        self.limit = limit.min(self.ranges.capacity());
        self.steps = MAX_STEPS;
        self.everything = false;
    }

    pub(super) fn ranges(&self) -> &[Planned] {
        &self.ranges
    }

    pub(super) fn everything(&self) -> bool {
        self.everything
    }

    /// Notes a run of entries that changed.
    pub(super) fn note(&mut self, pages: &Pages, kinds: &Kinds, roots: &mut Roots, run: &Run) {
        let Some(page) = pages.get(run.page) else {
            return;
        };
        let shift = span_shift(page.key.level);
        let first = (run.first as u64) << shift;
        let last = (run.last as u64) << shift | low_bits(shift);
        self.climb(pages, kinds, roots, run.page, (first, last), run.leaf_only);
    }

    /// Finds the roots above `page`; `span` is an offset range within what it spans.
    /// At most as deep as there are levels.
    fn climb(
        &mut self,
        pages: &Pages,
        kinds: &Kinds,
        roots: &mut Roots,
        page: PageId,
        span: (u64, u64),
        leaf_only: bool,
    ) {
        if self.everything {
            return;
        }
        if pages.get(page).is_some_and(|page| page.key.role.is_root()) {
            // Several of the guest's tables may have the same root.
            for id in roots.ids() {
                if roots.get(id).is_some_and(|root| root.page == page) {
                    self.add(kinds, roots, id, span, leaf_only);
                }
            }
        }
        let mut parent = pages.first_parent(page);
        while let Some(at) = parent {
            let Some(steps) = self.steps.checked_sub(1) else {
                self.everything = true;
                return;
            };
            self.steps = steps;
            if let Some(above) = pages.get(at.page()) {
                let base = (at.index() as u64) << span_shift(above.key.level);
                let span = (base | span.0, base | span.1);
                self.climb(pages, kinds, roots, at.page(), span, leaf_only);
            }
            parent = pages.next(at);
        }
    }

    fn add(
        &mut self,
        kinds: &Kinds,
        roots: &mut Roots,
        id: RootId,
        span: (u64, u64),
        leaf_only: bool,
    ) {
        let Some(root) = roots.get_mut(id) else {
            return;
        };
        // No hardware uses a root without a domain yet.
        if root.domain.is_none() || root.forget_all {
            return;
        }
        let Some(kind) = kinds.get(root.kind) else {
            return;
        };
        for range in kind.iovas(span.0, span.1).into_iter().flatten() {
            let planned = Planned {
                root: id,
                range,
                leaf_only,
            };
            if !self.merge(&planned) {
                if self.ranges.len() < self.limit {
                    self.ranges.push(planned);
                } else {
                    root.forget_all = true;
                }
            }
        }
    }

    /// Widens the last range by one that touches it.
    fn merge(&mut self, planned: &Planned) -> bool {
        let Some(last) = self.ranges.last_mut() else {
            return false;
        };
        if last.root != planned.root || last.leaf_only != planned.leaf_only {
            return false;
        }
        match last.range.merged(&planned.range) {
            Some(both) => {
                last.range = both;
                true
            }
            None => false,
        }
    }
}
