//! What the hypervisor shows when it runs: each step with a verdict of its own, counted
//! figures at the end.

mod blocked;
mod device;
mod figures;
mod guest;
mod interrupts;
mod units;

pub use blocked::blocked_by_default;
pub use figures::figures;
pub use guest::guest;
pub use interrupts::interrupt_source;
pub use units::units;

use crate::log::report::{self, Verdict};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

static FAILED: AtomicBool = AtomicBool::new(false);

/// Reports a step's verdict and remembers a failure.
fn step(verdict: Verdict, id: &str, text: fmt::Arguments<'_>) {
    if verdict == Verdict::Fail {
        FAILED.store(true, Ordering::Relaxed);
    }
    report::step(verdict, id, text);
}

/// Whether a step has failed.
pub fn has_failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}
