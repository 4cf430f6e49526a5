//! The kernel as a platform: memory, stores that hardware may see, time, interrupts.

use crate::Frames;
use core::arch::asm;
use core::arch::x86_64::{__cpuid, _mm_clflush, _mm_mfence, _rdtsc};
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use iommu_core::sync::Rank;
use iommu_core::{Coherence, Frame, Hpa, Nanoseconds, Observer, Order, OutOfFrames, Platform};
use vtd::Event;

/// What the driver needs of the kernel.
pub struct Kernel {
    frames: Frames,
    /// Ticks of the time-stamp counter in a microsecond.
    ticks: u64,
    /// Things that a person should look at.
    pub troubles: AtomicU32,
}

impl Kernel {
    /// A kernel with this memory for tables, on a CPU whose time-stamp counter has so many
    /// ticks in a microsecond. `None` if the CPU cannot store 128 bits at once, as every one
    /// beside a VT-d unit can.
    pub fn new(frames: Frames, ticks: u64) -> Option<Self> {
        const CMPXCHG16B: u32 = 1 << 13;
        (__cpuid(1).ecx & CMPXCHG16B != 0).then_some(Self {
            frames,
            ticks: ticks.max(1),
            troubles: AtomicU32::new(0),
        })
    }

    /// The kernel's memory.
    pub fn frames(&self) -> &Frames {
        &self.frames
    }
}

impl Platform for Kernel {
    fn allocate(&self, order: Order) -> Result<Frame, OutOfFrames> {
        let frame = self.frames.take(order).ok_or(OutOfFrames { order })?;
        self.write_back(&frame, 0..frame.cells().len());
        Ok(frame)
    }

    fn release(&self, frame: Frame) {
        self.frames.give_back(frame);
    }

    unsafe fn adopt(&self, hpa: Hpa, order: Order) -> Frame {
        self.frames.again(hpa, order)
    }

    fn publish64(&self, frame: &Frame, index: usize, value: u64, coherence: Coherence) {
        if let Some(cell) = frame.cells().get(index) {
            cell.store(value, Ordering::Release);
            if coherence == Coherence::WriteBack {
                self.write_back(frame, index..index + 1);
            }
        }
    }

    fn publish128(&self, frame: &Frame, index: usize, value: [u64; 2], coherence: Coherence) {
        let Some([low, _]) = frame.cells().get(index..index + 2) else {
            return;
        };
        // SAFETY: 16 bytes, aligned because the index is even; the CPU has the instruction, as
        // `new` has checked.
        unsafe { store128(low.as_ptr(), value) };
        if coherence == Coherence::WriteBack {
            self.write_back(frame, index..index + 2);
        }
    }

    fn write_back(&self, frame: &Frame, cells: Range<usize>) {
        for cell in frame.cells().get(cells).into_iter().flatten().step_by(8) {
            // SAFETY: a line of the kernel's memory.
            unsafe { _mm_clflush(core::ptr::from_ref(cell).cast()) };
        }
        self.fence();
    }

    fn peek(&self, at: Hpa) -> Option<u64> {
        Some(self.frames.cell(at)?.load(Ordering::Acquire))
    }

    fn fence(&self) {
        // SAFETY: every CPU of x86-64 has the instruction.
        unsafe { _mm_mfence() };
    }

    fn now(&self) -> Nanoseconds {
        // SAFETY: the kernel lets itself read the counter.
        let ticks = u128::from(unsafe { _rdtsc() });
        Nanoseconds((ticks * 1_000 / u128::from(self.ticks)) as u64)
    }

    fn relax(&self) {
        core::hint::spin_loop();
    }

    /// Interrupts off. A kernel that debugs its locks holds the ranks against each other.
    #[cfg(target_os = "none")]
    fn enter(&self, _rank: Rank) -> u64 {
        let flags: u64;
        // SAFETY: saves the flags and turns interrupts off; the stack is as before.
        unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags) };
        flags
    }

    #[cfg(target_os = "none")]
    fn leave(&self, _rank: Rank, flags: u64) {
        const INTERRUPTS: u64 = 1 << 9;
        if flags & INTERRUPTS != 0 {
            // SAFETY: they were on before.
            unsafe { asm!("sti") };
        }
    }

    /// A program of the host has no interrupts.
    #[cfg(not(target_os = "none"))]
    fn enter(&self, _rank: Rank) -> u64 {
        0
    }

    #[cfg(not(target_os = "none"))]
    fn leave(&self, _rank: Rank, _flags: u64) {}
}

/// Stores 128 bits at once: exchanged for what is there until nobody else came between.
///
/// # Safety
/// `pair` is 16 bytes of atomic cells, aligned to 16, and the CPU has `cmpxchg16b`.
unsafe fn store128(pair: *mut u64, [low, high]: [u64; 2]) {
    // SAFETY: the caller's promise. The compiler keeps RBX for itself, so it is swapped in and
    // out; the other operands are named, or one of them could be RBX.
    unsafe {
        asm!(
            "xchg rsi, rbx",
            "mov rax, [rdi]",
            "mov rdx, [rdi + 8]",
            "2:",
            "lock cmpxchg16b [rdi]",
            "jnz 2b",
            "mov rbx, rsi",
            in("rdi") pair,
            inout("rsi") low => _,
            in("rcx") high,
            out("rax") _,
            out("rdx") _,
            options(nostack)
        );
    }
}

impl Observer<Event> for Kernel {
    fn observe(&self, event: &Event) {
        let trouble = matches!(
            event,
            Event::DeviceSilent { .. }
                | Event::DescriptorRefused { .. }
                | Event::Quarantined { .. }
                | Event::Flood { .. }
                | Event::FaultsLost { .. }
        );
        self.troubles.fetch_add(u32::from(trouble), Ordering::Relaxed);
    }
}

/// A page of the kernel's own, as a device sees it and as the kernel does.
impl Kernel {
    /// Does something with the cells of a page that the kernel gave to a device.
    pub fn with_page<R>(&self, at: Hpa, act: impl FnOnce(&[AtomicU64]) -> R) -> R {
        let page = ManuallyDrop::new(self.frames.again(at, Order::PAGE));
        act(page.cells())
    }
}
