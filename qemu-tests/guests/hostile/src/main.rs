//! The program as a virtual machine.
//!
//! Invariant that the `unsafe` here rests on: the program is alone on a virtual machine, and
//! all that it breaks is its own.
#![no_std]
#![no_main]

use core::arch::asm;
use guest_machine::{Machine, Outcome};
use hostile_guest::Death;

guest_runtime::program!(run);

fn run(machine: &dyn Machine) -> Outcome {
    match hostile_guest::run(machine) {
        Death::Finish(outcome) => outcome,
        Death::TripleFault => triple_fault(),
        Death::Touch(address) => {
            touch(address);
            Outcome::Fail
        }
        Death::Halt => halt(),
        Death::Loop => spin(),
    }
}

fn triple_fault() -> ! {
    let nothing = x86_64::structures::DescriptorTablePointer {
        limit: 0,
        base: x86_64::VirtAddr::zero(),
    };
    // SAFETY: the module's invariant: an exception without a table ends the guest.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &nothing, options(noreturn)) }
}

fn touch(address: u64) {
    // SAFETY: the module's invariant; RIP and RSP stay good.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) address => _, options(nostack)) }
}

fn halt() -> ! {
    x86_64::instructions::interrupts::disable();
    loop {
        x86_64::instructions::hlt();
    }
}

fn spin() -> ! {
    x86_64::instructions::interrupts::disable();
    loop {
        core::hint::spin_loop();
    }
}
