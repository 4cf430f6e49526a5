//! Memory that a device reaches.

use crate::windows::Window;
use core::sync::atomic::AtomicU64;
use iommu_core::{Frame, Iova, Owed};

/// Memory that driver and device share.
#[must_use = "a buffer that is dropped stays mapped and is lost"]
#[derive(Debug)]
pub struct Coherent {
    pub(crate) frame: Frame,
    pub(crate) window: Window,
}

impl Coherent {
    /// Where the device finds it.
    pub fn iova(&self) -> Iova {
        self.window.address()
    }

    /// Its memory, in words. The device may write to it at any time.
    pub fn cells(&self) -> &[AtomicU64] {
        self.frame.cells()
    }
}

/// A caller's memory that the device borrows.
#[must_use = "a buffer that is dropped stays mapped and is lost"]
#[derive(Debug)]
pub struct Lent {
    pub(crate) frame: Frame,
    pub(crate) window: Window,
}

impl Lent {
    /// Where the device finds it.
    pub fn iova(&self) -> Iova {
        self.window.address()
    }
}

/// A buffer whose tables are gone, and which hardware may still reach.
#[must_use = "the memory comes back only from `settle`"]
#[derive(Debug)]
pub struct Returning<'q, D> {
    pub(crate) frame: Frame,
    pub(crate) window: Window,
    pub(crate) owed: Owed<'q, D>,
}
