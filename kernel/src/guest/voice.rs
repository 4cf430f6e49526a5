//! What a guest says, and what is said about it, on the wire.

use crate::log::{self, Stream, report};
use crate::vm::{Voice, Witness};
use core::sync::atomic::{AtomicU64, Ordering};
use hypervisor_abi::Outcome;

/// A guest's stream and the report.
pub(super) struct StreamVoice {
    stream: Stream,
    failed: AtomicU64,
    witnessed: AtomicU64,
}

impl StreamVoice {
    pub(super) const fn new(stream: Stream) -> Self {
        Self {
            stream,
            failed: AtomicU64::new(0),
            witnessed: AtomicU64::new(0),
        }
    }

    /// Trials, and those of them that did not hold.
    pub(super) fn trials(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.witnessed), load(&self.failed))
    }
}

impl Voice for StreamVoice {
    fn log(&self, frames: &[u8], lost: u32) {
        if lost > 0 {
            defmt::warn!("the guest lost {=u32} frames of its log", lost);
        }
        log::forward(self.stream, frames);
    }

    fn claim(&self, outcome: Outcome, id: &str, text: &str) {
        report::claim(outcome == Outcome::Pass, id, format_args!("{text}"));
    }

    fn witness(&self, witness: &Witness) {
        self.witnessed.fetch_add(1, Ordering::Relaxed);
        if !witness.holds() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        report::witness(witness.step(), format_args!("{witness}"));
    }
}
