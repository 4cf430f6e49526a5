//! Addresses whose absence a unit in caching mode may have cached (§6.1), by domain.
//!
//! Only second-stage tables: what a first stage lacks is never cached.

use super::{Caches, Range, Several};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Disjoint intervals: first address to last.
#[derive(Default)]
struct Intervals(BTreeMap<u64, u64>);

impl Intervals {
    fn insert(&mut self, first: u64, last: u64) {
        let (mut first, mut last) = (first, last);
        let touching = |intervals: &Self, first: u64, last: u64| {
            let (start, end) = intervals.0.range(..=last.saturating_add(1)).next_back()?;
            (end.saturating_add(1) >= first).then_some((*start, *end))
        };
        while let Some((start, end)) = touching(self, first, last) {
            self.0.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.0.insert(first, last);
    }

    fn remove(&mut self, range: Range) {
        let hit: Vec<(u64, u64)> = self
            .0
            .range(..=range.last)
            .rev()
            .take_while(|(_, end)| **end >= range.first)
            .map(|(start, end)| (*start, *end))
            .collect();
        for (start, end) in hit {
            self.0.remove(&start);
            if start < range.first {
                self.0.insert(start, range.first - 1);
            }
            if end > range.last {
                self.0.insert(range.last + 1, end);
            }
        }
    }

    fn contains(&self, address: u64) -> bool {
        self.0
            .range(..=address)
            .next_back()
            .is_some_and(|(_, end)| *end >= address)
    }
}

/// All of them, apart by where the absent entry stood.
#[derive(Default)]
pub(crate) struct Absent {
    pages: FxHashMap<u16, Intervals>,
    tables: FxHashMap<u16, Intervals>,
    /// Requests (source, PASID or `NO_PASID`) that may have met them, and under which
    /// domains: the IOTLB answers without a look at the context.
    seen_by: FxHashMap<(u16, u32), Several<u16>>,
}

impl Absent {
    /// An entry of `level` for `first..=last` was not present.
    pub(crate) fn insert(&mut self, domain: u16, level: u8, first: u64, last: u64) {
        let map = if level == 1 {
            &mut self.pages
        } else {
            &mut self.tables
        };
        map.entry(domain).or_default().insert(first, last);
    }

    pub(crate) fn contains(&self, domain: u16, address: u64) -> bool {
        [&self.pages, &self.tables]
            .iter()
            .any(|map| map.get(&domain).is_some_and(|held| held.contains(address)))
    }

    /// Requests of this kind are served by tables of this domain.
    pub(crate) fn meets(&mut self, source: u16, key: u32, domain: u16) {
        Caches::add(self.seen_by.entry((source, key)).or_default(), domain);
    }

    /// Whether the IOTLB may hold the absence of this page for such requests.
    pub(crate) fn hits(&self, source: u16, key: u32, address: u64) -> bool {
        let domains = self.seen_by.get(&(source, key));
        domains.is_some_and(|domains| domains.iter().any(|domain| self.contains(*domain, address)))
    }

    /// Invalidation of pages; with IH = 1 what is known of tables stays.
    pub(crate) fn remove(&mut self, domain: u16, range: Range, leaf_only: bool) {
        if let Some(held) = self.pages.get_mut(&domain) {
            held.remove(range);
        }
        if let Some(held) = self.tables.get_mut(&domain).filter(|_| !leaf_only) {
            held.remove(range);
        }
    }

    pub(crate) fn remove_domain(&mut self, domain: u16) {
        self.pages.remove(&domain);
        self.seen_by
            .values_mut()
            .for_each(|domains| domains.retain(|held| *held != domain));
        self.tables.remove(&domain);
    }

    pub(crate) fn clear(&mut self) {
        self.pages.clear();
        self.seen_by.clear();
        self.tables.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_join_and_are_cut() {
        let mut absent = Absent::default();
        absent.insert(7, 1, 0x1000, 0x1fff);
        absent.insert(7, 1, 0x3000, 0x3fff);
        absent.insert(7, 1, 0x2000, 0x2fff);
        absent.insert(7, 2, 0x0, 0xffff);
        absent.remove(7, Range::masked(0x2000, 0), true);
        assert!(
            absent.contains(7, 0x2000),
            "the table's absence stays with IH = 1"
        );
        absent.remove(7, Range::masked(0x2000, 0), false);
        let held = [0x1000, 0x2000, 0x3000].map(|address| absent.contains(7, address));
        assert_eq!(held, [true, false, true]);
        assert!(!absent.contains(8, 0x1000));
        absent.remove_domain(7);
        assert!(!absent.contains(7, 0x1000));
    }
}
