//! Bounded stretches of time, so that no guest keeps the CPU: the local APIC's timer
//! interrupts at the end of each.

use crate::cpu::vectors::{self, OutOfVectors, Vector};
use crate::cpu::{self, MAX_CPUS, apic};
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Once;

/// Ticks of the APIC's timer, divided by 16. Its rate depends on the machine: 10 ms under
/// QEMU, 2 to 60 ms elsewhere. No more is needed than that it ends.
const TICKS: u32 = 625_000;

static VECTOR: Once<Vector> = Once::new();

/// Whether each CPU's slice is over.
static OVER: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

fn over() -> &'static AtomicBool {
    &OVER[cpu::index() as usize]
}

fn tick(_: Vector) {
    over().store(true, Ordering::Relaxed);
}

/// Gets the timer's vector. Before the first slice.
pub(crate) fn prepare() -> Result<(), OutOfVectors> {
    VECTOR
        .try_call_once(|| vectors::allocate(&tick))
        .map(|_| ())
}

/// Begins a slice of this CPU.
pub(crate) fn begin() {
    over().store(false, Ordering::Relaxed);
    if let Some(vector) = VECTOR.get() {
        apic::interrupt_once(*vector, TICKS);
    }
}

/// Whether this CPU's slice is over.
pub(crate) fn is_over() -> bool {
    over().load(Ordering::Relaxed)
}

/// Ends the slice; no interrupt comes.
pub(crate) fn end() {
    apic::stop_timer();
}
