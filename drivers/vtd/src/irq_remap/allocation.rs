//! Which entries are taken.

use alloc::vec::Vec;
use iommu_core::{Order, OutOfFrames};

/// One bit for each entry; set if it is taken.
#[derive(Debug)]
pub(super) struct Allocation {
    words: Vec<u64>,
}

impl Allocation {
    /// All free. `entries` is a multiple of 64.
    pub(super) fn new(entries: u32) -> Result<Self, OutOfFrames> {
        let mut words = Vec::new();
        let count = entries as usize >> 6;
        words
            .try_reserve_exact(count)
            .map_err(|_| OutOfFrames { order: Order::PAGE })?;
        words.resize(count, 0);
        Ok(Self { words })
    }

    fn is_taken(&self, index: u32) -> bool {
        self.words
            .get(index as usize >> 6)
            .is_none_or(|word| word >> (index & 63) & 1 != 0)
    }

    fn set(&mut self, index: u32, taken: bool) {
        if let Some(word) = self.words.get_mut(index as usize >> 6) {
            let bit = 1 << (index & 63);
            *word = if taken { *word | bit } else { *word & !bit };
        }
    }

    /// Takes the first run of `count` free entries.
    pub(super) fn take(&mut self, count: u16) -> Option<u16> {
        let entries = (self.words.len() as u32) << 6;
        let mut run = 0u32;
        for index in 0..entries {
            if self.is_taken(index) {
                run = 0;
                continue;
            }
            run = run.saturating_add(1);
            if run == u32::from(count) {
                let first = index.saturating_sub(u32::from(count).saturating_sub(1));
                for taken in first..=index {
                    self.set(taken, true);
                }
                return u16::try_from(first).ok();
            }
        }
        None
    }

    /// Gives a run back.
    pub(super) fn give_back(&mut self, first: u16, count: u16) {
        for offset in 0..u32::from(count) {
            self.set(u32::from(first).saturating_add(offset), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_contiguous_and_never_overlap() {
        let mut allocation = Allocation::new(128).unwrap();
        assert_eq!(allocation.take(3), Some(0));
        assert_eq!(allocation.take(60), Some(3));
        assert_eq!(allocation.take(2), Some(63));
        allocation.give_back(0, 3);
        assert_eq!(allocation.take(4), Some(65));
        assert_eq!(allocation.take(3), Some(0));
    }

    #[test]
    fn a_table_without_a_large_enough_run_says_so() {
        let mut allocation = Allocation::new(64).unwrap();
        assert_eq!(allocation.take(65), None);
        assert_eq!(allocation.take(64), Some(0));
        assert_eq!(allocation.take(1), None);
    }
}
