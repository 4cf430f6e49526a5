//! Which addresses of a device are taken: a fixed number of windows of one size.

use core::sync::atomic::{AtomicU64, Ordering};
use iommu_core::Iova;

/// Buffers that a device can have at a time.
pub const WINDOWS: u32 = 64;
/// Bytes of the largest buffer.
pub const WINDOW_BYTES: u64 = 2 << 20;

/// Where the windows of all devices lie: above 4 GiB, so that no address of a device equals a
/// physical one of a small machine by chance, and below 2^39.
const FIRST: u64 = 0x21_0000_0000;

/// The windows of one device; a set bit is taken.
#[derive(Debug, Default)]
pub(crate) struct Windows(AtomicU64);

/// A window that somebody has. Given back by [`Windows::give_back`].
#[derive(Debug)]
pub(crate) struct Window(u32);

impl Window {
    /// Its first address.
    pub(crate) fn address(&self) -> Iova {
        let offset = u64::from(self.0).saturating_mul(WINDOW_BYTES);
        Iova::new(FIRST.saturating_add(offset))
    }

    fn bit(&self) -> u64 {
        1u64.checked_shl(self.0).unwrap_or(0)
    }
}

impl Windows {
    /// A free window.
    pub(crate) fn take(&self) -> Option<Window> {
        loop {
            let taken = self.0.load(Ordering::Relaxed);
            let window = Window(taken.trailing_ones());
            if window.0 >= WINDOWS {
                return None;
            }
            let with = taken | window.bit();
            let exchanged =
                self.0
                    .compare_exchange(taken, with, Ordering::Relaxed, Ordering::Relaxed);
            if exchanged.is_ok() {
                return Some(window);
            }
        }
    }

    /// Nothing is mapped there any more, and hardware has forgotten what was.
    pub(crate) fn give_back(&self, window: Window) {
        self.0.fetch_and(!window.bit(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    extern crate std;

    #[test]
    fn every_window_has_its_own_addresses_and_comes_back() {
        let windows = Windows::default();
        let mut seen = BTreeSet::new();
        let mut taken = std::vec::Vec::new();
        while let Some(window) = windows.take() {
            assert!(seen.insert(window.address()));
            taken.push(window);
        }
        assert_eq!(taken.len(), WINDOWS as usize);
        let last = taken.pop().unwrap();
        let address = last.address();
        windows.give_back(last);
        assert_eq!(windows.take().map(|window| window.address()), Some(address));
        assert!(windows.take().is_none());
    }
}
