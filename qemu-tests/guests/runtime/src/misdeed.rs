//! What ends a guest on purpose.
//!
//! Invariant that the `unsafe` here rests on: the program is alone on a virtual machine, and
//! all that it breaks is its own.

use core::arch::asm;

/// A triple fault.
pub fn triple_fault() -> ! {
    let nothing = x86_64::structures::DescriptorTablePointer {
        limit: 0,
        base: x86_64::VirtAddr::zero(),
    };
    // SAFETY: the module's invariant: an exception without a table ends the guest.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &nothing, options(noreturn)) }
}

/// Reads at an address, where there may be nothing.
pub fn touch(address: u64) {
    // SAFETY: the module's invariant; RIP and RSP stay good.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) address => _, options(nostack)) }
}

/// Loops for ever with interrupts off.
pub fn spin() -> ! {
    x86_64::instructions::interrupts::disable();
    loop {
        core::hint::spin_loop();
    }
}

/// Halts with interrupts off, again and again.
pub fn halt() -> ! {
    x86_64::instructions::interrupts::disable();
    loop {
        x86_64::instructions::hlt();
    }
}
