//! Domain ids of one unit.

use alloc::vec::Vec;
use iommu_core::{Order, OutOfFrames};

/// Never given out: a unit in caching mode tags what is not present with it (§6.2.2,
/// §6.2.3), and on the others one id less is no loss.
const RESERVED: u16 = 0;

/// A set of domain ids.
#[derive(Debug)]
pub(crate) struct IdSet {
    words: Vec<u64>,
}

impl IdSet {
    /// An empty set of ids below `count` (16 to 65,536).
    pub(crate) fn new(count: u32) -> Result<Self, OutOfFrames> {
        let mut words = Vec::new();
        let length = count.div_ceil(64) as usize;
        words
            .try_reserve_exact(length)
            .map_err(|_| OutOfFrames { order: Order::PAGE })?;
        words.resize(length, 0);
        Ok(Self { words })
    }

    pub(crate) fn insert(&mut self, id: u16) {
        if let Some(word) = self.words.get_mut(usize::from(id) >> 6) {
            *word |= 1 << (id & 63);
        }
    }

    fn remove(&mut self, id: u16) {
        if let Some(word) = self.words.get_mut(usize::from(id) >> 6) {
            *word &= !(1 << (id & 63));
        }
    }

    fn clear(&mut self) {
        self.words.fill(0);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        self.words
            .iter()
            .map(|word| word.count_ones())
            .fold(0, u32::saturating_add)
    }
}

/// Which ids of a unit are taken. An id is given back only when hardware has forgotten
/// everything that it tagged with it.
#[derive(Debug)]
pub(crate) struct DomainIds {
    taken: IdSet,
    /// Those of the tables that are in force until ours are: avoided as long as there are
    /// others. All of whoever ran before's, or those of them that could be read.
    foreign: IdSet,
    numbering: Numbering,
    pass_through: u16,
}

/// Which free id is given out first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Numbering {
    /// The lowest.
    Rising,
    /// The highest: for a unit that is taken over while it translates by tables that could
    /// not be read whole. Whoever ran before numbered from the bottom, as all known drivers
    /// do.
    Falling,
}

impl DomainIds {
    /// For a unit with `count` ids (16 to 65,536).
    pub(crate) fn new(
        count: u32,
        foreign: IdSet,
        numbering: Numbering,
    ) -> Result<Self, OutOfFrames> {
        let mut ids = Self {
            taken: IdSet::new(count)?,
            foreign,
            numbering,
            pass_through: RESERVED,
        };
        for beyond in count..=(count.saturating_sub(1) | 63) {
            if let Ok(id) = u16::try_from(beyond) {
                ids.taken.insert(id);
            }
        }
        ids.taken.insert(RESERVED);
        // There is one: nothing else was taken.
        ids.pass_through = ids.take().unwrap_or(RESERVED);
        Ok(ids)
    }

    /// The id that all slots share which are passed through. Such entries must not share an
    /// id with those that have a second stage (§6.2.3.1).
    pub(crate) fn pass_through(&self) -> u16 {
        self.pass_through
    }

    /// Takes a free id.
    pub(crate) fn take(&mut self) -> Option<u16> {
        let id = self.find(true).or_else(|| self.find(false))?;
        self.taken.insert(id);
        Some(id)
    }

    /// Gives an id back.
    pub(crate) fn give_back(&mut self, id: u16) {
        if id != RESERVED && id != self.pass_through {
            self.taken.remove(id);
        }
    }

    /// Hardware has forgotten the tables of whoever ran before.
    pub(crate) fn old_tables_are_gone(&mut self) {
        self.foreign.clear();
    }

    fn find(&self, avoid_foreign: bool) -> Option<u16> {
        let used =
            |(taken, foreign): (&u64, &u64)| *taken | if avoid_foreign { *foreign } else { 0 };
        let words = self.taken.words.iter().zip(&self.foreign.words).map(used);
        let mut words = words.enumerate();
        let free = |(_, word): &(usize, u64)| *word != u64::MAX;
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
        u16::try_from(id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u32, numbering: Numbering) -> DomainIds {
        DomainIds::new(count, IdSet::new(count).unwrap(), numbering).unwrap()
    }

    fn ids_beside(count: u32, foreign: impl IntoIterator<Item = u16>) -> DomainIds {
        let mut set = IdSet::new(count).unwrap();
        foreign.into_iter().for_each(|id| set.insert(id));
        DomainIds::new(count, set, Numbering::Rising).unwrap()
    }

    fn all_of(ids: &mut DomainIds) -> Vec<u16> {
        core::iter::from_fn(|| ids.take()).collect()
    }

    #[test]
    fn ids_0_and_1_are_never_given_out() {
        let mut ids = ids(16, Numbering::Rising);
        assert_eq!(ids.pass_through(), 1);
        assert_eq!(all_of(&mut ids), (2..16).collect::<Vec<_>>());
        ids.give_back(RESERVED);
        ids.give_back(1);
        assert_eq!(ids.take(), None);
    }

    #[test]
    fn an_id_that_was_given_back_can_be_had_again() {
        let mut ids = ids(65_536, Numbering::Rising);
        assert_eq!(ids.take(), Some(2));
        assert_eq!(ids.take(), Some(3));
        ids.give_back(2);
        assert_eq!(ids.take(), Some(2));
        assert_eq!(ids.take(), Some(4));
    }

    #[test]
    fn beside_tables_that_nobody_could_read_ids_come_from_the_top() {
        let mut ids = ids(256, Numbering::Falling);
        assert_eq!(ids.pass_through(), 255);
        assert_eq!(ids.take(), Some(254));
        assert_eq!(ids.take(), Some(253));
        ids.give_back(254);
        assert_eq!(ids.take(), Some(254));
    }

    #[test]
    fn ids_in_use_elsewhere_are_avoided_until_they_are_not() {
        let mut ids = ids_beside(16, [1, 2, 4]);
        assert_eq!(ids.pass_through(), 3);
        assert_eq!((ids.take(), ids.take()), (Some(5), Some(6)));
        ids.old_tables_are_gone();
        assert_eq!((ids.take(), ids.take()), (Some(1), Some(2)));
    }

    #[test]
    fn whoever_claims_all_ids_keeps_nobody_from_having_some() {
        let mut ids = ids_beside(16, 0..16);
        assert_eq!(all_of(&mut ids).len(), 14);
    }
}
