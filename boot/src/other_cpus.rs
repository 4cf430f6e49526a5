//! The first instructions of the CPUs that the loader left alone: from the real mode in which
//! a start-up interrupt finds them to Rust in long mode (SDM 3A, 9.4).
//!
//! One at a time: whoever starts a CPU puts [`trampoline`] into a page below 1 MiB, [`offer`]s
//! a stack, and sends the interrupt. The CPU takes the stack away from the offer, so that one
//! which comes too late finds none and stops for good.
//!
//! Invariants that the `unsafe` here rests on:
//! 1. The early page tables of [`entry`](crate::entry) are for ever as they were: they map the
//!    first 4 GiB at their own addresses, and the image at its own.
//! 2. A stack on offer is nobody's, lies in the image, and has one taker.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// The top of the stack for the next CPU; 0 if none shall start.
static STACK_ON_OFFER: AtomicU64 = AtomicU64::new(0);
/// What runs on it.
static ENTRY: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    static __boot_trampoline_begin: u8;
    static __boot_trampoline_end: u8;
}

// In the page: position-independent, at offset 0 of the code segment. The rest lies where the
// image was loaded, below 4 GiB, and is reached without paging.
global_asm!(
    ".pushsection .rodata.trampoline, \"a\"",
    ".balign 16",
    ".global __boot_trampoline_begin",
    "__boot_trampoline_begin:",
    ".code16",
    "cli",
    "cld",
    "lgdtl %cs:(7f - __boot_trampoline_begin)",
    "movl %cr0, %eax",
    "orl $1, %eax",
    "movl %eax, %cr0",
    "ljmpl $8, $__boot_other_cpu",
    ".balign 8",
    "7:",
    ".word 4 * 8 - 1",
    ".long __boot_other_segments",
    ".global __boot_trampoline_end",
    "__boot_trampoline_end:",
    ".popsection",
    ".pushsection .boot.text.other_cpus, \"ax\"",
    ".balign 8",
    // Null, 32-bit code, data, 64-bit code.
    "__boot_other_segments:",
    ".quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff",
    ".code32",
    "__boot_other_cpu:",
    "movw $16, %ax",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movw %ax, %ss",
    "movl $({pml4} + {to_physical}), %eax",
    "movl %eax, %cr3",
    // As the first CPU: PAE; LME and NXE; PG, WP, NE, ET, MP, PE, caches on.
    "movl $0x20, %eax",
    "movl %eax, %cr4",
    "movl $0xc0000080, %ecx",
    "rdmsr",
    "orl $0x900, %eax",
    "wrmsr",
    "movl $0x80010033, %eax",
    "movl %eax, %cr0",
    "ljmp $24, $2f",
    ".code64",
    "2:",
    "xorl %eax, %eax",
    "movw %ax, %fs",
    "movw %ax, %gs",
    "movabsq ${stack}, %rcx",
    "xchgq %rax, (%rcx)",
    "testq %rax, %rax",
    "jz 3f",
    "movq %rax, %rsp",
    "xorl %ebp, %ebp",
    "movabsq ${entry}, %rax",
    "call *(%rax)",
    "3:",
    "cli",
    "hlt",
    "jmp 3b",
    ".popsection",
    pml4 = sym crate::entry::PML4,
    stack = sym STACK_ON_OFFER,
    entry = sym ENTRY,
    // -KERNEL_OFFSET, modulo 2^64.
    to_physical = const crate::layout::KERNEL_OFFSET.wrapping_neg(),
    options(att_syntax)
);

/// What must lie at the start of a page below 1 MiB when a start-up interrupt names that page.
pub fn trampoline() -> &'static [u8] {
    let begin = &raw const __boot_trampoline_begin;
    let bytes = (&raw const __boot_trampoline_end).addr() - begin.addr();
    // SAFETY: both symbols lie around code in the image's read-only data.
    unsafe { core::slice::from_raw_parts(begin, bytes) }
}

/// Offers a stack to the next CPU that starts, which calls `entry` on it: in long mode, with
/// interrupts off, no IDT, and the early address space.
///
/// # Safety
/// `top` is the top of a stack in the image that nobody uses, or ever will if it is taken.
pub unsafe fn offer(top: u64, entry: extern "C" fn() -> !) {
    ENTRY.store(entry as *const () as u64, Ordering::Relaxed);
    STACK_ON_OFFER.store(top, Ordering::Release);
}

/// Takes the offer back. Whether nobody had taken it: then nobody will.
pub fn withdraw() -> bool {
    STACK_ON_OFFER.swap(0, Ordering::AcqRel) != 0
}
