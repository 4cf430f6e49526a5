//! What a unit that does not snoop may see of memory (§3.10, §6.8).
//!
//! A store stays in a processor's cache until its line is written back; until then the line
//! may have been evicted at any moment, so the unit sees any state that the line has had
//! since it was last written back, and never an older one than it has seen before. A line
//! that was never written back holds what the memory held before: rubbish that looks
//! present, as [`STALE`] says.

use super::{HostMemory, LINE};
use crate::choice::Chooser;
use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};

/// What a word of a line that never was written back holds: an entry that is present, with
/// all rights, and leads to the last page below 2^32, where tests keep nothing.
pub(crate) const STALE: u64 = 0xffff_f003;

/// More states of one line than this are thinned out; the oldest and the newest stay.
const STATES: usize = 24;

type State = [u64; 8];

/// Lines with stores that have not reached memory, by line address.
#[derive(Default)]
pub(crate) struct Image {
    lines: FxHashMap<u64, SmallVec<[State; 2]>>,
    kept: bool,
    /// A line that nothing was stored to holds rubbish; otherwise what memory holds.
    stale: bool,
}

impl Image {
    /// `kept` is false where every unit sees every store at once: then nothing is recorded.
    /// `stale` is false where only write buffers stand between (CAP.RWBF).
    pub(crate) fn new(kept: bool, stale: bool) -> Self {
        Self {
            lines: FxHashMap::default(),
            kept,
            stale,
        }
    }

    /// Every store reaches memory: a write-buffer flush (§6.8). Caches are not meant.
    pub(crate) fn drain(&mut self, memory: &dyn HostMemory) {
        if self.kept && !self.stale {
            self.lines.clear();
        }
        let _ = memory;
    }

    /// An invalidation flushes the write buffer first, if there is one.
    pub(crate) fn flushed_by(&mut self, memory: &dyn HostMemory, write_buffer: bool) {
        if write_buffer {
            self.drain(memory);
        }
    }

    /// A processor is about to store to these bytes. The write buffer passes stores on in
    /// order, and takes this one when those before it have gone: hardware sees it or does
    /// not, and everything older.
    pub(crate) fn storing(&mut self, memory: &dyn HostMemory, hpa: u64, len: u64) {
        if !self.kept || self.stale {
            return;
        }
        self.lines.clear();
        for line in lines(hpa, len) {
            if let Some(state) = snapshot(memory, line) {
                self.lines.insert(line, smallvec![state]);
            }
        }
    }

    /// A processor stored to these bytes: their lines are dirty in a cache.
    pub(crate) fn stored(&mut self, memory: &dyn HostMemory, hpa: u64, len: u64) {
        if !self.kept {
            return;
        }
        for line in lines(hpa, len) {
            let Some(state) = snapshot(memory, line) else {
                continue;
            };
            if self.stale {
                self.lines
                    .entry(line)
                    .or_insert_with(|| smallvec![[STALE; 8]]);
            }
            let Some(states) = self.lines.get_mut(&line) else {
                continue;
            };
            if states.last() != Some(&state) {
                states.push(state);
            }
            if states.len() > STATES {
                states.remove(STATES / 2);
            }
        }
    }

    /// These bytes were written back: memory and caches agree on their lines.
    /// It does not help against a write buffer.
    pub(crate) fn written_back(&mut self, memory: &dyn HostMemory, hpa: u64, len: u64) {
        if !self.kept || !self.stale {
            return;
        }
        for line in lines(hpa, len) {
            if let Some(state) = snapshot(memory, line) {
                self.lines.insert(line, smallvec![state]);
            }
        }
    }

    /// The states of the `N` words at `hpa`, within one line, that a reader may see.
    pub(crate) fn states<const N: usize>(
        &self,
        memory: &dyn HostMemory,
        hpa: u64,
        snooped: bool,
    ) -> Option<SmallVec<[[u64; N]; 1]>> {
        let mut now = [0; N];
        for (at, word) in (hpa..).step_by(8).zip(&mut now) {
            *word = memory.load(at)?;
        }
        if snooped || !self.kept {
            return Some(smallvec![now]);
        }
        let first = ((hpa % LINE) / 8) as usize;
        let mut seen = SmallVec::new();
        match self.lines.get(&(hpa - hpa % LINE)) {
            None if self.stale => seen.push([STALE; N]),
            None => seen.push(now),
            Some(states) => {
                for state in states {
                    let mut words = [0; N];
                    words.copy_from_slice(&state[first..first + N]);
                    if !seen.contains(&words) {
                        seen.push(words);
                    }
                }
            }
        }
        Some(seen)
    }

    /// One of [`Image::states`].
    pub(crate) fn read<const N: usize>(
        &self,
        memory: &dyn HostMemory,
        hpa: u64,
        snooped: bool,
        choose: &mut Chooser,
    ) -> Option<[u64; N]> {
        if snooped || !self.kept {
            let mut now = [0; N];
            for (at, word) in (hpa..).step_by(8).zip(&mut now) {
                *word = memory.load(at)?;
            }
            return Some(now);
        }
        let states = self.states::<N>(memory, hpa, snooped)?;
        Some(states[choose.pick(states.len())])
    }
}

fn lines(hpa: u64, len: u64) -> impl Iterator<Item = u64> {
    let last = hpa.saturating_add(len.saturating_sub(1));
    (hpa - hpa % LINE..=last).step_by(LINE as usize)
}

fn snapshot(memory: &dyn HostMemory, line: u64) -> Option<State> {
    let mut state = State::default();
    for (at, word) in (line..).step_by(8).zip(&mut state) {
        *word = memory.load(at)?;
    }
    Some(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Ram;

    fn seen(image: &Image, ram: &Ram, hpa: u64) -> Vec<u64> {
        image
            .states::<1>(ram, hpa, false)
            .expect("memory is there")
            .iter()
            .map(|word| word[0])
            .collect()
    }

    #[test]
    fn a_reader_that_does_not_snoop_sees_every_state_until_the_line_is_written_back() {
        let ram = Ram::new(0, 0x1000);
        let mut image = Image::new(true, true);
        assert_eq!(seen(&image, &ram, 0x40), [STALE]);
        image.written_back(&ram, 0x40, 8);
        for value in [5, 6] {
            ram.store(0x40, value);
            image.stored(&ram, 0x40, 8);
        }
        assert_eq!(seen(&image, &ram, 0x40), [0, 5, 6]);
        assert_eq!(image.states::<1>(&ram, 0x40, true).expect("memory")[0], [6]);
        image.written_back(&ram, 0x78, 8);
        assert_eq!(seen(&image, &ram, 0x40), [6]);
    }
}
