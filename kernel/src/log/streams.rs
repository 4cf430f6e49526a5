//! One stream for each program that logs.

use super::{report, transport};
use core::sync::atomic::{AtomicU8, Ordering};

/// The stream of one program's `defmt` frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub struct Stream(u8);

impl Stream {
    /// The number in the records.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// The stream of the kernel itself.
pub const KERNEL: Stream = Stream(1);

/// All 255 streams are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub struct TooManyStreams;

/// The stream that was given out last.
static LAST: AtomicU8 = AtomicU8::new(KERNEL.0);

/// Gives a program a stream of its own and tells the reader its name: that of its ELF
/// file, `guest/NAME`.
pub fn register(name: &str) -> Result<Stream, TooManyStreams> {
    let last = LAST
        .try_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            last.checked_add(1)
        })
        .map_err(|_| TooManyStreams)?;
    // It did not overflow, or the update had failed.
    let stream = Stream(last.wrapping_add(1));
    report::program(stream.0, name);
    Ok(stream)
}

/// Tells the reader the name of the kernel's own program.
pub(crate) fn announce_kernel(name: &str) {
    report::program(KERNEL.0, name);
}

/// Passes on a program's encoded frames (rzCOBS with its delimiters), as they are.
pub fn forward(stream: Stream, frames: &[u8]) {
    transport::send(stream.0, frames);
}
