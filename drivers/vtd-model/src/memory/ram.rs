//! Memory of the model's own.

use super::HostMemory;
use std::sync::atomic::{AtomicU64, Ordering};
use zerocopy::FromZeros;

/// One stretch of zeroed memory.
pub struct Ram {
    base: u64,
    cells: Box<[AtomicU64]>,
}

impl Ram {
    /// `bytes` of memory from `base` on; both are rounded down to whole cells. Empty if the
    /// host has not as much.
    pub fn new(base: u64, bytes: usize) -> Self {
        let cells = <[AtomicU64]>::new_box_zeroed_with_elems(bytes / 8).unwrap_or_default();
        Self {
            base: base & !7,
            cells,
        }
    }

    /// `count` cells from `hpa` on, for a driver that stores through references; `None` if
    /// they do not all lie in this memory.
    pub fn cells(&self, hpa: u64, count: usize) -> Option<&[AtomicU64]> {
        let first = usize::try_from(hpa.checked_sub(self.base)? / 8).ok()?;
        self.cells.get(first..first.checked_add(count)?)
    }

    fn cell(&self, hpa: u64) -> Option<&AtomicU64> {
        let index = usize::try_from(hpa.checked_sub(self.base)? / 8).ok()?;
        self.cells.get(index)
    }
}

impl HostMemory for Ram {
    fn load(&self, hpa: u64) -> Option<u64> {
        Some(self.cell(hpa)?.load(Ordering::Acquire))
    }

    fn store(&self, hpa: u64, value: u64) -> Option<()> {
        self.cell(hpa)?.store(value, Ordering::Release);
        Some(())
    }

    fn compare_exchange(&self, hpa: u64, current: u64, new: u64) -> Option<Result<u64, u64>> {
        let cell = self.cell(hpa)?;
        Some(cell.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire))
    }
}

impl std::fmt::Debug for Ram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = self.base + 8 * self.cells.len() as u64;
        write!(f, "Ram({:#x}..{end:#x})", self.base)
    }
}
