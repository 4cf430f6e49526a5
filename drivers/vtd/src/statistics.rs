//! Counters of one unit. They only grow, and wrap at 2^64.

use core::sync::atomic::{AtomicU64, Ordering};

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
        }
    }
}
