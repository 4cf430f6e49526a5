//! How long a guest's calls take, and so keep others of its CPU waiting: a call that is done
//! in parts counts once, and its longest part is its length.

use crate::time;
use core::sync::atomic::{AtomicU64, Ordering};
use iommu_abi::Op;

/// What the calls of one operation took, altogether and at most.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub struct Taken {
    /// Calls.
    pub calls: u64,
    /// Parts that they were done in, at least one each.
    pub parts: u64,
    /// Nanoseconds that all took together.
    pub nanoseconds: u64,
    /// Nanoseconds that the longest took, or its longest part.
    pub longest: u64,
}

#[derive(Default)]
struct Cell {
    calls: AtomicU64,
    parts: AtomicU64,
    nanoseconds: AtomicU64,
    longest: AtomicU64,
}

/// Measures the calls of one guest to the IOMMU interface.
pub struct Meter {
    /// By the operation's place in [`Op::ALL`]; the last is for all that are no operation.
    cells: [Cell; Op::ALL.len() + 1],
}

impl Meter {
    /// Nothing measured.
    pub(super) fn new() -> Self {
        Self {
            cells: core::array::from_fn(|_| Cell::default()),
        }
    }

    /// Measures a call, or a part of one that is not done after it.
    pub(super) fn measure(
        &self,
        operation: u64,
        call: impl FnOnce() -> Option<i64>,
    ) -> Option<i64> {
        let begun = time::now();
        let result = call();
        let taken = time::now().since(begun).0;
        let known = Op::ALL
            .iter()
            .position(|op| u64::from(op.as_u32()) == operation);
        if let Some(cell) = self.cells.get(known.unwrap_or(Op::ALL.len())) {
            let done = u64::from(result.is_some());
            cell.calls.fetch_add(done, Ordering::Relaxed);
            cell.parts.fetch_add(1, Ordering::Relaxed);
            cell.nanoseconds.fetch_add(taken, Ordering::Relaxed);
            cell.longest.fetch_max(taken, Ordering::Relaxed);
        }
        result
    }

    /// What the calls of an operation took so far.
    pub fn taken(&self, op: Op) -> Taken {
        let place = Op::ALL.iter().position(|known| *known == op);
        let cell = place.and_then(|place| self.cells.get(place));
        cell.map(Cell::read).unwrap_or_default()
    }

    /// The operation whose longest call took longest.
    pub fn slowest(&self) -> Option<Op> {
        Op::ALL
            .iter()
            .copied()
            .max_by_key(|op| self.taken(*op).longest)
    }

    /// What the calls of all operations took so far.
    pub fn total(&self) -> Taken {
        let cells = self.cells.iter().map(Cell::read);
        cells.fold(Taken::default(), |all, one| Taken {
            calls: all.calls.saturating_add(one.calls),
            parts: all.parts.saturating_add(one.parts),
            nanoseconds: all.nanoseconds.saturating_add(one.nanoseconds),
            longest: all.longest.max(one.longest),
        })
    }
}

impl Cell {
    fn read(&self) -> Taken {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Taken {
            calls: load(&self.calls),
            parts: load(&self.parts),
            nanoseconds: load(&self.nanoseconds),
            longest: load(&self.longest),
        }
    }
}
