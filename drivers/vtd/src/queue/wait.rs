//! Waiting for a round, on any number of CPUs at once.

use super::event::{LONGEST_REST, answer};
use super::recovery::Failure;
use super::ring::{Queue, Ticket, has_reached};
use crate::Event;
use crate::registers::Registers;
use crate::statistics::Counters;
use iommu_core::sync::atomic::Ordering;
use iommu_core::{Mmio, Nanoseconds, Observer, Platform, SourceId};

/// Why a round was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum QueueError {
    /// No confirmation in time.
    TimedOut(Nanoseconds),
    /// The unit refused one of its descriptors, with this IQEI. The others were done.
    Refused(u8),
    /// A device did not answer, and the round was lost: submit it again, without asking
    /// that device.
    Aborted(Option<SourceId>),
}

impl From<Failure> for QueueError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(code) => Self::Refused(code),
            Failure::Aborted(source) => Self::Aborted(source),
        }
    }
}

/// Reading the fault status takes a bus access; the status word is in memory. So the former
/// is looked at once for so many looks at the latter.
///
/// `loom`'s waiting CPUs sleep until the unit does something, so each look counts there.
const LOOKS_FOR_EACH_STATUS: u32 = if cfg!(loom) { 1 } else { 32 };

impl Queue {
    /// Waits until the round is done. The ring is not locked meanwhile, except to handle
    /// an error.
    pub(crate) fn wait<M: Mmio, P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        registers: &Registers<M>,
        counters: &Counters,
        ticket: Ticket,
        limit: Nanoseconds,
    ) -> Result<(), QueueError> {
        let begun = platform.now();
        let mut looks = 0u32;
        loop {
            let done = has_reached(self.completed(), ticket.number);
            if let Some(failure) = self.failure_of(platform, ticket) {
                return Err(failure.into());
            }
            let waited = platform.now().since(begun);
            if done {
                counters.wait_times.note(waited);
                return Ok(());
            }
            if waited > limit {
                counters.timeouts.increment();
                return Err(QueueError::TimedOut(waited));
            }
            let sleeps = self.event.is_on();
            if sleeps || looks.is_multiple_of(LOOKS_FOR_EACH_STATUS) {
                self.recover(platform, registers, counters);
            }
            looks = looks.wrapping_add(1);
            if sleeps {
                self.rest(platform, registers, counters, ticket);
            } else {
                platform.relax();
            }
        }
    }

    /// Sleeps until the interrupt, or for a while. If that was in vain though the round is
    /// done, the interrupt was lost, or one before it was never answered.
    fn rest<M: Mmio, P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        registers: &Registers<M>,
        counters: &Counters,
        ticket: Ticket,
    ) {
        let begun = platform.now();
        platform.rest(LONGEST_REST, &mut || {
            has_reached(self.completed(), ticket.number)
        });
        let in_vain = platform.now().since(begun) >= LONGEST_REST;
        if in_vain && has_reached(self.completed(), ticket.number) {
            counters.lost_completions.increment();
            answer(registers, platform);
        }
    }

    /// A failure is noted before hardware is allowed to go on, so that it is seen at the
    /// latest with the completion of the round's wait.
    fn failure_of<P: Platform>(&self, platform: &P, ticket: Ticket) -> Option<Failure> {
        if self.failure_count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut ring = self.ring.lock(platform);
        let failure = ring.failures.take(ticket.number);
        self.note_failures(&ring);
        failure
    }
}
