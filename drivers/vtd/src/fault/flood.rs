//! Devices that make faults faster than anybody can use: counted, held back for a while,
//! and let go again.
//!
//! Each fault costs an interrupt and the time to read it, and while one device fills the
//! records those of others are lost. So a device that makes more than its share within a
//! window is held back for a pause, by its context entry: silenced (its faults are not
//! recorded any more; what it may reach does not change), or blocked (it reaches nothing).
//! Faults of interrupts do not look at context entries; a flood of those masks the unit's
//! fault event instead, and records are read when somebody asks.

use arrayvec::ArrayVec;
use iommu_core::{Nanoseconds, SourceId};

/// How many faults a device may make, and what happens to one that makes more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FaultLimit {
    /// So many within a window are still recorded.
    pub faults: u32,
    /// Over how long they are counted.
    pub window: Nanoseconds,
    /// How long a device is held back.
    pub pause: Nanoseconds,
    /// How.
    pub restraint: Restraint,
}

impl Default for FaultLimit {
    /// A thousand within a second, then silence for ten.
    fn default() -> Self {
        Self {
            faults: 1_000,
            window: Nanoseconds::from_millis(1_000),
            pause: Nanoseconds::from_millis(10_000),
            restraint: Restraint::Silenced,
        }
    }
}

/// How a device that floods is held back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Restraint {
    /// Its faults are not recorded (FPD).
    Silenced,
    /// It reaches nothing, and its faults are not recorded: for a device of which nothing
    /// good is expected any more.
    Blocked,
    /// The unit's fault event is masked, because the faults are of interrupts, or because
    /// there was no memory for anything better.
    EventMasked,
}

/// A device that made too many faults, or that has made up for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flooder {
    pub(crate) source: SourceId,
    /// Its faults are of interrupts.
    pub(crate) interrupts: bool,
    pub(crate) faults: u32,
    pub(crate) restraint: Restraint,
    until: Nanoseconds,
}

/// Sources that are counted, and sources that are held back, at once. Of more than these
/// the one with the fewest faults is not counted further.
const WATCHED: usize = 32;

#[derive(Clone, Copy, Debug)]
struct Count {
    source: SourceId,
    interrupts: bool,
    since: Nanoseconds,
    faults: u32,
}

/// Who makes how many faults, on one unit.
#[derive(Default, Debug)]
pub(crate) struct Watch {
    pub(crate) limit: Option<FaultLimit>,
    counts: ArrayVec<Count, WATCHED>,
    restrained: ArrayVec<Flooder, WATCHED>,
}

impl Watch {
    /// A fault was recorded.
    pub(crate) fn note(&mut self, source: SourceId, interrupts: bool, now: Nanoseconds) {
        let Some(limit) = self.limit else {
            return;
        };
        let same = |known: &Count| known.source == source && known.interrupts == interrupts;
        if let Some(count) = self.counts.iter_mut().find(|count| same(count)) {
            if now.since(count.since) > limit.window {
                (count.since, count.faults) = (now, 0);
            }
            count.faults = count.faults.saturating_add(1);
            return;
        }
        if self.counts.is_full() {
            let fewest = (0..)
                .zip(&self.counts)
                .min_by_key(|(_, count)| count.faults);
            if let Some((at, _)) = fewest {
                self.counts.swap_pop(at);
            }
        }
        let _ = self.counts.try_push(Count {
            source,
            interrupts,
            since: now,
            faults: 1,
        });
    }

    /// The next device that has to be held back; from now on it counts as such.
    pub(crate) fn offender(&mut self, now: Nanoseconds) -> Option<Flooder> {
        let limit = self.limit?;
        let at = self
            .counts
            .iter()
            .position(|count| count.faults > limit.faults)?;
        let count = self.counts.swap_pop(at)?;
        let known =
            |held: &Flooder| held.source == count.source && held.interrupts == count.interrupts;
        if self.restrained.iter().any(known) {
            // What it made before it was held back.
            return None;
        }
        let flooder = Flooder {
            source: count.source,
            interrupts: count.interrupts,
            faults: count.faults,
            restraint: if count.interrupts {
                Restraint::EventMasked
            } else {
                limit.restraint
            },
            until: Nanoseconds(now.0.saturating_add(limit.pause.0)),
        };
        // With no room to remember it, it would never be let go again.
        self.restrained.try_push(flooder).ok()?;
        Some(flooder)
    }

    /// It could not be held back so.
    pub(crate) fn mask_instead(&mut self, flooder: &Flooder) {
        if let Some(held) = self.restrained.iter_mut().find(|held| *held == flooder) {
            held.restraint = Restraint::EventMasked;
        }
    }

    /// The next device whose pause is over; from now on it is like any other.
    pub(crate) fn released(&mut self, now: Nanoseconds) -> Option<Flooder> {
        let over = |held: &Flooder| now >= held.until;
        let at = self.restrained.iter().position(over)?;
        self.restrained.swap_pop(at)
    }

    /// Whether somebody is held back by masking the event.
    pub(crate) fn masks_event(&self) -> bool {
        let masks = |held: &Flooder| held.restraint == Restraint::EventMasked;
        self.restrained.iter().any(masks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanoseconds = Nanoseconds::from_millis(1_000);

    fn watch(faults: u32) -> Watch {
        let limit = FaultLimit {
            faults,
            ..FaultLimit::default()
        };
        Watch {
            limit: Some(limit),
            ..Watch::default()
        }
    }

    fn source(number: u16) -> SourceId {
        SourceId::from_bits(number)
    }

    #[test]
    fn one_fault_more_than_allowed_within_a_window_is_a_flood() {
        let mut watch = watch(3);
        for n in 0..3 {
            watch.note(source(1), false, Nanoseconds(n));
        }
        assert_eq!(watch.offender(Nanoseconds(3)), None);
        watch.note(source(1), false, SECOND);
        let flooder = watch.offender(SECOND).unwrap();
        assert_eq!((flooder.source, flooder.faults), (source(1), 4));
        assert_eq!(watch.offender(SECOND), None, "once");
    }

    #[test]
    fn the_same_number_over_a_longer_time_is_none() {
        let mut watch = watch(3);
        for n in 0..20 {
            watch.note(source(1), false, Nanoseconds(n * SECOND.0 / 2));
        }
        assert_eq!(watch.offender(Nanoseconds(10 * SECOND.0)), None);
    }

    #[test]
    fn many_quiet_sources_do_not_hide_a_loud_one() {
        let mut watch = watch(100);
        for n in 0..200 {
            watch.note(source(1), false, Nanoseconds(n));
            watch.note(source(1_000 + n as u16), false, Nanoseconds(n));
        }
        assert_eq!(watch.offender(SECOND).unwrap().source, source(1));
    }

    #[test]
    fn a_pause_ends_and_the_device_is_like_any_other() {
        let mut watch = watch(0);
        watch.note(source(1), false, Nanoseconds(0));
        let flooder = watch.offender(Nanoseconds(0)).unwrap();
        let end = Nanoseconds(10 * SECOND.0);
        assert_eq!(watch.released(Nanoseconds(end.0 - 1)), None);
        assert_eq!(watch.released(end), Some(flooder));
        assert_eq!(watch.released(end), None);
        watch.note(source(1), false, end);
        assert!(watch.offender(end).is_some());
    }

    #[test]
    fn without_a_limit_nobody_is_held_back() {
        let mut watch = Watch::default();
        watch.note(source(1), false, Nanoseconds(0));
        assert_eq!(watch.offender(Nanoseconds(0)), None);
    }
}
