//! PASID entries that a unit reads while software writes them: 64 bytes come in four
//! 16-byte pieces, the one with P first, each at a moment of its own.

use rustc_hash::FxHashMap;

/// The words of an entry.
type Words = [u64; 8];

/// States of one entry that a fetch may still mix.
const STATES: usize = 4;

/// What each entry has been since fetches were last sure to have ended: an invalidation of
/// the PASID cache, or a coarser one.
#[derive(Default)]
pub(super) struct History(FxHashMap<u64, Vec<Words>>);

impl History {
    /// An entry is `words` now. Gives the mixtures that a fetch may see because of it,
    /// whole states left out.
    pub(super) fn note(&mut self, at: u64, words: Words) -> Vec<Words> {
        if words == [0; 8] && !self.0.contains_key(&at) {
            return Vec::new();
        }
        let states = self.0.entry(at).or_default();
        if states.last() == Some(&words) {
            return Vec::new();
        }
        states.push(words);
        if states.len() > STATES {
            states.remove(0);
        }
        mixtures(states)
    }

    /// Every fetch that was under way has ended. What the entries are now is noted by the
    /// next sweep: the last state known here may be that of a page given up meanwhile.
    pub(super) fn settle(&mut self) {
        self.0.clear();
    }
}

fn mixtures(states: &[Words]) -> Vec<Words> {
    let mut found = Vec::new();
    let count = states.len();
    for first in 0..count {
        for second in first..count {
            for third in second..count {
                for fourth in third..count {
                    let mut words = [0; 8];
                    for (piece, state) in [first, second, third, fourth].into_iter().enumerate() {
                        words[2 * piece..2 * piece + 2]
                            .copy_from_slice(&states[state][2 * piece..2 * piece + 2]);
                    }
                    if !states.contains(&words) && !found.contains(&words) {
                        found.push(words);
                    }
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(low: u64, middle: u64) -> Words {
        [low, 0, middle, 0, 0, 0, 0, 0]
    }

    #[test]
    fn only_later_pieces_join_an_earlier_first_one() {
        let mut history = History::default();
        history.note(0x40, entry(1, 10));
        assert!(
            history.note(0x40, entry(2, 10)).is_empty(),
            "one piece changed"
        );
        // The first piece was read before the first change, the second after the last one.
        assert_eq!(history.note(0x40, entry(2, 20)), [entry(1, 20)]);
        history.settle();
        assert!(history.note(0x40, entry(2, 30)).is_empty());
    }

    #[test]
    fn a_page_used_anew_has_nothing_of_its_former_life() {
        let mut history = History::default();
        history.note(0x40, entry(1, 10));
        history.settle();
        // Unlinked, given up, filled and linked again, unseen by any fetch.
        assert!(history.note(0x40, entry(2, 20)).is_empty());
    }
}
