//! What has been done, counted.

use core::sync::atomic::{AtomicU64, Ordering};
use iommu_core::Flushed;

/// Counts since the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Figures {
    /// Hypercalls, the refused ones included.
    pub calls: u64,
    /// Hypercalls that were refused.
    pub refusals: u64,
    /// Times that hardware was told and waited for.
    pub flushes: u64,
    /// Invalidation descriptors for them, waits included.
    pub descriptors: u64,
    /// Writes to queue tails for them.
    pub doorbells: u64,
    /// Waits for completion.
    pub waits: u64,
    /// Entries of guests' tables that were looked at.
    pub shadow_entries: u64,
    /// Faults that belonged to guests.
    pub faults: u64,
    /// Operations that were done of rings, the refused ones included.
    pub ring_operations: u64,
    /// PASIDs that are never given to anybody again, since a shared device may use them still.
    pub retired_pasids: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: AtomicU64,
    pub(crate) refusals: AtomicU64,
    flushes: AtomicU64,
    descriptors: AtomicU64,
    doorbells: AtomicU64,
    waits: AtomicU64,
    pub(crate) shadow_entries: AtomicU64,
    pub(crate) faults: AtomicU64,
    pub(crate) ring_operations: AtomicU64,
    pub(crate) retired_pasids: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn add(&self, flushed: &Flushed) {
        count(&self.flushes, 1);
        count(&self.descriptors, flushed.descriptors.into());
        count(&self.doorbells, flushed.doorbells.into());
        count(&self.waits, flushed.waits.into());
    }

    pub(crate) fn read(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            calls: read(&self.calls),
            refusals: read(&self.refusals),
            flushes: read(&self.flushes),
            descriptors: read(&self.descriptors),
            doorbells: read(&self.doorbells),
            waits: read(&self.waits),
            shadow_entries: read(&self.shadow_entries),
            faults: read(&self.faults),
            ring_operations: read(&self.ring_operations),
            retired_pasids: read(&self.retired_pasids),
        }
    }
}
