//! What each CPU has for itself, found through the GS base.
//!
//! Invariants that the `unsafe` here rests on:
//! 1. From [`start`] on, a CPU's GS base points to its own [`Area`], which is a static.
//!    Whoever runs a guest restores it before anything else.
//! 2. Before [`start`] a CPU's GS base is 0 or what the loader left, and it calls neither
//!    [`index`] nor [`ranks`].
//! 3. No two CPUs start with one number.

use super::segments;
use boot::Stack;
use core::sync::atomic::{AtomicU8, Ordering};
use iommu_core::PAGE_SIZE;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;

/// CPUs that the kernel can use. Further ones are left as the firmware left them.
pub const MAX_CPUS: usize = 8;

/// Bytes of the stack of each CPU but the first, which has the loader's.
const STACK_BYTES: usize = 128 << 10;

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

static AREAS: [Area; MAX_CPUS] = {
    let mut areas = [const { Area::new() }; MAX_CPUS];
    let mut index = 0;
    while index < MAX_CPUS {
        areas[index].index = index as u32;
        index += 1;
    }
    areas
};

impl Area {
    const fn new() -> Self {
        Self {
            index: 0,
            rank: AtomicU8::new(0),
            segments: segments::Cell::new(),
        }
    }
}

/// The stacks of all CPUs but the first.
static STACKS: [Stack<STACK_BYTES>; MAX_CPUS - 1] = [const { Stack::new() }; MAX_CPUS - 1];

static EXCEPTION: [[Stack<EXCEPTION_STACK_BYTES>; EXCEPTION_STACKS]; MAX_CPUS] =
    [const { [const { Stack::new() }; EXCEPTION_STACKS] }; MAX_CPUS];

/// Points this CPU's GS base to the area of this number.
///
/// # Safety
/// No other CPU has the number (invariant 3).
pub(super) unsafe fn start(index: usize) {
    let area: *const Area = &AREAS[index];
    GsBase::write(VirtAddr::from_ptr(area));
}

/// The top of the stack of a CPU that is not the first.
pub(super) fn stack_top(index: usize) -> Option<u64> {
    STACKS.get(index.checked_sub(1)?).map(Stack::top)
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
        .chain(STACKS.iter().map(Stack::guard))
        .chain(exception)
        .any(|guard| (guard..guard + PAGE_SIZE).contains(&address))
}

/// The bounds of the stack that holds `address`, if it is one of ours.
pub(crate) fn stack_of(address: u64) -> Option<(u64, u64)> {
    let exception = EXCEPTION
        .iter()
        .flatten()
        .map(|stack| (stack.bottom(), stack.top()));
    let others = STACKS.iter().map(|stack| (stack.bottom(), stack.top()));
    core::iter::once((boot::STACK.bottom(), boot::STACK.top()))
        .chain(others)
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
