//! Exceptions end the guest; interrupts are noted.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::registers::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::idt::{Entry, HandlerFunc};

const STUB_BYTES: u64 = 16;

#[repr(C, align(16))]
struct Table([Entry<HandlerFunc>; 256]);

static SEGMENTS: Once<GlobalDescriptorTable> = Once::new();
static TABLE: Once<Table> = Once::new();

/// Vectors that came and were not asked for yet.
static CAME: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Length of an instruction that may raise an exception; 0 if none may.
static EXPECTED: AtomicU64 = AtomicU64::new(0);
/// The exception that it raised.
static RAISED: AtomicU64 = AtomicU64::new(0);
/// Marks that there was one: 0 is a vector too.
const RAISED_ANY: u64 = 1 << 8;

/// Runs an instruction of so many bytes that may raise an exception, and says which it
/// raised. `run` contains no other instruction that can.
pub fn exception_of(bytes: u64, run: impl FnOnce()) -> Option<u8> {
    RAISED.store(0, Ordering::Relaxed);
    EXPECTED.store(bytes, Ordering::SeqCst);
    run();
    EXPECTED.store(0, Ordering::SeqCst);
    let raised = RAISED.load(Ordering::Relaxed);
    (raised & RAISED_ANY != 0).then_some(raised as u8)
}

/// Whether an interrupt of this vector came since the last time.
pub(crate) fn take(vector: u8) -> bool {
    let bit = 1 << (vector % 64);
    let word = CAME.get(usize::from(vector / 64));
    word.is_some_and(|word| word.fetch_and(!bit, Ordering::AcqRel) & bit != 0)
}

/// Loads segments and the interrupt table.
pub(crate) fn load() {
    let mut data = None;
    let segments = SEGMENTS.call_once(|| {
        let mut table = GlobalDescriptorTable::new();
        table.append(Descriptor::kernel_code_segment());
        data = Some(table.append(Descriptor::kernel_data_segment()));
        table
    });
    segments.load();
    // SAFETY: the first entry is flat 64-bit code, the second flat data.
    unsafe {
        CS::set_reg(x86_64::structures::gdt::SegmentSelector(8));
        if let Some(data) = data {
            SS::set_reg(data);
            DS::set_reg(data);
            ES::set_reg(data);
        }
    }
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
        // SAFETY: each stub saves what it changes and returns by `iretq`, or does not.
        unsafe {
            entry.set_handler_addr(first + vector * STUB_BYTES);
        }
    }
    table
}

/// 256 stubs, one each [`STUB_BYTES`]. Exceptions with an error code are 8, 10 to 14, 17, 21,
/// 29 and 30 (APM 2, 8.2).
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

/// What the stub and the CPU pushed, behind the registers saved here.
#[repr(C)]
struct Frame {
    saved: [u64; 9],
    vector: u64,
    error: u64,
    rip: u64,
}

#[unsafe(naked)]
extern "C" fn common() {
    naked_asm!(
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "cld",
        "mov rdi, rsp",
        // The CPU aligned the stack and pushed 5 words; error, vector and 9 registers make
        // 16: aligned again.
        "call {dispatch}",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "add rsp, 16",
        "iretq",
        dispatch = sym dispatch,
    )
}

extern "sysv64" fn dispatch(frame: &mut Frame) {
    if frame.vector < 32 {
        let skipped = EXPECTED.swap(0, Ordering::Relaxed);
        if skipped != 0 {
            RAISED.store(frame.vector | RAISED_ANY, Ordering::Relaxed);
            frame.rip = frame.rip.wrapping_add(skipped);
            return;
        }
        panic!(
            "exception {} at {:#x}, error {:#x}",
            frame.vector, frame.rip, frame.error
        );
    }
    if let Some(word) = CAME.get(frame.vector as usize / 64) {
        word.fetch_or(1 << (frame.vector % 64), Ordering::AcqRel);
    }
}
