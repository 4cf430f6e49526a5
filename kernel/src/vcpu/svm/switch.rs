//! The way into a guest and out again.
//!
//! Invariants that the `unsafe` here rests on:
//! 1. SVM is on and the CPU's host save area is set.
//! 2. VMRUN saves and restores what the host needs but for what VMLOAD and VMSAVE carry
//!    (FS, GS, TR, LDTR, SYSCALL's registers) and the general-purpose registers; this
//!    module does the rest. The kernel uses no floating-point or vector registers, so a
//!    guest's stay where they are.
//! 3. From CLGI to STGI nothing interrupts, not even an NMI: in between, GS is the guest's.

use core::arch::naked_asm;
use core::mem::offset_of;
use iommu_core::Hpa;

/// A guest's general-purpose registers, but RAX and RSP, which are in the VMCB.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub(super) struct GuestRegisters {
    pub(super) rbx: u64,
    pub(super) rcx: u64,
    pub(super) rdx: u64,
    pub(super) rsi: u64,
    pub(super) rdi: u64,
    pub(super) rbp: u64,
    pub(super) r8: u64,
    pub(super) r9: u64,
    pub(super) r10: u64,
    pub(super) r11: u64,
    pub(super) r12: u64,
    pub(super) r13: u64,
    pub(super) r14: u64,
    pub(super) r15: u64,
}

/// Runs the guest until it exits. What interrupted it has been handled on return, if
/// interrupts were on.
///
/// # Safety
/// Both addresses are those of VMCBs: `guest` of one that is prepared and whose nested
/// tables lead to the guest's memory alone, `host` of one to keep the host's state in.
pub(super) unsafe fn run(guest: Hpa, host: Hpa, registers: &mut GuestRegisters) {
    // SAFETY: the module's invariants and the caller's promise.
    unsafe { enter(guest.as_u64(), host.as_u64(), registers) }
}

/// RDI: the guest's VMCB; RSI: the host's; RDX: registers.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter(guest: u64, host: u64, registers: *mut GuestRegisters) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "pushfq",
        "push rdx",
        "push rsi",
        "push rdi",
        // Physical interrupts are masked by the host's interrupt flag while the guest runs,
        // so it must be on; none comes before VMRUN, for the global flag is off.
        "clgi",
        "sti",
        "mov rax, rsi",
        "vmsave rax",
        "mov rax, rdi",
        "vmload rax",
        "mov rbx, [rdx + {rbx}]",
        "mov rcx, [rdx + {rcx}]",
        "mov rsi, [rdx + {rsi}]",
        "mov rdi, [rdx + {rdi}]",
        "mov rbp, [rdx + {rbp}]",
        "mov r8, [rdx + {r8}]",
        "mov r9, [rdx + {r9}]",
        "mov r10, [rdx + {r10}]",
        "mov r11, [rdx + {r11}]",
        "mov r12, [rdx + {r12}]",
        "mov r13, [rdx + {r13}]",
        "mov r14, [rdx + {r14}]",
        "mov r15, [rdx + {r15}]",
        "mov rdx, [rdx + {rdx}]",
        "vmrun rax",
        // RAX and RSP are the host's again.
        "vmsave rax",
        "mov rax, [rsp + 16]",
        "mov [rax + {rbx}], rbx",
        "mov [rax + {rcx}], rcx",
        "mov [rax + {rdx}], rdx",
        "mov [rax + {rsi}], rsi",
        "mov [rax + {rdi}], rdi",
        "mov [rax + {rbp}], rbp",
        "mov [rax + {r8}], r8",
        "mov [rax + {r9}], r9",
        "mov [rax + {r10}], r10",
        "mov [rax + {r11}], r11",
        "mov [rax + {r12}], r12",
        "mov [rax + {r13}], r13",
        "mov [rax + {r14}], r14",
        "mov [rax + {r15}], r15",
        "mov rax, [rsp + 8]",
        "vmload rax",
        // No pointer of the guest's stays in a register that the compiler thinks dead.
        "xor ecx, ecx",
        "xor edx, edx",
        "xor esi, esi",
        "xor edi, edi",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "xor r10d, r10d",
        "xor r11d, r11d",
        "stgi",
        "add rsp, 24",
        "popfq",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "cld",
        "ret",
        rbx = const offset_of!(GuestRegisters, rbx),
        rcx = const offset_of!(GuestRegisters, rcx),
        rdx = const offset_of!(GuestRegisters, rdx),
        rsi = const offset_of!(GuestRegisters, rsi),
        rdi = const offset_of!(GuestRegisters, rdi),
        rbp = const offset_of!(GuestRegisters, rbp),
        r8 = const offset_of!(GuestRegisters, r8),
        r9 = const offset_of!(GuestRegisters, r9),
        r10 = const offset_of!(GuestRegisters, r10),
        r11 = const offset_of!(GuestRegisters, r11),
        r12 = const offset_of!(GuestRegisters, r12),
        r13 = const offset_of!(GuestRegisters, r13),
        r14 = const offset_of!(GuestRegisters, r14),
        r15 = const offset_of!(GuestRegisters, r15),
    )
}
