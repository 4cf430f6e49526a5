//! Pages that devices reach, or must not.

use core::sync::atomic::{AtomicU64, Ordering};

use iommu_core::{Frame, Hpa, Order, Platform, Run};

use super::PLATFORM;
use crate::check::Deviation;

/// Cells of 8 bytes in a page.
const CELLS: usize = 512;

/// A page of the kernel's, and the bytes that were put into it last.
pub(crate) struct Page {
    frame: Frame,
    written: [u64; CELLS],
}

impl Page {
    pub(super) fn random(random: &mut fastrand::Rng) -> Result<Self, Deviation> {
        let frame = PLATFORM.allocate(Order::PAGE)?;
        let written = core::array::from_fn(|_| random.u64(..));
        let page = Self { frame, written };
        for (cell, value) in page.frame.cells().iter().zip(page.written) {
            cell.store(value, Ordering::Release);
        }
        Ok(page)
    }

    /// Where it lies.
    pub(crate) fn hpa(&self) -> Hpa {
        self.frame.hpa()
    }

    /// The page as a run to be mapped.
    pub(crate) fn run(&self) -> Run {
        Run {
            hpa: self.hpa(),
            pages: 1,
        }
    }

    /// Whether it still holds what was put into it.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.holds(&self.written)
    }

    /// Whether it holds what was put into another page.
    pub(crate) fn is_copy_of(&self, other: &Self) -> bool {
        self.holds(&other.written)
    }

    /// Whether a page of a block holds what was put into this one.
    pub(crate) fn was_copied_to(&self, block: &Block, page: usize) -> bool {
        let cells = block.0.cells().chunks(CELLS).nth(page).unwrap_or_default();
        !cells.is_empty() && equal(cells, &self.written)
    }

    fn holds(&self, bytes: &[u64; CELLS]) -> bool {
        equal(self.frame.cells(), bytes)
    }
}

fn equal(cells: &[AtomicU64], bytes: &[u64; CELLS]) -> bool {
    let mut pairs = cells.iter().zip(bytes);
    pairs.all(|(cell, value)| cell.load(Ordering::Acquire) == *value)
}

/// Pages that lie beside each other.
pub(crate) struct Block(Frame);

impl Block {
    pub(super) fn zeroed(log2: u8) -> Result<Self, Deviation> {
        let order = Order::new(log2).ok_or_else(Deviation::no_memory)?;
        let mut frame = PLATFORM.allocate(order)?;
        frame.clear_private();
        Ok(Self(frame))
    }

    /// Where the first of them lies.
    pub(crate) fn hpa(&self) -> Hpa {
        self.0.hpa()
    }
}
