//! The interrupt descriptor table, and the way from each of its 256 vectors to Rust.

use super::segments::{DOUBLE_FAULT_STACK, MACHINE_CHECK_STACK, NMI_STACK};
use super::{exceptions, stop, vectors};
use core::arch::naked_asm;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::idt::{Entry, HandlerFunc};

/// Vectors that belong to the CPU's exceptions.
const EXCEPTIONS: u8 = 32;
const NON_MASKABLE: u8 = 2;
/// Bytes from one stub to the next.
const STUB_BYTES: u64 = 16;

/// The state of what was interrupted, as the stub pushes it.
#[derive(Clone, Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the registers of their names")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    /// The CPU's error code; 0 for vectors that have none.
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

#[repr(C, align(16))]
struct Table([Entry<HandlerFunc>; 256]);

static TABLE: Once<Table> = Once::new();

/// Loads the table on this CPU.
pub(super) fn load() {
    let table = TABLE.call_once(build);
    let pointer = DescriptorTablePointer {
        limit: (size_of::<Table>() - 1) as u16,
        base: VirtAddr::from_ptr(table),
    };
    // SAFETY: the table is a static whose gates lead to the stubs below.
    unsafe { lidt(&pointer) };
}

fn build() -> Table {
    let mut table = Table([const { Entry::missing() }; 256]);
    let first = VirtAddr::from_ptr(stubs as *const ());
    for (vector, entry) in (0u64..).zip(&mut table.0) {
        // SAFETY: each stub saves all registers and returns by `iretq`; the stack indices
        // are those that the TSS has.
        unsafe {
            let options = entry.set_handler_addr(first + vector * STUB_BYTES);
            if let Some(stack) = own_stack(vector as u8) {
                options.set_stack_index(stack);
            }
        }
    }
    table
}

/// Exceptions that may come when the stack cannot be trusted.
fn own_stack(vector: u8) -> Option<u16> {
    match vector {
        2 => Some(NMI_STACK),
        8 => Some(DOUBLE_FAULT_STACK),
        18 => Some(MACHINE_CHECK_STACK),
        _ => None,
    }
}

/// 256 stubs, one each [`STUB_BYTES`]: push a 0 where the CPU pushes no error code, push
/// the vector, go on together.
///
/// The vectors with an error code are 8, 10 to 14, 17, 21, 29 and 30 (SDM 3A, 6.15; APM 2,
/// 8.2).
#[unsafe(naked)]
extern "C" fn stubs() {
    naked_asm!(
        ".set vector, 0",
        ".rept 256",
        ".balign {bytes}",
        ".if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)",
        ".else",
        "push 0",
        ".endif",
        "push vector",
        "jmp {common}",
        ".set vector, vector + 1",
        ".endr",
        bytes = const STUB_BYTES,
        common = sym common,
    )
}

#[unsafe(naked)]
extern "C" fn common() {
    naked_asm!(
        "push rax",
        "push rbx",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push rbp",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "cld",
        "mov rdi, rsp",
        // The CPU aligned the stack and pushed 5 words; error, vector and 15 registers make
        // 22: aligned again.
        "call {dispatch}",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rbp",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rbx",
        "pop rax",
        "add rsp, 16",
        "iretq",
        dispatch = sym dispatch,
    )
}

extern "C" fn dispatch(frame: &mut TrapFrame) {
    let vector = frame.vector as u8;
    if vector == NON_MASKABLE && stop::must_stand_still() {
        stop::interrupted();
    } else if vector < EXCEPTIONS {
        exceptions::handle(vector, frame);
    } else {
        vectors::handle(vector);
    }
}
