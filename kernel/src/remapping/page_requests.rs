//! Page requests: that some have come. Answering them waits for units, so it is not done in
//! the interrupt handler but by whoever runs a guest, at its next exit.

use crate::cpu::vectors::Vector;
use core::sync::atomic::{AtomicBool, Ordering};

/// Pages of each unit's queue, as log2: 256 requests, more than one device has outstanding.
pub(super) const QUEUE_PAGES_LOG2: u8 = 1;

static PENDING: AtomicBool = AtomicBool::new(false);

/// The page request event's interrupt.
pub(super) static INTERRUPT: fn(Vector) = |_| PENDING.store(true, Ordering::Release);

/// Whether requests have come since the last time. Whoever is told so takes them all.
pub fn take_pending() -> bool {
    PENDING.swap(false, Ordering::AcqRel)
}
