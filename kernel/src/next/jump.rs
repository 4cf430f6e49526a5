//! Out of this kernel: onto tables that map memory at its own addresses, the next kernel's
//! bytes to their places, paging off, and into it in 32-bit mode.
//!
//! Invariants that the `unsafe` here rests on:
//! 1. One CPU runs this, with interrupts off, and never comes back: nothing of this kernel is
//!    used afterwards.
//! 2. The block lies below 4 GiB, is ours, and is none of the places that are written to.

use super::image::{NextImage, SEGMENTS};
use arrayvec::ArrayVec;
use core::arch::{asm, global_asm};
use core::sync::atomic::Ordering;
use iommu_core::{Frame, Hpa, Order, PAGE_SIZE};
use x86_64::instructions::interrupts;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::PageTableFlags;

/// Eight pages: code and stack, a root table, one below, four below that, information.
pub(super) const BLOCK: Order = match Order::new(3) {
    Some(order) => order,
    None => Order::PAGE,
};
const ENTRIES: usize = 512;
const ROOT: usize = 1;
const MIDDLE: usize = 2;
const LOWEST: usize = 3;
const INFORMATION: usize = 7;
/// Where in the page of code the list of copies lies, in words: behind the code, below the
/// stack.
const COPIES: usize = 256;
const COPY_WORDS: usize = 4;
const LARGE_PAGE: u64 = 2 << 20;

const _: () = assert!((SEGMENTS + 1) * COPY_WORDS + COPIES < ENTRIES - 64);

unsafe extern "C" {
    static __next_begin: u8;
    static __next_end: u8;
}

// Position-independent. In 64-bit mode: R8 the list of copies (to, from, bytes, zeroes; ended by
// to = 0), R9 the start information, R10 the entry point.
global_asm!(
    ".pushsection .rodata.next, \"a\"",
    ".balign 16",
    ".global __next_begin",
    "__next_begin:",
    "cld",
    "2:",
    "movq (%r8), %rdi",
    "testq %rdi, %rdi",
    "jz 3f",
    "movq 8(%r8), %rsi",
    "movq 16(%r8), %rcx",
    "rep movsb",
    "movq 24(%r8), %rcx",
    "xorl %eax, %eax",
    "rep stosb",
    "addq $32, %r8",
    "jmp 2b",
    "3:",
    "movl %r9d, %ebx",
    "movl %r10d, %ebp",
    "leaq 5f(%rip), %rax",
    "movq %rax, 6f+2(%rip)",
    "lgdt 6f(%rip)",
    "pushq $8",
    "leaq 4f(%rip), %rax",
    "pushq %rax",
    "lretq",
    ".code32",
    "4:",
    "movw $16, %ax",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movw %ax, %ss",
    // Paging off, then long mode, then all of CR4.
    "movl %cr0, %eax",
    "andl $0x7fffffff, %eax",
    "movl %eax, %cr0",
    "movl $0xc0000080, %ecx",
    "rdmsr",
    "andl $0xfffffeff, %eax",
    "wrmsr",
    "xorl %eax, %eax",
    "movl %eax, %cr4",
    "jmp *%ebp",
    ".code64",
    ".balign 8",
    // Null, 32-bit code, data.
    "5:",
    ".quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff",
    "6:",
    ".word 3 * 8 - 1",
    ".quad 0",
    ".global __next_end",
    "__next_end:",
    ".popsection",
    options(att_syntax)
);

/// A copy that is to be made on the way.
pub(super) struct Copy {
    pub(super) to: Hpa,
    pub(super) from: Hpa,
    pub(super) bytes: u64,
    pub(super) zeroes: u64,
}

/// The page of the block that holds the start information.
pub(super) fn information_page(block: &Frame) -> (&[core::sync::atomic::AtomicU64], Hpa) {
    let cells = block.cells();
    let first = INFORMATION * ENTRIES;
    let page = cells.get(first..first + ENTRIES).unwrap_or_default();
    (page, page_at(block, INFORMATION))
}

fn page_at(block: &Frame, page: usize) -> Hpa {
    Hpa::new(block.hpa().as_u64() + page as u64 * PAGE_SIZE)
}

fn put(block: &Frame, page: usize, word: usize, value: u64) {
    if let Some(cell) = block.cells().get(page * ENTRIES + word) {
        cell.store(value, Ordering::Relaxed);
    }
}

/// Fills the block: code, list of copies, tables.
fn prepare(block: &Frame, copies: &ArrayVec<Copy, SEGMENTS>) {
    let begin = &raw const __next_begin;
    let length = (&raw const __next_end).addr() - begin.addr();
    // SAFETY: the bytes between two labels of this kernel's read-only data.
    let code = unsafe { core::slice::from_raw_parts(begin, length) };
    for (word, bytes) in code.chunks(8).enumerate() {
        let mut padded = [0; 8];
        for (to, from) in padded.iter_mut().zip(bytes) {
            *to = *from;
        }
        put(block, 0, word, u64::from_le_bytes(padded));
    }
    for (index, copy) in copies.iter().enumerate() {
        let word = COPIES + index * COPY_WORDS;
        put(block, 0, word, copy.to.as_u64());
        put(block, 0, word + 1, copy.from.as_u64());
        put(block, 0, word + 2, copy.bytes);
        put(block, 0, word + 3, copy.zeroes);
    }
    let upper = (PageTableFlags::PRESENT | PageTableFlags::WRITABLE).bits();
    let leaf = upper | PageTableFlags::HUGE_PAGE.bits();
    put(block, ROOT, 0, page_at(block, MIDDLE).as_u64() | upper);
    for table in 0..4 {
        let lowest = page_at(block, LOWEST + table);
        put(block, MIDDLE, table, lowest.as_u64() | upper);
        for index in 0..ENTRIES {
            let page = (table * ENTRIES + index) as u64 * LARGE_PAGE;
            put(block, LOWEST + table, index, page | leaf);
        }
    }
    // The upper half as it is now: this code runs there.
    let now = Hpa::new(Cr3::read().0.start_address().as_u64());
    for entry in ENTRIES / 2..ENTRIES {
        let at = Hpa::new(now.as_u64() + entry as u64 * 8);
        if let Some(cell) = crate::memory::cell(at) {
            put(block, ROOT, entry, cell.load(Ordering::Relaxed));
        }
    }
}

/// Leaves this kernel for the next.
///
/// # Safety
/// The module's invariants; every copy's target is memory that nobody uses any more but this
/// kernel itself, and the start information is written.
pub(super) unsafe fn jump(
    block: &Frame,
    copies: &ArrayVec<Copy, SEGMENTS>,
    image: &NextImage<'_>,
) -> ! {
    interrupts::disable();
    prepare(block, copies);
    let (_, information) = information_page(block);
    let code = block.hpa().as_u64();
    // SAFETY: the new tables map what runs here, and the block, where the code goes on with a
    // stack of its own.
    unsafe {
        asm!(
            "mov cr3, {root}",
            "mov rsp, {stack}",
            "jmp {code}",
            root = in(reg) page_at(block, ROOT).as_u64(),
            stack = in(reg) code + PAGE_SIZE,
            code = in(reg) code,
            in("r8") code + COPIES as u64 * 8,
            in("r9") information.as_u64(),
            in("r10") u64::from(image.entry),
            options(noreturn)
        )
    }
}
