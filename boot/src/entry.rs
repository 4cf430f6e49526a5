//! The first instructions: from the loader's 32-bit state to Rust in long mode.
//!
//! Nothing is assumed of the loader's CR0, CR4, EFER, descriptor tables or stack: under
//! UEFI, GRUB leaves PAE and others set. What the two protocols have in common: protected
//! mode, flat segments, interrupts off, the information's address in EBX.
//!
//! Invariants that the `unsafe` here rests on:
//! 1. One CPU runs this, once, before any Rust code, so it alone writes the early tables and
//!    uses the stack. Other CPUs start in the same tables later, and leave them as they are.
//! 2. The image lies within the first GiB of physical memory, `KERNEL_OFFSET` below its
//!    virtual addresses (`linker.ld`).

use crate::Stack;
use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::size_of;
use multiboot2_header::{
    EndHeaderTag, HeaderTagFlag, HeaderTagISA, ModuleAlignHeaderTag, Multiboot2BasicHeader,
};

/// Bytes of the stack on which the program starts.
const STACK_BYTES: usize = 128 << 10;

/// The stack on which the program starts.
pub static STACK: Stack<STACK_BYTES> = Stack::new();

/// A page table of the early address space.
#[repr(C, align(4096))]
pub(crate) struct EarlyTable<const ENTRIES: usize>(UnsafeCell<[u64; ENTRIES]>);

// SAFETY: invariant 1.
unsafe impl<const ENTRIES: usize> Sync for EarlyTable<ENTRIES> {}

impl<const ENTRIES: usize> EarlyTable<ENTRIES> {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; ENTRIES]))
    }
}

pub(crate) static PML4: EarlyTable<512> = EarlyTable::new();
/// For addresses 0 and the direct map: the first 4 GiB.
static PDPT_LOW: EarlyTable<512> = EarlyTable::new();
/// For the kernel's image: the first GiB.
static PDPT_HIGH: EarlyTable<512> = EarlyTable::new();
/// Four page directories with 2 MiB pages.
static PAGE_DIRECTORIES: EarlyTable<2048> = EarlyTable::new();

#[repr(C, align(8))]
struct Multiboot2 {
    magic: u32,
    architecture: u32,
    length: u32,
    checksum: u32,
    // Modules must begin on a page, so that their pages hold nothing else.
    module_alignment: ModuleAlignHeaderTag,
    end: EndHeaderTag,
}

const _: () = assert!(size_of::<Multiboot2>() == 32);

#[used]
#[unsafe(link_section = ".boot.multiboot2")]
static MULTIBOOT2: Multiboot2 = {
    let architecture = HeaderTagISA::I386;
    let length = size_of::<Multiboot2>() as u32;
    Multiboot2 {
        magic: multiboot2_header::MAGIC,
        architecture: architecture.val(),
        length,
        checksum: Multiboot2BasicHeader::calc_checksum(
            multiboot2_header::MAGIC,
            architecture,
            length,
        ),
        module_alignment: ModuleAlignHeaderTag::new(HeaderTagFlag::Required),
        end: EndHeaderTag::new(),
    }
};

pvh::xen_elfnote_phys32_entry!(__boot_pvh);

/// PVH's entry point: EBX holds the address of the start information.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".boot.text")]
unsafe extern "C" fn __boot_pvh() -> ! {
    naked_asm!(
        ".code32",
        "movl ${magic}, %eax",
        "jmp {start}",
        ".code64",
        magic = const pvh::start_info::START_MAGIC_VALUE,
        start = sym start32,
        options(att_syntax)
    )
}

/// Multiboot2's entry point, which is the ELF file's: EAX holds the protocol's magic
/// number, EBX the address of the information.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".boot.text")]
unsafe extern "C" fn __boot_multiboot2() -> ! {
    naked_asm!(
        ".code32",
        "jmp {start}",
        ".code64",
        start = sym start32,
        options(att_syntax)
    )
}

