//! Entry, stack, interrupts, log and panic handler of a guest program.
//!
//! A program's binary is
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! guest_runtime::program!(my_program::run);
//! ```
//!
//! and a build script that links it by this crate's `guest.ld` and by `defmt.x`.

#![no_std]

#[cfg(target_os = "none")]
mod exceptions;
#[cfg(target_os = "none")]
mod hypercall;
#[cfg(target_os = "none")]
mod log;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
pub mod misdeed;
#[cfg(target_os = "none")]
mod panic;
#[cfg(target_os = "none")]
mod start;

#[cfg(target_os = "none")]
pub use exceptions::exception_of;
#[cfg(target_os = "none")]
#[doc(hidden)]
pub use start::run;

#[doc(hidden)]
pub use guest_machine::{Machine, Outcome};

/// Names the program's entry: a `fn(&dyn Machine) -> Outcome`.
#[macro_export]
macro_rules! program {
    ($entry:path) => {
        #[unsafe(no_mangle)]
        extern "sysv64" fn __guest_main(start: u64) -> ! {
            let entry: fn(&dyn $crate::Machine) -> $crate::Outcome = $entry;
            $crate::run(start, entry)
        }
    };
}
