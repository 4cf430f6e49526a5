//! The CPU: descriptor tables, exceptions, interrupts, the local APIC.

pub mod apic;
mod exceptions;
mod features;
pub mod interrupts;
pub(crate) mod ioapic;
mod per_cpu;
mod segments;
mod trap;
pub mod vectors;

pub use features::{Features, features};
pub use per_cpu::{MAX_CPUS, index};
pub(crate) use per_cpu::{is_stack_guard, ranks, stack_of};
pub use trap::TrapFrame;

/// Brings up the boot CPU's own state: per-CPU area, segments, exceptions. The first thing
/// to be called, once; needs no memory.
pub(crate) fn start() {
    per_cpu::start();
    segments::load();
    trap::load();
}
