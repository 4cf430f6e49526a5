//! How long a guest's calls take, and what they cost: descriptors, doorbells and waits.

use crate::remapping::Driver;
use crate::time;
use core::sync::atomic::{AtomicU64, Ordering};
use iommu_abi::Op;
use vtd::Statistics;

/// What the calls of one operation took, altogether and at most.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub struct Cost {
    /// Calls.
    pub calls: u64,
    /// Nanoseconds that all took together.
    pub nanoseconds: u64,
    /// Nanoseconds that the longest took.
    pub longest: u64,
    /// Invalidation descriptors, waits included, if they are counted.
    pub descriptors: u64,
    /// Writes to the queue's tail.
    pub doorbells: u64,
    /// Wait descriptors.
    pub waits: u64,
}

#[derive(Default)]
struct Cell {
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    longest: AtomicU64,
    descriptors: AtomicU64,
    doorbells: AtomicU64,
    waits: AtomicU64,
}

/// Measures the calls of one guest.
pub struct Meter {
    /// By the operation's place in [`Op::ALL`]; the last is for all that are no operation.
    cells: [Cell; Op::ALL.len() + 1],
    /// Whose descriptors are counted. Those of other guests' calls at the same time are too.
    driver: Option<&'static Driver>,
}

impl Meter {
    /// Measures time alone, or the work of units too.
    pub(super) fn new(driver: Option<&'static Driver>) -> Self {
        Self {
            cells: core::array::from_fn(|_| Cell::default()),
            driver,
        }
    }

    /// Measures a call.
    pub(super) fn measure(&self, operation: u64, call: impl FnOnce() -> i64) -> i64 {
        let work = self.work();
        let begun = time::now();
        let result = call();
        let taken = time::now().since(begun).0;
        let known = Op::ALL
            .iter()
            .position(|op| u64::from(op.as_u32()) == operation);
        let Some(cell) = self.cells.get(known.unwrap_or(Op::ALL.len())) else {
            return result;
        };
        let add = |count: &AtomicU64, more: u64| count.fetch_add(more, Ordering::Relaxed);
        add(&cell.calls, 1);
        add(&cell.nanoseconds, taken);
        cell.longest.fetch_max(taken, Ordering::Relaxed);
        let done = self.work();
        for ((count, after), before) in [&cell.descriptors, &cell.doorbells, &cell.waits]
            .into_iter()
            .zip(done)
            .zip(work)
        {
            add(count, after.saturating_sub(before));
        }
        result
    }

    /// Descriptors, doorbells and waits so far.
    fn work(&self) -> [u64; 3] {
        let Some(driver) = self.driver else {
            return [0; 3];
        };
        let sum = |count: fn(&Statistics) -> u64| {
            let units = driver.units().filter_map(|unit| driver.statistics(unit));
            units.map(|statistics| count(&statistics)).sum()
        };
        [
            sum(|s| s.descriptors),
            sum(|s| s.doorbells),
            sum(|s| s.waits),
        ]
    }

    /// What the calls of an operation cost so far.
    pub fn cost(&self, op: Op) -> Cost {
        let place = Op::ALL.iter().position(|known| *known == op);
        let cell = place.and_then(|place| self.cells.get(place));
        cell.map(Cell::read).unwrap_or_default()
    }

    /// The longest call of any operation, in nanoseconds.
    pub fn longest(&self) -> u64 {
        let cells = self.cells.iter().map(|cell| cell.read().longest);
        cells.max().unwrap_or(0)
    }

    /// All calls, and the nanoseconds that they took together.
    pub fn total(&self) -> (u64, u64) {
        self.cells.iter().map(Cell::read).fold((0, 0), |all, cost| {
            let (calls, nanoseconds) = all;
            (
                calls.saturating_add(cost.calls),
                nanoseconds.saturating_add(cost.nanoseconds),
            )
        })
    }
}

impl Cell {
    fn read(&self) -> Cost {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Cost {
            calls: load(&self.calls),
            nanoseconds: load(&self.nanoseconds),
            longest: load(&self.longest),
            descriptors: load(&self.descriptors),
            doorbells: load(&self.doorbells),
            waits: load(&self.waits),
        }
    }
}
