//! The hypervisor that the drivers run in: memory, CPU, interrupts, time, logs, PCI, and
//! the wiring of VT-d, guests and devices.
//!
//! A library, so that the boot-test kernel can bring its own `main`. A program names its
//! `main` by [`entry!`] and gets a [`Machine`](start::Machine) on which memory, exceptions,
//! interrupts, the clock and the log work already.
//!
//! Modules that touch the machine exist only in bare-metal builds; the others are tested
//! on the host.
//!
//! After the start nothing allocates infallibly: `try_reserve`, fixed tables, and errors.

#![no_std]
#![cfg_attr(
    not(target_os = "none"),
    allow(
        dead_code,
        unused_imports,
        reason = "what only the machine uses has no user on a host, where the library is for tests"
    )
)]

#[cfg(test)]
extern crate std;

extern crate alloc;

pub mod archive;
pub mod command_line;
pub mod devices;
pub mod exit;
pub mod firmware;
pub mod log;
pub mod memory;
pub mod monitor;
pub mod next;
pub mod rules;
pub mod time;
pub mod vcpu;
pub mod vm;

#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod demonstration;
#[cfg(target_os = "none")]
pub mod guest;
#[cfg(target_os = "none")]
pub mod host;
#[cfg(target_os = "none")]
pub mod inspect;
#[cfg(target_os = "none")]
mod panic;
#[cfg(target_os = "none")]
pub mod pci;
#[cfg(target_os = "none")]
pub mod platform;
#[cfg(target_os = "none")]
pub mod remapping;
#[cfg(target_os = "none")]
pub mod start;
#[cfg(target_os = "none")]
pub mod storage;
#[cfg(target_os = "none")]
pub mod turns;

#[doc(hidden)]
pub use boot as __boot;

/// Names the program for the reader of its log, and its main function
/// `fn(kernel::start::Machine) -> !`.
#[macro_export]
macro_rules! entry {
    ($name:literal, $main:path) => {
        fn __kernel_main(loader: $crate::__boot::Loader) -> ! {
            $crate::start::run($name, loader, $main)
        }
        $crate::__boot::entry!(__kernel_main);
    };
}
