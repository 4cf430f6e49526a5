//! Tests of the runner itself: does it see what it must see? Each provokes what a broken
//! kernel would do.

use crate::bench::Bench;
use crate::check::{Deviation, Outcome};
use crate::registry::boot_test;
use core::hint::spin_loop;

boot_test!(
    a_panic_is_an_exit_status,
    matrix = "once",
    exit = "panic",
    says = "this panic is what the test is about",
);
fn a_panic_is_an_exit_status(_: &mut Bench) -> Outcome {
    panic!("this panic is what the test is about")
}

boot_test!(
    a_hang_is_a_failure_with_the_last_log_lines,
    matrix = "once",
    seconds = "2",
    fails = "no end within 2 s",
);
fn a_hang_is_a_failure_with_the_last_log_lines(_: &mut Bench) -> Outcome {
    defmt::info!("hanging on purpose");
    loop {
        spin_loop();
    }
}

boot_test!(
    a_test_that_fails_is_a_failure,
    matrix = "once",
    fails = "said to fail",
);
fn a_test_that_fails_is_a_failure(_: &mut Bench) -> Outcome {
    Err(Deviation::failed(format_args!("said to fail")))
}

boot_test!(
    a_triple_fault_is_a_failure,
    matrix = "once",
    fails = "triple fault",
);
fn a_triple_fault_is_a_failure(_: &mut Bench) -> Outcome {
    use x86_64::VirtAddr;
    use x86_64::instructions::{interrupts, tables};
    use x86_64::structures::DescriptorTablePointer;

    let empty = DescriptorTablePointer {
        limit: 0,
        base: VirtAddr::zero(),
    };
    interrupts::disable();
    // SAFETY: ends the machine, which is what is wanted: without a table the breakpoint
    // becomes a double fault, and that a triple fault.
    unsafe { tables::lidt(&empty) };
    interrupts::int3();
    Err(Deviation::failed(format_args!("the machine survived")))
}
