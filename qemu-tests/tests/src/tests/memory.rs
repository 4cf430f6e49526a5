//! The kernel's own memory: rights of its image, guard pages.

use crate::bench::Bench;
use crate::check::{Deviation, Outcome};
use crate::registry::boot_test;
use core::hint::black_box;

boot_test!(
    code_cannot_be_written,
    matrix = "once",
    exit = "exception",
    says = "page fault",
);
fn code_cannot_be_written(_: &mut Bench) -> Outcome {
    let code = code_cannot_be_written as *mut u8;
    // SAFETY: faults, or the test fails; nothing runs from there afterwards.
    unsafe { code.write_volatile(0xf4) };
    Err(Deviation::failed(format_args!("code was written")))
}

boot_test!(
    data_cannot_be_executed,
    matrix = "once",
    exit = "exception",
    says = "page fault",
);
fn data_cannot_be_executed(_: &mut Bench) -> Outcome {
    /// `ret`.
    static mut CODE: [u8; 1] = [0xc3];

    let code = &raw mut CODE;
    // SAFETY: faults, or returns at once.
    let function: extern "C" fn() = unsafe { core::mem::transmute(code) };
    function();
    Err(Deviation::failed(format_args!("data was executed")))
}

boot_test!(
    a_stack_overflow_meets_the_guard_page,
    matrix = "once",
    exit = "exception",
    says = "double fault",
);
fn a_stack_overflow_meets_the_guard_page(_: &mut Bench) -> Outcome {
    let depth = fall(0);
    Err(Deviation::failed(format_args!(
        "{depth} frames of 4 KiB fitted on the stack"
    )))
}

#[inline(never)]
fn fall(depth: u64) -> u64 {
    let frame = black_box([0u8; 4096]);
    if depth < 1 << 20 {
        fall(depth + 1) + u64::from(frame[0])
    } else {
        depth
    }
}
