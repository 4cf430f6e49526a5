//! The `defmt` logger: frames gather in a buffer, which is handed over when it fills up and
//! at the end.
//!
//! Invariant that the `unsafe` here rests on: there is one CPU, and interrupts are off
//! between `acquire` and `release` and wherever the buffer is handed over, so nothing uses
//! the state twice at a time.

use crate::hypercall;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};
use defmt::{Encoder, Logger};
use hypervisor_abi::Log;
use x86_64::registers::rflags::{self, RFlags};

const BUFFER_BYTES: usize = 8 << 10;
/// Room that must be left for the next frame; else the buffer is handed over first.
const FRAME_BYTES: usize = 1 << 10;

struct Buffer {
    buffer: [u8; BUFFER_BYTES],
    used: usize,
    /// Where the frame that is being written began.
    frame: usize,
    overflow: bool,
    lost: u32,
    interrupts_were_on: bool,
}

struct Shared<T>(UnsafeCell<T>);

// SAFETY: the module's invariant.
unsafe impl<T> Sync for Shared<T> {}

/// Apart from the buffer, for it calls [`write`], which uses the buffer.
static ENCODER: Shared<Encoder> = Shared(UnsafeCell::new(Encoder::new()));

static BUFFER: Shared<Buffer> = Shared(UnsafeCell::new(Buffer {
    buffer: [0; BUFFER_BYTES],
    used: 0,
    frame: 0,
    overflow: false,
    lost: 0,
    interrupts_were_on: false,
}));

static TSC_PER_MS: AtomicU64 = AtomicU64::new(1_000_000);

defmt::timestamp!("{=u64:us}", microseconds());

fn microseconds() -> u64 {
    nanoseconds() / 1000
}

/// Time since the machine's start.
pub(crate) fn nanoseconds() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction, and the hypervisor lets it through.
    let ticks = u128::from(unsafe { core::arch::x86_64::_rdtsc() });
    let per_ms = u128::from(TSC_PER_MS.load(Ordering::Relaxed)).max(1);
    (ticks * 1_000_000 / per_ms) as u64
}

/// Learns how fast the time-stamp counter is.
pub(crate) fn start(tsc_per_ms: u64) {
    TSC_PER_MS.store(tsc_per_ms, Ordering::Relaxed);
}

impl Buffer {
    fn write(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        match self.buffer.get_mut(self.used..end) {
            Some(room) if !self.overflow => {
                room.copy_from_slice(bytes);
                self.used = end;
            }
            _ => self.overflow = true,
        }
    }

    fn begin(&mut self, interrupts_were_on: bool) {
        self.interrupts_were_on = interrupts_were_on;
        if BUFFER_BYTES - self.used < FRAME_BYTES {
            self.hand_over();
        }
        (self.frame, self.overflow) = (self.used, false);
    }

    /// Ends a frame, or takes it back if it did not fit. Whether interrupts were on.
    fn end(&mut self) -> bool {
        if self.overflow {
            self.used = self.frame;
            self.lost = self.lost.saturating_add(1);
        }
        self.interrupts_were_on
    }

    fn hand_over(&mut self) {
        if self.used == 0 && self.lost == 0 {
            return;
        }
        hypercall::call_with(&Log {
            buffer: self.buffer.as_ptr().expose_provenance() as u64,
            bytes: self.used as u32,
            lost: self.lost,
            ..Log::new()
        });
        (self.used, self.lost) = (0, 0);
    }
}

/// Hands over what there is. Also in a panic in the middle of a frame, which is left out.
pub(crate) fn hand_over() {
    x86_64::instructions::interrupts::disable();
    // SAFETY: the module's invariant.
    unsafe { (*BUFFER.0.get()).hand_over() };
}

#[defmt::global_logger]
struct GuestLogger;

// SAFETY: `acquire` turns interrupts off and there is one CPU, so frames do not mix.
unsafe impl Logger for GuestLogger {
    fn acquire() {
        let on = rflags::read().contains(RFlags::INTERRUPT_FLAG);
        x86_64::instructions::interrupts::disable();
        // SAFETY: the module's invariant; the reference ends before the encoder's call.
        unsafe { (*BUFFER.0.get()).begin(on) };
        // SAFETY: the module's invariant.
        unsafe { (*ENCODER.0.get()).start_frame(write) };
    }

    unsafe fn flush() {
        hand_over();
    }

    unsafe fn release() {
        // SAFETY: the module's invariant.
        unsafe { (*ENCODER.0.get()).end_frame(write) };
        // SAFETY: the module's invariant.
        if unsafe { (*BUFFER.0.get()).end() } {
            x86_64::instructions::interrupts::enable();
        }
    }

    unsafe fn write(bytes: &[u8]) {
        // SAFETY: the module's invariant.
        unsafe { (*ENCODER.0.get()).write(bytes, write) };
    }
}

/// Takes what the encoder gives.
fn write(bytes: &[u8]) {
    // SAFETY: the module's invariant; nobody holds a reference to the buffer now.
    unsafe { (*BUFFER.0.get()).write(bytes) };
}
