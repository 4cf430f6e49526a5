//! Bounded stretches of time, so that no guest keeps the CPU: the local APIC's timer
//! interrupts at the end of each.

use crate::cpu::apic;
use crate::cpu::vectors::{self, OutOfVectors, Vector};
use spin::Once;

/// Ticks of the APIC's timer, divided by 16. Its rate depends on the machine: 10 ms under
/// QEMU, 2 to 60 ms elsewhere. No more is needed than that it ends.
const TICKS: u32 = 625_000;

static VECTOR: Once<Vector> = Once::new();

fn tick(_: Vector) {}

/// Gets the timer's vector. Before the first slice.
pub(super) fn prepare() -> Result<(), OutOfVectors> {
    VECTOR
        .try_call_once(|| vectors::allocate(&tick))
        .map(|_| ())
}

/// Begins a slice.
pub(super) fn begin() {
    if let Some(vector) = VECTOR.get() {
        apic::interrupt_once(*vector, TICKS);
    }
}

/// Ends the slice; no interrupt comes.
pub(super) fn end() {
    apic::stop_timer();
}
