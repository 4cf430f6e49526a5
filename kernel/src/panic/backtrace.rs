//! Return addresses, by the chain of frame pointers (`docs/boot.md` tells how to turn them
//! into functions and lines).
//!
//! The chain is followed only upwards and only within one stack, so that a broken one ends
//! the walk and not the kernel.

use crate::cpu;
use arrayvec::ArrayVec;
use core::fmt;

const DEPTH: usize = 24;

/// Return addresses, the innermost first.
pub(crate) struct Backtrace(ArrayVec<u64, DEPTH>);

impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for address in &self.0 {
            write!(f, "{address:#x} ")?;
        }
        Ok(())
    }
}

/// The backtrace of the caller.
#[inline(always)]
pub(crate) fn here() -> Backtrace {
    let frame: u64;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags));
    }
    from(frame)
}

/// The backtrace from a frame pointer on.
pub(crate) fn from(mut frame: u64) -> Backtrace {
    let mut trace = Backtrace(ArrayVec::new());
    let Some((_, top)) = cpu::stack_of(frame) else {
        return trace;
    };
    while frame.is_multiple_of(8) && frame.saturating_add(16) <= top {
        // SAFETY: both words lie within one of our stacks, which are mapped.
        let [caller, address] =
            unsafe { *core::ptr::with_exposed_provenance::<[u64; 2]>(frame as usize) };
        if address == 0 || trace.0.try_push(address).is_err() || caller <= frame {
            break;
        }
        frame = caller;
    }
    trace
}
