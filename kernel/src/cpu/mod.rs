//! The CPUs: descriptor tables, exceptions, interrupts, the local APIC, and the start of those
//! that the loader left alone.

pub mod apic;
mod exceptions;
mod features;
mod floating_point;
pub mod interrupts;
pub mod ioapic;
mod others;
mod per_cpu;
mod segments;
mod stop;
mod trap;
pub mod vectors;

pub use features::{Features, features};
pub use floating_point::FloatingPoint;
pub(crate) use others::stop as stop_others;
pub use others::{count, kick, start as start_others};
pub use per_cpu::{MAX_CPUS, index};
pub(crate) use per_cpu::{is_stack_guard, ranks, stack_of};
pub(crate) use stop::{must_stand_still, stand_still, stop_the_others};
pub use trap::TrapFrame;

/// Brings up the boot CPU's own state: per-CPU area, segments, exceptions. The first thing
/// to be called, once; needs no memory.
pub(crate) fn start() {
    // SAFETY: the first CPU, and the first call: nobody has a number yet.
    unsafe { per_cpu::start(0) };
    start_this();
}

/// What a CPU needs beside its number.
fn start_this() {
    segments::load();
    trap::load();
    floating_point::start();
}
