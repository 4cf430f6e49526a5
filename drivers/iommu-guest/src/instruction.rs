//! The two instructions that leave a guest on purpose.
//!
//! # Invariant that `unsafe` rests on
//! The hypervisor changes no register but `rax` and no memory but what the argument names,
//! and this library makes arguments that name nothing but the argument memory.

use crate::{ArgumentMemory, Hypercall};
use core::arch::asm;
use iommu_abi::Op;

/// `VMMCALL`: guests on AMD's SVM.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vmmcall;

/// `VMCALL`: guests on Intel's VMX.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vmcall;

macro_rules! by_instruction {
    ($name:ident, $instruction:literal) => {
        impl Hypercall for $name {
            fn call(&self, operation: Op, memory: &mut ArgumentMemory<'_>) -> i64 {
                let address = memory.address().as_u64();
                let result: i64;
                // SAFETY: see the module. The pointer is an operand so that the compiler
                // knows that the memory may change; the hypervisor does not look at it.
                unsafe {
                    asm!(
                        $instruction,
                        inlateout("rax") u64::from(operation.as_u32()) => result,
                        in("rdi") address,
                        in("rsi") memory.bytes_mut().as_mut_ptr(),
                        options(nostack),
                    );
                }
                result
            }
        }
    };
}
by_instruction!(Vmmcall, "vmmcall");
by_instruction!(Vmcall, "vmcall");
