//! The kernel as the drivers see it: [`iommu_core::Platform`].
//!
//! Invariant that the `unsafe` here rests on: a [`Frame`]'s cells are its own, mapped and
//! aligned to 16 bytes and more, for as long as it exists.

use crate::cpu::{self, interrupts, ranks};
use crate::{memory, time};
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use iommu_core::sync::Rank;
use iommu_core::{Coherence, Frame, Hpa, Nanoseconds, Order, OutOfFrames, Platform};

/// The platform that the kernel is. There is one; the value holds nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KernelPlatform;

/// In the state that `enter` returns: interrupts were on.
const INTERRUPTS_WERE_ON: u64 = 1 << 8;
/// In the state that `enter` returns: the rank before.
const RANK_BEFORE: u64 = 0xff;

impl Platform for KernelPlatform {
    fn allocate(&self, order: Order) -> Result<Frame, OutOfFrames> {
        memory::allocate(order)
    }

    fn release(&self, frame: Frame) {
        memory::release(frame);
    }

    unsafe fn adopt(&self, hpa: Hpa, order: Order) -> Frame {
        // SAFETY: the caller's promise is the same.
        unsafe { memory::adopt(hpa, order) }
    }

    fn publish64(&self, frame: &Frame, index: usize, value: u64, coherence: Coherence) {
        if let Some(cell) = frame.cells().get(index) {
            // Everything before this store is visible before it: x86 keeps the order of
            // stores, and `Release` keeps the compiler from changing it.
            cell.store(value, Ordering::Release);
        }
        if coherence == Coherence::WriteBack {
            self.write_back(frame, index..index.saturating_add(1));
        }
    }

    fn publish128(&self, frame: &Frame, index: usize, value: [u64; 2], coherence: Coherence) {
        let end = index.saturating_add(2);
        if let Some([low, _]) = frame.cells().get(index..end)
            && index.is_multiple_of(2)
        {
            // SAFETY: the two cells are neighbours, and the first is aligned to 16 bytes,
            // being an even one of a page.
            unsafe { store128(low, value) };
        }
        if coherence == Coherence::WriteBack {
            self.write_back(frame, index..end);
        }
    }

    fn write_back(&self, frame: &Frame, cells: Range<usize>) {
        let Some(cells) = frame.cells().get(cells) else {
            return;
        };
        let features = cpu::features();
        let line = features.cache_line;
        let bytes = cells.as_ptr_range();
        let mut address = bytes.start.addr() & !(line - 1);
        while address < bytes.end.addr() {
            // SAFETY: a line of the frame's own memory; its content does not change.
            unsafe {
                if features.clflushopt {
                    asm!("clflushopt [{}]", in(reg) address, options(nostack, preserves_flags));
                } else if features.clflush {
                    asm!("clflush [{}]", in(reg) address, options(nostack, preserves_flags));
                }
            }
            address += line;
        }
        // `clflushopt` is ordered by fences alone.
        self.fence();
    }

    fn peek(&self, at: Hpa) -> Option<u64> {
        let cell = memory::cell(at)?;
        Some(cell.load(Ordering::Acquire))
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }

    fn now(&self) -> Nanoseconds {
        time::now()
    }

    fn relax(&self) {
        core::hint::spin_loop();
    }

    fn enter(&self, rank: Rank) -> u64 {
        let saved = interrupts::disable();
        let before = ranks::raise(rank as u8);
        debug_assert!(
            before < rank as u8,
            "a lock of rank {rank:?} is taken under one of rank {before}"
        );
        let were_on = if saved.were_on() {
            INTERRUPTS_WERE_ON
        } else {
            0
        };
        were_on | u64::from(before)
    }

    fn leave(&self, _rank: Rank, state: u64) {
        ranks::lower((state & RANK_BEFORE) as u8);
        interrupts::restore(if state & INTERRUPTS_WERE_ON != 0 {
            interrupts::Saved::ON
        } else {
            interrupts::Saved::OFF
        });
    }
}

/// Stores two neighbouring cells at once.
///
/// # Safety
/// `low` is the first of two cells, aligned to 16 bytes.
unsafe fn store128(low: &AtomicU64, [new_low, new_high]: [u64; 2]) {
    let address = low.as_ptr();
    // SAFETY: the caller's promise. The exchange succeeds once nobody else stored between
    // its read and its write; hardware that sets accessed bits does so a bounded number of
    // times. RBX cannot be named as an operand, so it is swapped in and out; the others are
    // named, because the compiler could choose RBX for one that is not.
    unsafe {
        asm!(
            "xchg rsi, rbx",
            "mov rax, [rdi]",
            "mov rdx, [rdi + 8]",
            "2:",
            "lock cmpxchg16b [rdi]",
            "jnz 2b",
            "mov rbx, rsi",
            in("rdi") address,
            inout("rsi") new_low => _,
            in("rcx") new_high,
            out("rax") _,
            out("rdx") _,
            options(nostack)
        );
    }
}
