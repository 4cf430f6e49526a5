//! CPU exceptions: none is expected, so each ends the kernel with what a person needs to
//! find the cause.

use super::TrapFrame;
use crate::cpu;
use crate::exit::{self, ExitStatus};
use crate::panic::backtrace;
use x86_64::registers::control::Cr2;

const DOUBLE_FAULT: u8 = 8;
const PAGE_FAULT: u8 = 14;

/// Names by vector (SDM 3A, 6.15; APM 2, 8.2).
const NAMES: [&str; 32] = [
    "divide error",
    "debug exception",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection fault",
    "page fault",
    "reserved vector 15",
    "x87 floating-point error",
    "alignment check",
    "machine check",
    "SIMD floating-point exception",
    "virtualization exception",
    "control protection exception",
    "reserved vector 22",
    "reserved vector 23",
    "reserved vector 24",
    "reserved vector 25",
    "reserved vector 26",
    "reserved vector 27",
    "hypervisor injection exception",
    "VMM communication exception",
    "security exception",
    "reserved vector 31",
];

pub(super) fn handle(vector: u8, frame: &TrapFrame) -> ! {
    let Some(stopped) = cpu::stop_the_others() else {
        exit::leave(ExitStatus::Exception);
    };
    let name = NAMES
        .get(usize::from(vector))
        .copied()
        .unwrap_or("exception");
    let trace = backtrace::from(frame.rbp);
    let (rip, rsp, error) = (frame.rip, frame.rsp, frame.error);
    let address = Cr2::read_raw();
    let cause = match vector {
        // The CPU cannot push a page fault's frame onto a stack that ended.
        DOUBLE_FAULT if cpu::is_stack_guard(address) => " (stack overflow)",
        _ => "",
    };
    // CR2 says something about these two only.
    if vector == PAGE_FAULT || vector == DOUBLE_FAULT {
        exit::exit(
            ExitStatus::Exception,
            format_args!(
                "{name}{cause} at {rip:#x}, address {address:#x}, error {error:#x}, rsp {rsp:#x}{stopped}; backtrace {trace}"
            ),
        );
    }
    exit::exit(
        ExitStatus::Exception,
        format_args!(
            "{name} at {rip:#x}, error {error:#x}, rsp {rsp:#x}{stopped}; backtrace {trace}"
        ),
    )
}
