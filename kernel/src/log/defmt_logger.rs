//! The kernel's `defmt` logger.
//!
//! A frame is collected in one buffer and leaves as one record if it fits. A CPU that
//! cannot have the logger (an NMI or a panic in the middle of a frame, another CPU that
//! does not give it up) drops its frame.
//!
//! Invariant that the `unsafe` here rests on: [`FRAME`] is touched only between a
//! successful `acquire` of [`OWNER`] and its release, by the CPU that has it.

use super::owner::Owner;
use super::record::MAX_PAYLOAD;
use super::streams::KERNEL;
use super::transport;
use crate::cpu::{self, interrupts};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering};

#[defmt::global_logger]
struct Logger;

defmt::timestamp!("{=u64:us}", crate::time::now().0 / 1000);

struct Frame {
    encoder: defmt::Encoder,
    bytes: [u8; MAX_PAYLOAD],
    length: usize,
    saved: interrupts::Saved,
}

struct Shared(UnsafeCell<Frame>);

// SAFETY: the module's invariant.
unsafe impl Sync for Shared {}

static FRAME: Shared = Shared(UnsafeCell::new(Frame {
    encoder: defmt::Encoder::new(),
    bytes: [0; MAX_PAYLOAD],
    length: 0,
    saved: interrupts::Saved::OFF,
}));
static OWNER: Owner = Owner::new();

/// Frames within frames that each CPU is dropping.
static DROPPING: [AtomicU32; cpu::MAX_CPUS] = [const { AtomicU32::new(0) }; cpu::MAX_CPUS];

fn dropping() -> &'static AtomicU32 {
    &DROPPING[cpu::index() as usize]
}

impl Frame {
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.length == self.bytes.len() {
                self.send();
            }
            self.bytes[self.length] = byte;
            self.length += 1;
        }
    }

    fn send(&mut self) {
        transport::send(KERNEL.number(), &self.bytes[..self.length]);
        self.length = 0;
    }

    /// Runs `encode` with the encoder and a writer into the buffer.
    fn with_encoder(&mut self, encode: impl FnOnce(&mut defmt::Encoder, &mut dyn FnMut(&[u8]))) {
        let mut encoder = core::mem::replace(&mut self.encoder, defmt::Encoder::new());
        encode(&mut encoder, &mut |bytes| self.push(bytes));
        self.encoder = encoder;
    }
}

/// # Safety
/// This CPU has [`OWNER`], and the reference ends before the next use.
unsafe fn frame() -> &'static mut Frame {
    // SAFETY: the caller's promise.
    unsafe { &mut *FRAME.0.get() }
}

// SAFETY: `OWNER` admits one execution context at a time; the others drop.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        // Who drops a frame drops those of its interrupt handlers too, so that each release
        // finds what its acquire did.
        let owner = (dropping().load(Ordering::Relaxed) == 0)
            .then(|| OWNER.acquire())
            .flatten();
        match owner {
            Some(saved) => {
                // SAFETY: we have `OWNER`.
                let frame = unsafe { frame() };
                frame.saved = saved;
                frame.with_encoder(|encoder, write| encoder.start_frame(write));
            }
            None => {
                dropping().fetch_add(1, Ordering::Relaxed);
                transport::count_dropped();
            }
        }
    }

    unsafe fn flush() {
        // Each frame leaves when it is complete.
    }

    unsafe fn release() {
        if dropping().load(Ordering::Relaxed) > 0 {
            dropping().fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // SAFETY: `acquire` succeeded, so we have `OWNER`.
        let frame = unsafe { frame() };
        frame.with_encoder(|encoder, write| encoder.end_frame(write));
        frame.send();
        let saved = frame.saved;
        OWNER.release(saved);
    }

    unsafe fn write(bytes: &[u8]) {
        if dropping().load(Ordering::Relaxed) > 0 {
            return;
        }
        // SAFETY: `acquire` succeeded, so we have `OWNER`.
        let frame = unsafe { frame() };
        frame.with_encoder(|encoder, write| encoder.write(bytes, write));
    }
}
