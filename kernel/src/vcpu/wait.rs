//! Waiting for an interrupt of a guest, on the host.

use super::slice;
use crate::cpu::interrupts;
use crate::time;
use crate::vm::Vm;
use iommu_core::Nanoseconds;

/// Halts the CPU until an interrupt waits for the guest (true) or the time is over.
pub(super) fn for_interrupt(vm: &Vm, until: Nanoseconds) -> bool {
    loop {
        // Interrupts are off from looking until the halt, which turns them on: none slips
        // in between.
        let _ = interrupts::disable();
        let waits = vm.interrupts().next().is_some();
        if waits || time::now() >= until {
            x86_64::instructions::interrupts::enable();
            return waits;
        }
        slice::begin();
        x86_64::instructions::interrupts::enable_and_hlt();
        vm.tend();
    }
}
