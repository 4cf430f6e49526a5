//! What a guest says, and what is said about it, on the wire.
//!
//! A guest can say no more than its share: the log belongs to all, and each byte of it takes
//! time from everybody.

use crate::log::{self, Stream, TooManyStreams, report};
use crate::vm::{Verdict, Voice, Witness};
use alloc::format;
use arrayvec::ArrayString;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};
use hypervisor_abi::Outcome;

/// Bytes of log that are passed on for a guest, and claims.
const LOG_BYTES: u64 = 1 << 20;
const CLAIMS: u64 = 256;

/// How its trials went.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub struct Trials {
    /// Trials.
    pub all: u64,
    /// Those that did not hold.
    pub failed: u64,
    /// Those that had to be repeated.
    pub void: u64,
}

/// A guest's stream and the report.
pub(super) struct StreamVoice {
    stream: Stream,
    /// Stands before its claims; empty for a guest whose claims are known by their names.
    label: ArrayString<16>,
    /// Whether what it says, and what was seen of its trials, is told. A hostile guest claims
    /// what is not so, announces what it does not do, and logs what nobody can decode.
    is_heard: bool,
    trials: AtomicU64,
    failed: AtomicU64,
    void: AtomicU64,
    logged: AtomicU64,
    claimed: AtomicU64,
}

impl StreamVoice {
    /// The voice of a program, of which `label` tells this guest from others.
    pub(super) fn new(program: &str, label: &str, is_heard: bool) -> Result<Self, TooManyStreams> {
        let mut short = ArrayString::new();
        // A longer one loses its end.
        label.chars().try_for_each(|c| short.try_push(c)).ok();
        Ok(Self {
            stream: log::register(&format!("guest/{program}"))?,
            label: short,
            is_heard,
            trials: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            void: AtomicU64::new(0),
            logged: AtomicU64::new(0),
            claimed: AtomicU64::new(0),
        })
    }

    /// How its trials went.
    pub(super) fn trials(&self) -> Trials {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Trials {
            all: load(&self.trials),
            failed: load(&self.failed),
            void: load(&self.void),
        }
    }

    /// A step's name in the report.
    fn named(&self, step: &str) -> ArrayString<64> {
        let mut name = ArrayString::new();
        // A step's name has 32 bytes at most.
        let _ = match self.label.is_empty() {
            true => write!(name, "{step}"),
            false => write!(name, "{}/{step}", self.label),
        };
        name
    }
}

impl Voice for StreamVoice {
    fn log(&self, frames: &[u8], lost: u32) {
        if lost > 0 && self.is_heard {
            defmt::warn!("the guest lost {=u32} frames of its log", lost);
        }
        let before = self
            .logged
            .fetch_add(frames.len() as u64, Ordering::Relaxed);
        if self.is_heard && before < LOG_BYTES {
            log::forward(self.stream, frames);
        }
    }

    fn claim(&self, outcome: Outcome, id: &str, text: &str) {
        if self.claimed.fetch_add(1, Ordering::Relaxed) < CLAIMS && self.is_heard {
            let id = self.named(id);
            report::claim(outcome == Outcome::Pass, &id, format_args!("{text}"));
        }
    }

    fn witness(&self, witness: &Witness) {
        self.trials.fetch_add(1, Ordering::Relaxed);
        match witness.verdict() {
            Verdict::Pass => {}
            Verdict::Fail => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            Verdict::Void => {
                self.void.fetch_add(1, Ordering::Relaxed);
            }
        }
        if self.is_heard {
            report::witness(&self.named(witness.step()), format_args!("{witness}"));
        }
    }
}
