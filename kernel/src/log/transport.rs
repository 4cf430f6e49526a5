//! Records on their way out, one at a time.
//!
//! Invariant that the `unsafe` here rests on: [`SINK`] is touched only by the CPU that has
//! [`OWNER`], or by one that is about to end the kernel.

use super::owner::Owner;
use super::record::{self, MAX_PAYLOAD};
use super::sink::Sink;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

struct Shared(UnsafeCell<Option<Sink>>);

// SAFETY: the module's invariant.
unsafe impl Sync for Shared {}

static SINK: Shared = Shared(UnsafeCell::new(None));
static OWNER: Owner = Owner::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Records and log frames that were dropped, because waiting could have hung.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

pub(super) fn count_dropped() {
    DROPPED.fetch_add(1, Ordering::Relaxed);
}

/// Whether this CPU is in the middle of a record.
pub(crate) fn is_mine() -> bool {
    OWNER.is_mine()
}

/// Sends bytes of a stream, in as many records as they need.
pub(super) fn send(stream: u8, bytes: &[u8]) {
    let Some(saved) = OWNER.acquire() else {
        count_dropped();
        return;
    };
    // SAFETY: we have `OWNER`.
    unsafe { send_owned(stream, bytes) };
    OWNER.release(saved);
}

/// Like [`send`], for a kernel that ends now: if the log cannot be had it is taken, and
/// whatever record was under way is torn, which the reader survives.
pub(super) fn send_last(stream: u8, bytes: &[u8]) {
    let saved = OWNER.acquire();
    // SAFETY: we have `OWNER`, or the kernel is about to end.
    unsafe { send_owned(stream, bytes) };
    if let Some(saved) = saved {
        OWNER.release(saved);
    }
}

/// Whether there is a serial port.
pub fn has_serial() -> bool {
    with_sink(|sink| sink.has_serial()).unwrap_or(false)
}

/// Sends bytes to the serial port alone, as they are: for a person at its other end.
pub fn send_serial(bytes: &[u8]) {
    if with_sink(|sink| sink.send_serial(bytes)).is_none() {
        count_dropped();
    }
}

/// A byte that came over the serial port, if one has.
pub fn receive_serial() -> Option<u8> {
    with_sink(Sink::receive_serial).flatten()
}

fn with_sink<T>(act: impl FnOnce(&mut Sink) -> T) -> Option<T> {
    let saved = OWNER.acquire()?;
    // SAFETY: we have `OWNER`.
    let sink = unsafe { &mut *SINK.0.get() };
    let result = act(sink.get_or_insert_with(Sink::probe));
    OWNER.release(saved);
    Some(result)
}

/// # Safety
/// The module's invariant: the caller may touch the sink.
unsafe fn send_owned(stream: u8, bytes: &[u8]) {
    // SAFETY: the caller's promise.
    let sink = unsafe { &mut *SINK.0.get() };
    let sink = sink.get_or_insert_with(Sink::probe);
    for payload in bytes.chunks(MAX_PAYLOAD) {
        if let Some(header) = record::header(stream, payload) {
            sink.send(&header);
            sink.send(payload);
        }
    }
}
