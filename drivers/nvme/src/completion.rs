//! How it is learned that the controller has completed a read: by its interrupt, which is believed
//! only as a reason to look, or by looking all the time.

use iommu_core::Nanoseconds;

/// How long after its doorbell a read may go without an interrupt before the queue is looked at
/// all the same.
pub(crate) const PATIENCE: Nanoseconds = Nanoseconds::from_millis(1_000);

/// Counts interrupts. Its owner counts one up in its handler and does no more.
pub trait Signal: Sync {
    /// How many have come, ever.
    fn count(&self) -> u64;
}

/// The interrupt of the completion queue of reads.
#[derive(Clone, Copy)]
pub struct Interrupt<'m> {
    /// Its number among the messages of the function. Number 0 is the admin queue's as well.
    pub vector: u16,
    /// Counts it.
    pub signal: &'m dyn Signal,
}

/// How reads were completed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Completions {
    /// Found because an interrupt came.
    pub by_interrupt: u64,
    /// Found by looking.
    pub polled: u64,
    /// One was there, and its interrupt was not: from then on none was waited for.
    pub interrupt_lost: bool,
}

/// Waits for one command after the other.
pub(crate) struct Waiting<'m> {
    interrupt: Option<Interrupt<'m>>,
    seen: u64,
    completions: Completions,
}

/// Why the queue is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// An interrupt came.
    Told,
    /// There is no interrupt to wait for.
    Polling,
    /// None came in time.
    Late,
}

impl<'m> Waiting<'m> {
    pub(crate) fn new(interrupt: Option<Interrupt<'m>>) -> Self {
        Self {
            interrupt,
            seen: 0,
            completions: Completions::default(),
        }
    }

    pub(crate) fn vector(&self) -> Option<u16> {
        self.interrupt.map(|interrupt| interrupt.vector)
    }

    pub(crate) fn completions(&self) -> Completions {
        self.completions
    }

    /// Before the doorbell: what has come up to now is about something else.
    pub(crate) fn begin(&mut self) {
        self.seen = self.count();
    }

    /// Whether to look now, this long after the doorbell.
    pub(crate) fn look(&mut self, waited: Nanoseconds) -> Option<Look> {
        if self.interrupt.is_none() {
            return Some(Look::Polling);
        }
        let count = self.count();
        if count != self.seen {
            // Each counts once: one that was late for another command is no reason for ever.
            self.seen = count;
            return Some(Look::Told);
        }
        (waited > PATIENCE).then_some(Look::Late)
    }

    /// The look has found it.
    pub(crate) fn found(&mut self, look: Look) {
        let completions = &mut self.completions;
        let kind = match look {
            Look::Told => &mut completions.by_interrupt,
            Look::Polling | Look::Late => &mut completions.polled,
        };
        *kind = kind.saturating_add(1);
        if look == Look::Late {
            completions.interrupt_lost = true;
            self.interrupt = None;
        }
    }

    fn count(&self) -> u64 {
        self.interrupt
            .map_or(0, |interrupt| interrupt.signal.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU64, Ordering};

    struct Counter(AtomicU64);

    impl Signal for Counter {
        fn count(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    const SOON: Nanoseconds = Nanoseconds::from_millis(1);
    const LATE: Nanoseconds = Nanoseconds::from_millis(1_001);

    #[test]
    fn an_interrupt_is_a_reason_to_look_once() {
        let counter = Counter(AtomicU64::new(7));
        let mut waiting = Waiting::new(Some(Interrupt {
            vector: 0,
            signal: &counter,
        }));
        waiting.begin();
        assert_eq!(waiting.look(SOON), None, "an old one");
        counter.0.store(8, Ordering::Relaxed);
        assert_eq!(waiting.look(SOON), Some(Look::Told));
        assert_eq!(waiting.look(SOON), None, "the same again");
        assert_eq!(waiting.look(LATE), Some(Look::Late));
        counter.0.store(9, Ordering::Relaxed);
        assert_eq!(waiting.look(LATE), Some(Look::Told), "late, and there");
    }

    #[test]
    fn after_one_that_was_lost_no_other_is_waited_for() {
        let counter = Counter(AtomicU64::new(0));
        let mut waiting = Waiting::new(Some(Interrupt {
            vector: 0,
            signal: &counter,
        }));
        waiting.begin();
        waiting.found(Look::Late);
        assert_eq!(waiting.look(SOON), Some(Look::Polling));
        assert!(waiting.completions().interrupt_lost);
    }
}
