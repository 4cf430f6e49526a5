//! Taking host memory out of all shadows of a guest.

use super::pages::EntryRef;
use super::plan::Run as ChangedRun;
use super::{Context, Shadow, ShadowError};
use io_pgtable::{Entry, decode, span_shift};
use iommu_core::{Address, AddressRange, Frame, Hpa, PAGE_SHIFT, Platform, Run};

/// Pages of host memory that share one list of leaves.
const REGION_PAGES: u64 = 512;

impl Shadow {
    /// Takes out every entry that leads to this host memory, and every entry of a table of
    /// the guest's that lay in it. Returns how many.
    ///
    /// The guest's memory map must have ceased to lead there. Large pages that also led
    /// elsewhere are gone as a whole: see [`restore`](Self::restore).
    pub(crate) fn forget<P: Platform>(&mut self, platform: &P, runs: &[Run]) -> u64 {
        let mut count = 0u64;
        for run in runs {
            let Ok(range) = AddressRange::of_pages(run.hpa, run.pages) else {
                continue;
            };
            count = count
                .saturating_add(self.forget_leaves(platform, &range))
                .saturating_add(self.forget_tables(platform, &range));
        }
        count
    }

    fn forget_leaves<P: Platform>(&mut self, platform: &P, range: &AddressRange<Hpa>) -> u64 {
        let entries = u64::from(self.pages.used()).saturating_mul(512);
        if range.pages() > entries {
            return self.forget_by_scan(platform, range);
        }
        let mut count = self.forget_list(platform, range, self.pages.first_huge());
        let mut region = range.first();
        while region <= range.last() {
            let first = self.pages.first_leaf(region);
            count = count.saturating_add(self.forget_list(platform, range, first));
            let bytes = REGION_PAGES << PAGE_SHIFT;
            let next = region.align_down(bytes.trailing_zeros()).checked_add(bytes);
            let Some(next) = next else { break };
            region = next;
        }
        count
    }

    fn forget_list<P: Platform>(
        &mut self,
        platform: &P,
        range: &AddressRange<Hpa>,
        first: Option<EntryRef>,
    ) -> u64 {
        let mut count = 0u64;
        let mut at = first;
        while let Some(entry) = at {
            at = self.pages.next(entry);
            count = count.saturating_add(u64::from(self.forget_leaf(platform, range, entry)));
        }
        count
    }

    fn forget_by_scan<P: Platform>(&mut self, platform: &P, range: &AddressRange<Hpa>) -> u64 {
        let mut count = 0u64;
        for id in self.pages.ids() {
            for index in 0..Frame::CELLS_IN_PAGE {
                let at = EntryRef::new(id, index);
                count = count.saturating_add(u64::from(self.forget_leaf(platform, range, at)));
            }
        }
        count
    }

    /// Takes an entry out if it is a leaf that leads into the range.
    fn forget_leaf<P: Platform>(
        &mut self,
        platform: &P,
        range: &AddressRange<Hpa>,
        at: EntryRef,
    ) -> bool {
        self.work = self.work.saturating_add(1);
        let Some(page) = self.pages.get(at.page()) else {
            return false;
        };
        let level = page.key.level;
        let Some(kind) = self.kinds.get(page.key.kind).copied() else {
            return false;
        };
        let entry = self.pages.entry(at);
        let Entry::Leaf { address, .. } = decode(kind.format, level, entry, &kind.limits()) else {
            return false;
        };
        let bytes = 1u64.checked_shl(span_shift(level)).unwrap_or(0);
        let mapped = AddressRange::of_bytes(Hpa::new(address), bytes);
        if !mapped.is_ok_and(|mapped| mapped.overlaps(range)) {
            return false;
        }
        if level > 1
            && let Some(page) = self.pages.get_mut(at.page())
        {
            page.stale = true;
        }
        self.take_out(platform, at);
        true
    }

    /// Empties the shadows of those tables of the guest's that lay in the range.
    fn forget_tables<P: Platform>(&mut self, platform: &P, range: &AddressRange<Hpa>) -> u64 {
        let mut count = 0u64;
        for id in self.pages.ids() {
            let backing = self.pages.get(id).and_then(|page| page.backing);
            if !backing.is_some_and(|backing| range.contains(backing)) {
                continue;
            }
            for index in 0..Frame::CELLS_IN_PAGE {
                let at = EntryRef::new(id, index);
                count = count.saturating_add(u64::from(self.take_out(platform, at)));
            }
        }
        count
    }

    /// Makes an entry not present and notes what hardware must be told.
    fn take_out<P: Platform>(&mut self, platform: &P, at: EntryRef) -> bool {
        let Some(kind) = self
            .pages
            .get(at.page())
            .and_then(|page| self.kinds.get(page.key.kind))
            .copied()
        else {
            return false;
        };
        let told = self.set(platform, &kind, at, 0);
        if let Some(leaf_only) = told {
            let run = ChangedRun {
                page: at.page(),
                first: at.index(),
                last: at.index(),
                leaf_only,
            };
            self.plan
                .note(&self.pages, &self.kinds, &mut self.roots, &run);
        }
        told.is_some()
    }

    /// Looks again at pages of which [`forget`](Self::forget) took out more than had to go:
    /// the rest of a large page. To be called once hardware has forgotten what was taken
    /// out, since sizes must not change under it (§6.2.3.1).
    pub(crate) fn restore<P: Platform>(
        &mut self,
        context: &Context<'_, P>,
    ) -> Result<(), ShadowError> {
        let mut result = Ok(());
        for id in self.pages.ids() {
            if self.pages.get(id).is_some_and(|page| page.stale) {
                result = result.and(self.look_at_all(context, id));
            }
        }
        result
    }
}
