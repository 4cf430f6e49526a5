//! Calling the hypervisor.

use core::arch::asm;
use guest_machine::Outcome;
use hypervisor_abi::{Argument, Finish};

/// Makes a call: operation in RAX, address of the argument in RDI, result in RAX.
pub(crate) fn call(operation: u64, argument: u64) -> i64 {
    let result: i64;
    // SAFETY: the hypervisor preserves all other registers; what it writes is the argument
    // and what that points to, which the caller names on purpose.
    unsafe {
        asm!(
            "vmmcall",
            inlateout("rax") operation => result,
            in("rdi") argument,
            options(nostack)
        );
    }
    result
}

/// Makes a call with an argument that lies here: memory is mapped one to one.
pub(crate) fn call_with<A: Argument>(argument: &A) -> i64 {
    let address: *const A = argument;
    call(A::OP as u64, address.expose_provenance() as u64)
}

pub(crate) fn finish(outcome: Outcome) {
    call_with(&Finish {
        outcome: outcome as u32,
        ..Finish::new()
    });
}
