//! The limit: the leaf entries and the links to their tables, stored one after the other
//! into pages that are there already. No walk, no check, no allocation, no zeroing.

use crate::contest::{Contestant, Workload};
use crate::pool;
use std::ptr::with_exposed_provenance_mut;
use std::sync::atomic::{AtomicU64, Ordering};

const ENTRIES: usize = 512;

pub(crate) fn contestant(workload: &Workload) -> Option<Box<dyn Contestant>> {
    let large = if workload.shift > 12 { 0x80 } else { 0 };
    Some(Box::new(Plain {
        contiguous: workload.runs.len() == 1,
        first: workload.pages().next()? | large | 3,
        step: 1 << workload.shift,
        runs: workload.runs.clone(),
        leaves: workload.leaves as usize,
        tables: Vec::new(),
        links: Vec::new(),
    }))
}

struct Plain {
    contiguous: bool,
    first: u64,
    step: u64,
    runs: Vec<iommu_core::Run>,
    leaves: usize,
    tables: Vec<usize>,
    links: Vec<usize>,
}

fn entries<'a>(page: usize) -> &'a [AtomicU64; ENTRIES] {
    // SAFETY: pages of the pool are never unmapped, and are reached through atomics.
    unsafe { &*with_exposed_provenance_mut(page) }
}

impl Plain {
    /// Stores into every leaf table what `entry` gives, and what `link` says into the table
    /// above.
    fn store(&self, mut entry: impl FnMut() -> u64, link: impl Fn(usize) -> u64) {
        let mut left = self.leaves;
        for (number, &table) in self.tables.iter().enumerate() {
            for cell in &entries(table)[..left.min(ENTRIES)] {
                cell.store(entry(), Ordering::Relaxed);
            }
            left = left.saturating_sub(ENTRIES);
            let above = entries(self.links[number / ENTRIES]);
            above[number % ENTRIES].store(link(table), Ordering::Relaxed);
        }
    }
}

impl Contestant for Plain {
    fn name(&self) -> &'static str {
        "plain stores"
    }

    fn prepare(&mut self) {
        let tables = self.leaves.div_ceil(ENTRIES);
        self.tables.extend((0..tables).map(|_| pool::take()));
        self.links
            .extend((0..tables.div_ceil(ENTRIES)).map(|_| pool::take()));
    }

    fn map(&mut self) {
        let link = |table| table as u64 | 3;
        if self.contiguous {
            let mut next = self.first;
            let step = self.step;
            let contiguous = || {
                let entry = next;
                next = next.wrapping_add(step);
                entry
            };
            self.store(contiguous, link);
        } else {
            let mut runs = self.runs.iter();
            let scattered = || runs.next().map_or(0, |run| run.hpa.as_u64() | 3);
            self.store(scattered, link);
        }
    }

    fn unmap(&mut self) {
        self.store(|| 0, |_| 0);
    }

    fn clean_up(&mut self) {
        self.tables.drain(..).for_each(pool::give_back);
        self.links.drain(..).for_each(pool::give_back);
    }

    fn table_bytes(&self) -> usize {
        0
    }
}