/// EAX: which protocol; EBX: the loader's information.
#[unsafe(naked)]
#[unsafe(link_section = ".boot.text")]
unsafe extern "C" fn start32() -> ! {
    naked_asm!(
        ".code32",
        "cli",
        "cld",
        "movl %eax, %edi",
        "movl %ebx, %esi",
        // Paging off, whatever the loader left.
        "movl %cr0, %eax",
        "andl $0x7fffffff, %eax",
        "movl %eax, %cr0",
        // Long mode and NX (CPUID 8000_0001h, EDX bits 29 and 20).
        "movl $0x80000000, %eax",
        "cpuid",
        "cmpl $0x80000001, %eax",
        "jb 9f",
        "movl $0x80000001, %eax",
        "cpuid",
        "andl $0x20100000, %edx",
        "cmpl $0x20100000, %edx",
        "jne 9f",
        // Page directories: 2048 pages of 2 MiB (0x83: present, writable, large).
        "movl $({page_directories} + {to_physical}), %ebx",
        "xorl %ecx, %ecx",
        "2:",
        "movl %ecx, %eax",
        "shll $21, %eax",
        "orl $0x83, %eax",
        "movl %eax, (%ebx, %ecx, 8)",
        "incl %ecx",
        "cmpl $2048, %ecx",
        "jb 2b",
        "movl $({pdpt_low} + {to_physical}), %ecx",
        "leal 0x0003(%ebx), %eax",
        "movl %eax, 0(%ecx)",
        "leal 0x1003(%ebx), %eax",
        "movl %eax, 8(%ecx)",
        "leal 0x2003(%ebx), %eax",
        "movl %eax, 16(%ecx)",
        "leal 0x3003(%ebx), %eax",
        "movl %eax, 24(%ecx)",
        "movl $({pdpt_high} + {to_physical}), %edx",
        "leal 0x0003(%ebx), %eax",
        "movl %eax, 510*8(%edx)",
        "movl $({pml4} + {to_physical}), %ebx",
        "orl $3, %ecx",
        "orl $3, %edx",
        "movl %ecx, 0(%ebx)",
        "movl %ecx, 256*8(%ebx)",
        "movl %edx, 511*8(%ebx)",
        "movl %ebx, %cr3",
        // CR4: PAE and nothing else. What the kernel wants more, it sets itself.
        "movl $0x20, %eax",
        "movl %eax, %cr4",
        // EFER: LME and NXE.
        "movl $0xc0000080, %ecx",
        "rdmsr",
        "orl $0x900, %eax",
        "wrmsr",
        // CR0: PG, WP, NE, ET, MP, PE; caches on.
        "movl $0x80010033, %eax",
        "movl %eax, %cr0",
        "lgdt 7f",
        "ljmp $8, $6f",
        // Too old a CPU. There is no log yet; QEMU's debug console and exit device (status
        // `panic`) at least tell a developer.
        "9:",
        "movl $8f, %esi",
        "3:",
        "lodsb",
        "testb %al, %al",
        "jz 4f",
        "outb %al, $0xe9",
        "jmp 3b",
        "4:",
        "movl $0x12, %eax",
        "outl %eax, $0xf4",
        "5:",
        "hlt",
        "jmp 5b",
        "8:",
        ".asciz \"boot: the CPU has no long mode or no NX; the kernel needs both\\n\"",
        ".balign 8",
        // Null, 64-bit code, data.
        "1:",
        ".quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
        "7:",
        ".word 3 * 8 - 1",
        ".long 1b",
        ".code64",
        "6:",
        "movw $16, %ax",
        "movw %ax, %ds",
        "movw %ax, %es",
        "movw %ax, %ss",
        "xorl %eax, %eax",
        "movw %ax, %fs",
        "movw %ax, %gs",
        "movabsq $({stack} + {stack_top}), %rsp",
        "xorl %ebp, %ebp",
        "movabsq $__boot_main, %rax",
        "call *%rax",
        "ud2",
        page_directories = sym PAGE_DIRECTORIES,
        pdpt_low = sym PDPT_LOW,
        pdpt_high = sym PDPT_HIGH,
        pml4 = sym PML4,
        stack = sym STACK,
        stack_top = const Stack::<STACK_BYTES>::TOP,
        // -KERNEL_OFFSET, modulo 2^64.
        to_physical = const crate::layout::KERNEL_OFFSET.wrapping_neg(),
        options(att_syntax)
    )
}
