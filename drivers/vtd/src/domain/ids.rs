//! Domain ids of one unit.

use alloc::vec::Vec;
use iommu_core::{Order, OutOfFrames};

/// Never given out: a unit in caching mode tags what is not present with it (§6.2.2,
/// §6.2.3), and on the others one id less is no loss.
const RESERVED: u16 = 0;
/// Shared by all slots that are passed through. Such entries must not share an id with
/// those that have a second stage (§6.2.3.1).
pub(crate) const PASS_THROUGH: u16 = 1;

/// Which ids of a unit are taken. An id is given back only when hardware has forgotten
/// everything that it tagged with it.
#[derive(Debug)]
pub(crate) struct DomainIds {
    words: Vec<u64>,
    numbering: Numbering,
}

/// Which free id is given out first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Numbering {
    /// The lowest.
    Rising,
    /// The highest: for a unit that is taken over while it translates. Between the new root
    /// table and the flush that follows, caches may hold what firmware's tables said, under
    /// firmware's ids; one id for two sets of tables would mix them (§6.2.3.1). Whoever ran
    /// before numbered from the bottom, as all known drivers do.
    Falling,
}

impl DomainIds {
    /// For a unit with `count` ids (16 to 65,536).
    pub(crate) fn new(count: u32, numbering: Numbering) -> Result<Self, OutOfFrames> {
        let mut words = Vec::new();
        let length = count.div_ceil(64) as usize;
        words
            .try_reserve_exact(length)
            .map_err(|_| OutOfFrames { order: Order::PAGE })?;
        words.resize(length, 0);
        let mut ids = Self { words, numbering };
        for beyond in count..=(count.saturating_sub(1) | 63) {
            if let Ok(id) = u16::try_from(beyond) {
                ids.set(id, true);
            }
        }
        ids.set(RESERVED, true);
        ids.set(PASS_THROUGH, true);
        Ok(ids)
    }

    /// Takes a free id.
    pub(crate) fn take(&mut self) -> Option<u16> {
        let mut words = self.words.iter().enumerate();
        let free = |(_, word): &(usize, &u64)| **word != u64::MAX;
        let id = match self.numbering {
            Numbering::Rising => {
                let (index, word) = words.find(free)?;
                (index as u32) << 6 | word.trailing_ones()
            }
            Numbering::Falling => {
                let (index, word) = words.rfind(free)?;
                (index as u32) << 6 | 63u32.saturating_sub(word.leading_ones())
            }
        };
        let id = u16::try_from(id).ok()?;
        self.set(id, true);
        Some(id)
    }

    /// Gives an id back.
    pub(crate) fn give_back(&mut self, id: u16) {
        if id != RESERVED && id != PASS_THROUGH {
            self.set(id, false);
        }
    }

    fn set(&mut self, id: u16, taken: bool) {
        if let Some(word) = self.words.get_mut(usize::from(id) >> 6) {
            let bit = 1 << (id & 63);
            *word = if taken { *word | bit } else { *word & !bit };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_0_and_1_are_never_given_out() {
        let mut ids = DomainIds::new(16, Numbering::Rising).unwrap();
        let mut taken = Vec::new();
        while let Some(id) = ids.take() {
            taken.push(id);
        }
        assert_eq!(taken, (2..16).collect::<Vec<_>>());
        ids.give_back(RESERVED);
        ids.give_back(PASS_THROUGH);
        assert_eq!(ids.take(), None);
    }

    #[test]
    fn an_id_that_was_given_back_can_be_had_again() {
        let mut ids = DomainIds::new(65_536, Numbering::Rising).unwrap();
        assert_eq!(ids.take(), Some(2));
        assert_eq!(ids.take(), Some(3));
        ids.give_back(2);
        assert_eq!(ids.take(), Some(2));
        assert_eq!(ids.take(), Some(4));
    }

    #[test]
    fn a_unit_that_was_in_use_gets_ids_from_the_top() {
        let mut ids = DomainIds::new(256, Numbering::Falling).unwrap();
        assert_eq!(ids.take(), Some(255));
        assert_eq!(ids.take(), Some(254));
        ids.give_back(255);
        assert_eq!(ids.take(), Some(255));
    }
}
