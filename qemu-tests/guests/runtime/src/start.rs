//! From the first instruction to the program and to its end.
//!
//! Invariant that the `unsafe` here rests on: the hypervisor starts the program in 64-bit
//! mode, its memory mapped one to one, interrupts off, the address of a [`Start`] in RDI.

use crate::machine::GuestMachine;
use crate::{exceptions, hypercall, log};
use core::alloc::{GlobalAlloc, Layout};
use core::arch::naked_asm;
use guest_machine::{Machine, Outcome};
use hypervisor_abi::{START_MAGIC, Start};

const STACK_BYTES: usize = 64 << 10;

#[repr(C, align(4096))]
struct Stack(core::cell::UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: used as the stack of the only CPU and never through this value.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK_BYTES]));

#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "sysv64" fn __guest_start() -> ! {
    naked_asm!(
        "lea rsp, [{stack} + {bytes}]",
        "xor ebp, ebp",
        "call __guest_main",
        "ud2",
        stack = sym STACK,
        bytes = const STACK_BYTES,
    )
}

/// Programs have no heap; some crates that they use could have one.
struct NoHeap;

// SAFETY: every allocation fails, so there is nothing to be sound about.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: NoHeap = NoHeap;

/// Runs the program and ends the guest.
pub fn run(start: u64, entry: fn(&dyn Machine) -> Outcome) -> ! {
    // SAFETY: the module's invariant.
    let start = unsafe { *(start as *const Start) };
    exceptions::load();
    if start.magic != START_MAGIC {
        panic!("started by something else: magic {:#x}", start.magic);
    }
    log::start(start.tsc_per_ms);
    let outcome = entry(&GuestMachine::new(start));
    end(outcome)
}

/// Hands the log over and ends the guest.
pub(crate) fn end(outcome: Outcome) -> ! {
    log::hand_over();
    hypercall::finish(outcome);
    // The hypervisor does not return from there.
    loop {
        x86_64::instructions::hlt();
    }
}
