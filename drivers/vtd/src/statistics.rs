//! Counters of one unit. They only grow, and wrap at 2^64.

use core::sync::atomic::{AtomicU64, Ordering};
use iommu_core::Nanoseconds;

/// What a unit was asked to do and what it reported, since it was prepared.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Statistics {
    /// Invalidation descriptors, waits included.
    pub descriptors: u64,
    /// Writes to IQT after the one that set the queue up.
    pub doorbells: u64,
    /// Wait descriptors.
    pub waits: u64,
    /// Times that a batch did not fit the queue and went on in another round.
    pub refills: u64,
    /// Invalidations by register, on a unit without a queue.
    pub register_invalidations: u64,
    /// Fault records read.
    pub faults: u64,
    /// Times that the unit had lost faults.
    pub fault_overflows: u64,
    /// Page requests read.
    pub page_requests: u64,
    /// Queue errors of all kinds.
    pub queue_errors: u64,
    /// Waits that were given up.
    pub timeouts: u64,
    /// Waits that were done without the interrupt that should have told so.
    pub lost_completions: u64,
    /// How long the waits took that were not.
    pub wait_times: Latencies,
}

/// How long something took, in nanoseconds; all 0 if it never happened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Latencies {
    /// How often.
    pub count: u64,
    /// The shortest.
    pub least: u64,
    /// Half took no longer; rounded up to the end of its eighth of a power of two.
    pub median: u64,
    /// The longest.
    pub most: u64,
}

/// Classes of a power of two.
const CLASSES: u32 = 8;
/// Up to 2^40 ns, 18 minutes.
const POWERS: u32 = 40;

/// Counts durations by their size, an eighth of a power of two at a time.
#[derive(Debug)]
pub(crate) struct Durations {
    least: AtomicU64,
    most: AtomicU64,
    classes: [AtomicU64; (POWERS * CLASSES) as usize],
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            least: AtomicU64::new(u64::MAX),
            most: AtomicU64::new(0),
            classes: [const { AtomicU64::new(0) }; (POWERS * CLASSES) as usize],
        }
    }
}

impl Durations {
    pub(crate) fn note(&self, duration: Nanoseconds) {
        let value = duration.0;
        self.least.fetch_min(value, Ordering::Relaxed);
        self.most.fetch_max(value, Ordering::Relaxed);
        let class = class_of(value).min(self.classes.len().saturating_sub(1));
        if let Some(counter) = self.classes.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn snapshot(&self) -> Latencies {
        let count = self.classes.iter().fold(0u64, |sum, class| {
            sum.wrapping_add(class.load(Ordering::Relaxed))
        });
        if count == 0 {
            return Latencies::default();
        }
        let most = self.most.load(Ordering::Relaxed);
        let mut seen = 0u64;
        let middle = self.classes.iter().position(|class| {
            seen = seen.wrapping_add(class.load(Ordering::Relaxed));
            seen >= count.div_ceil(2)
        });
        Latencies {
            count,
            least: self.least.load(Ordering::Relaxed),
            median: middle.map_or(most, end_of_class).min(most),
            most,
        }
    }
}

/// Values below `CLASSES` have a class of their own; above, the three bits below the highest
/// one tell the class within a power of two.
fn class_of(value: u64) -> usize {
    let power = u64::BITS.saturating_sub(value.leading_zeros());
    let shift = power.saturating_sub(4);
    let within = (value >> shift) as usize;
    let classes = CLASSES as usize;
    (shift as usize)
        .saturating_mul(classes)
        .saturating_add(within)
}

/// The largest value of a class.
fn end_of_class(class: usize) -> u64 {
    let classes = CLASSES as usize;
    let (shift, within) = match class.checked_sub(classes) {
        None => (0, class),
        Some(above) => {
            let shift = above.checked_div(classes).unwrap_or(0);
            (shift, class.saturating_sub(shift.saturating_mul(classes)))
        }
    };
    let next = (within as u64).saturating_add(1);
    next.checked_shl(shift as u32)
        .map_or(u64::MAX, |end| end.saturating_sub(1))
}

#[derive(Default, Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default, Debug)]
pub(crate) struct Counters {
    pub(crate) descriptors: Counter,
    pub(crate) doorbells: Counter,
    pub(crate) waits: Counter,
    pub(crate) refills: Counter,
    pub(crate) register_invalidations: Counter,
    pub(crate) faults: Counter,
    pub(crate) fault_overflows: Counter,
    pub(crate) page_requests: Counter,
    pub(crate) queue_errors: Counter,
    pub(crate) timeouts: Counter,
    pub(crate) lost_completions: Counter,
    pub(crate) wait_times: Durations,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Statistics {
        Statistics {
            descriptors: self.descriptors.value(),
            doorbells: self.doorbells.value(),
            waits: self.waits.value(),
            refills: self.refills.value(),
            register_invalidations: self.register_invalidations.value(),
            faults: self.faults.value(),
            fault_overflows: self.fault_overflows.value(),
            page_requests: self.page_requests.value(),
            queue_errors: self.queue_errors.value(),
            timeouts: self.timeouts.value(),
            lost_completions: self.lost_completions.value(),
            wait_times: self.wait_times.snapshot(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_within_its_class() {
        for value in (0..5_000).chain((13..39).map(|power| (1u64 << power) + 12_345)) {
            let class = class_of(value);
            assert!(value <= end_of_class(class), "{value}");
            assert!(
                class == 0 || value > end_of_class(class - 1),
                "{value} is of class {class}, which begins after {}",
                end_of_class(class - 1)
            );
        }
    }

    #[test]
    fn least_median_and_most_are_told() {
        let durations = Durations::default();
        assert_eq!(durations.snapshot(), Latencies::default());
        for value in [5, 1_000, 1_000, 1_000, 900_000] {
            durations.note(Nanoseconds(value));
        }
        let told = durations.snapshot();
        assert_eq!((told.count, told.least, told.most), (5, 5, 900_000));
        assert!((1_000..1_125).contains(&told.median), "{}", told.median);
    }

    #[test]
    fn a_duration_beyond_all_classes_is_counted_too() {
        let durations = Durations::default();
        durations.note(Nanoseconds(u64::MAX));
        assert_eq!(
            durations.snapshot().median,
            durations.snapshot().most.min(end_of_class(319))
        );
        assert_eq!(durations.snapshot().count, 1);
    }
}
