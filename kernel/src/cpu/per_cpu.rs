//! What each CPU has for itself, found through the GS base.
//!
//! Invariants that the `unsafe` here rests on:
//! 1. From [`start`] on, a CPU's GS base points to its own [`Area`], which is a static.
//!    Whoever runs a guest restores it before anything else.
//! 2. Before [`start`] there is one CPU, GS base is 0 or what the loader left, and nobody
//!    calls [`index`] or [`ranks`].

use super::segments;
use boot::Stack;
use core::sync::atomic::{AtomicU8, Ordering};
use iommu_core::PAGE_SIZE;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;

/// CPUs that the kernel can use.
pub const MAX_CPUS: usize = 1;

/// Bytes of each stack for NMI, double fault and machine check.
const EXCEPTION_STACK_BYTES: usize = 16 << 10;

/// Exceptions with a stack of their own.
pub(super) const EXCEPTION_STACKS: usize = 3;

/// One CPU's own.
#[repr(C)]
pub(super) struct Area {
    /// First, so that `gs:0` reads it.
    index: u32,
    /// Rank of the highest lock that the CPU holds.
    rank: AtomicU8,
    pub(super) segments: segments::Cell,
}

static AREAS: [Area; MAX_CPUS] = [const {
    Area {
        index: 0,
        rank: AtomicU8::new(0),
        segments: segments::Cell::new(),
    }
}; MAX_CPUS];

static EXCEPTION: [[Stack<EXCEPTION_STACK_BYTES>; EXCEPTION_STACKS]; MAX_CPUS] =
    [const { [const { Stack::new() }; EXCEPTION_STACKS] }; MAX_CPUS];

/// Points the boot CPU's GS base to its area.
pub(super) fn start() {
    let area: *const Area = &AREAS[0];
    GsBase::write(VirtAddr::from_ptr(area));
}

/// This CPU's number, from 0.
pub fn index() -> u32 {
    let index: u32;
    // SAFETY: invariant 1: the first field of the area.
    unsafe {
        core::arch::asm!(
            "mov {0:e}, gs:[0]",
            out(reg) index,
            options(nostack, preserves_flags, readonly)
        );
    }
    index
}

pub(super) fn area() -> &'static Area {
    &AREAS[index() as usize]
}

/// The stacks for exceptions of this CPU.
pub(super) fn exception_stacks() -> &'static [Stack<EXCEPTION_STACK_BYTES>; EXCEPTION_STACKS] {
    &EXCEPTION[index() as usize]
}

/// Whether `address` lies in a page below a stack. These pages shall not be mapped.
pub(crate) fn is_stack_guard(address: u64) -> bool {
    let exception = EXCEPTION.iter().flatten().map(Stack::guard);
    core::iter::once(boot::STACK.guard())
        .chain(exception)
        .any(|guard| (guard..guard + PAGE_SIZE).contains(&address))
}

/// The bounds of the stack that holds `address`, if it is one of ours.
pub(crate) fn stack_of(address: u64) -> Option<(u64, u64)> {
    let exception = EXCEPTION
        .iter()
        .flatten()
        .map(|stack| (stack.bottom(), stack.top()));
    core::iter::once((boot::STACK.bottom(), boot::STACK.top()))
        .chain(exception)
        .find(|&(bottom, top)| (bottom..top).contains(&address))
}

/// The lock ranks that this CPU holds.
pub(crate) mod ranks {
    use super::{Ordering, area};

    /// Notes that a lock of `rank` is taken; returns the highest rank held before.
    pub(crate) fn raise(rank: u8) -> u8 {
        area().rank.swap(rank, Ordering::Relaxed)
    }

    /// Notes that the highest rank held is `rank` again.
    pub(crate) fn lower(rank: u8) {
        area().rank.store(rank, Ordering::Relaxed);
    }
}
