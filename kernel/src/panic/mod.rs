//! A panic ends the kernel: message, place and backtrace in the `exit` line.

pub(crate) mod backtrace;

use crate::exit::{self, ExitStatus};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

static PANICKING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    x86_64::instructions::interrupts::disable();
    if PANICKING.swap(true, Ordering::Relaxed) {
        // Formatting the message panicked.
        exit::leave(ExitStatus::Panic);
    }
    let trace = backtrace::here();
    match info.location() {
        Some(place) => exit::exit(
            ExitStatus::Panic,
            format_args!("{} at {place}; backtrace {trace}", info.message()),
        ),
        None => exit::exit(
            ExitStatus::Panic,
            format_args!("{}; backtrace {trace}", info.message()),
        ),
    }
}

/// What `defmt::panic!` and `defmt::unwrap!` end in, after they have logged the message.
#[defmt::panic_handler]
fn defmt_panic() -> ! {
    panic!("see the log")
}
