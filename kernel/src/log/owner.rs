//! A lock that is never waited for without limit: who cannot have it goes on without.

use crate::cpu::{self, interrupts};
use core::sync::atomic::{AtomicU32, Ordering};

/// Turns that one CPU waits for another: well above the time that a record takes on an
/// emulated port.
const PATIENCE: u32 = 1 << 22;

const NOBODY: u32 = 0;

/// Who may use the log now.
pub(super) struct Owner(AtomicU32);

impl Owner {
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(NOBODY))
    }

    /// Takes the lock, interrupts off. `None` if this CPU holds it already (an NMI, an
    /// exception or a panic in the middle of a record), or if another CPU does not give it
    /// up. The state of the interrupt flag is for [`release`](Self::release).
    pub(super) fn acquire(&self) -> Option<interrupts::Saved> {
        let saved = interrupts::disable();
        let me = cpu::index() + 1;
        for _ in 0..PATIENCE {
            match self
                .0
                .compare_exchange(NOBODY, me, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return Some(saved),
                Err(holder) if holder == me => break,
                Err(_) => core::hint::spin_loop(),
            }
        }
        interrupts::restore(saved);
        None
    }

    /// Whether this CPU has the lock.
    pub(super) fn is_mine(&self) -> bool {
        self.0.load(Ordering::Relaxed) == cpu::index() + 1
    }

    /// Gives the lock back. A CPU that shall stand still does so now.
    pub(super) fn release(&self, saved: interrupts::Saved) {
        self.0.store(NOBODY, Ordering::Release);
        if cpu::must_stand_still() {
            cpu::stand_still();
        }
        interrupts::restore(saved);
    }
}
