//! A panic ends the kernel: it stops the other CPUs, and then tells message, place and backtrace
//! in the `exit` line.

pub(crate) mod backtrace;

use crate::cpu;
use crate::exit::{self, ExitStatus};
use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    x86_64::instructions::interrupts::disable();
    let Some(stopped) = cpu::stop_the_others() else {
        // Formatting the message panicked.
        exit::leave(ExitStatus::Panic);
    };
    let trace = backtrace::here();
    match info.location() {
        Some(place) => exit::exit(
            ExitStatus::Panic,
            format_args!("{} at {place}{stopped}; backtrace {trace}", info.message()),
        ),
        None => exit::exit(
            ExitStatus::Panic,
            format_args!("{}{stopped}; backtrace {trace}", info.message()),
        ),
    }
}

/// What `defmt::panic!` and `defmt::unwrap!` end in, after they have logged the message.
#[defmt::panic_handler]
fn defmt_panic() -> ! {
    panic!("see the log")
}
