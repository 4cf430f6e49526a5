//! Places that one has at a time.

use core::sync::atomic::{AtomicBool, Ordering};

/// `N` places, from 0 on.
pub(super) struct Pool<const N: usize>([AtomicBool; N]);

impl<const N: usize> Pool<N> {
    /// Nobody has any.
    pub(super) const fn new() -> Self {
        Self([const { AtomicBool::new(false) }; N])
    }

    /// A place that nobody has.
    pub(super) fn take(&'static self) -> Option<Place> {
        let index = self.0.iter().position(|taken| {
            // Whoever turns it on has it.
            !taken.swap(true, Ordering::AcqRel)
        })?;
        let taken = self.0.get(index)?;
        Some(Place { taken, index })
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    taken: &'static AtomicBool,
    index: usize,
}

impl Place {
    /// Which it is.
    pub(super) fn index(&self) -> usize {
        self.index
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.store(false, Ordering::Release);
    }
}
