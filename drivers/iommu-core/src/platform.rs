//! What a driver needs of the machine that it runs on.

use crate::sync::Rank;
use crate::sync::atomic::Ordering;
use crate::{Frame, Hpa, Order};
#[cfg(feature = "alloc")]
use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;

/// A point in time, or a span, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Nanoseconds(pub u64);

impl Nanoseconds {
    /// A span of `count` milliseconds; saturates.
    pub const fn from_millis(count: u64) -> Self {
        Self(count.saturating_mul(1_000_000))
    }

    /// A span of `count` microseconds; saturates.
    pub const fn from_micros(count: u64) -> Self {
        Self(count.saturating_mul(1_000))
    }

    /// From `earlier` to `self`; 0 if the clock went backwards.
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// Time, for a driver of a device that has to be waited for.
pub trait Clock {
    /// Since some fixed point; never backwards.
    fn now(&self) -> Nanoseconds;

    /// One turn of a waiting loop.
    fn relax(&self);
}

impl<C: Clock + ?Sized> Clock for &C {
    fn now(&self) -> Nanoseconds {
        (**self).now()
    }

    fn relax(&self) {
        (**self).relax();
    }
}

/// Whether the reader of a table sees the CPU's caches (ECAP.C, ECAP.SMPWCS with PWSNP).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Coherence {
    /// Hardware snoops: a store is enough.
    Snooped,
    /// Hardware reads memory behind the caches: each written line must be written back.
    WriteBack,
}

/// No frame of the wanted size is to be had now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct OutOfFrames {
    /// What was asked for.
    pub order: Order,
}

impl fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no free block of {} pages", self.order.pages())
    }
}

/// Memory, time and interrupts, as the drivers need them.
///
/// Implemented by the kernel, by the adapter to the hardware model, and by whoever takes
/// the drivers into another hypervisor. Every function may be called from an interrupt
/// handler; none may block.
pub trait Platform: Send + Sync {
    /// A zeroed block, naturally aligned. Where hardware does not snoop, the zeroes must
    /// have reached memory.
    fn allocate(&self, order: Order) -> Result<Frame, OutOfFrames>;

    /// Takes a block back. The caller vouches that no hardware can reach it any more.
    fn release(&self, frame: Frame);

    /// The frame at `hpa` again, whose owner kept nothing but its address: a table page that
    /// is linked from another one. To look at it without taking it out of the table, wrap
    /// the result in [`ManuallyDrop`](core::mem::ManuallyDrop).
    ///
    /// # Safety
    /// `hpa` and `order` are those of a frame that this platform allocated, that was given
    /// up by [`Frame::leak`] and not released since; and the caller sees to it that of all
    /// values made for it only one is used as its owner.
    unsafe fn adopt(&self, hpa: Hpa, order: Order) -> Frame;

    /// Stores one cell of a frame that hardware can already reach, whole, after everything
    /// stored before; with [`Coherence::WriteBack`] the line has reached memory on return.
    ///
    /// An index beyond the frame is a bug of the caller; the store is left out.
    fn publish64(&self, frame: &Frame, index: usize, value: u64, coherence: Coherence);

    /// Like [`publish64`](Self::publish64) for the two cells `index` (even) and
    /// `index + 1`, in one 128-bit store (`cmpxchg16b`). The first value is the lower one.
    fn publish128(&self, frame: &Frame, index: usize, value: [u64; 2], coherence: Coherence);

    /// Stores one cell of a frame in which hardware sets flags (accessed, dirty), if it holds
    /// `current`; otherwise tells what it holds. One step with the look at it: no flag that
    /// hardware sets in between is lost.
    fn exchange64(
        &self,
        frame: &Frame,
        index: usize,
        current: u64,
        value: u64,
        coherence: Coherence,
    ) -> Result<(), u64> {
        let Some(cell) = frame.cells().get(index) else {
            return Ok(());
        };
        cell.compare_exchange(current, value, Ordering::AcqRel, Ordering::Acquire)?;
        if coherence == Coherence::WriteBack {
            self.write_back(frame, index..index.saturating_add(1));
        }
        Ok(())
    }

    /// Writes the lines that hold these cells back to memory, for tables that were filled
    /// by plain stores and that a non-snooping unit will read.
    fn write_back(&self, frame: &Frame, cells: Range<usize>);

    /// For diagnosis: the 64-bit value at an aligned host address, if ordinary memory lies
    /// there that may be read without effect. What is read may change at any time.
    ///
    /// Drivers follow pointers in tables with it, to say why hardware refused a request;
    /// a platform that does not offer it costs its users that explanation and no more.
    fn peek(&self, at: Hpa) -> Option<u64> {
        let _ = at;
        None
    }

    /// Makes every earlier store visible before every later one, also to devices.
    fn fence(&self);

    /// Time since some fixed point, never backwards.
    fn now(&self) -> Nanoseconds;

    /// One turn of a waiting loop.
    fn relax(&self);

    /// A longer turn of a waiting loop, of about `limit` at most: hardware will send an
    /// interrupt when there is something new. A platform that can lets the CPU sleep, and
    /// looks at `done` once more with interrupts off before it does, so that no interrupt
    /// falls in between; others take a turn like any.
    fn rest(&self, limit: Nanoseconds, done: &mut dyn FnMut() -> bool) {
        let _ = limit;
        if !done() {
            self.relax();
        }
    }

    /// Begins a section of this CPU that no interrupt can break into, holding a lock of
    /// this rank. Returns what [`leave`](Self::leave) needs to restore the state before.
    fn enter(&self, rank: Rank) -> u64;

    /// Ends the section that [`enter`](Self::enter) began; sections nest.
    fn leave(&self, rank: Rank, state: u64);
}

/// Someone who wants to know what happens: a logger, a test, a counter.
pub trait Observer<E> {
    /// Called in the middle of things, perhaps in an interrupt handler: take a note and
    /// return.
    fn observe(&self, event: &E);
}

/// Registers of one unit, by byte offset from their base.
///
/// Each call is one access of exactly that width (§11.2).
pub trait Mmio: Send + Sync {
    /// Bytes that are mapped; accesses beyond are a bug of the caller and read as all ones.
    fn size(&self) -> usize;
    /// A 32-bit read.
    fn read32(&self, offset: usize) -> u32;
    /// A 64-bit read.
    fn read64(&self, offset: usize) -> u64;
    /// A 32-bit write.
    fn write32(&self, offset: usize, value: u32);
    /// A 64-bit write.
    fn write64(&self, offset: usize, value: u64);
}

macro_rules! platform_by_reference {
    ($($pointer:ty),*) => {$(
        impl<P: Platform + ?Sized> Platform for $pointer {
            fn allocate(&self, order: Order) -> Result<Frame, OutOfFrames> {
                (**self).allocate(order)
            }
            fn release(&self, frame: Frame) {
                (**self).release(frame)
            }
            unsafe fn adopt(&self, hpa: Hpa, order: Order) -> Frame {
                // SAFETY: the caller's promise is the same.
                unsafe { (**self).adopt(hpa, order) }
            }
            fn publish64(&self, frame: &Frame, index: usize, value: u64, coherence: Coherence) {
                (**self).publish64(frame, index, value, coherence)
            }
            fn publish128(
                &self,
                frame: &Frame,
                index: usize,
                value: [u64; 2],
                coherence: Coherence,
            ) {
                (**self).publish128(frame, index, value, coherence)
            }
            fn exchange64(
                &self,
                frame: &Frame,
                index: usize,
                current: u64,
                value: u64,
                coherence: Coherence,
            ) -> Result<(), u64> {
                (**self).exchange64(frame, index, current, value, coherence)
            }
            fn write_back(&self, frame: &Frame, cells: Range<usize>) {
                (**self).write_back(frame, cells)
            }
            fn peek(&self, at: Hpa) -> Option<u64> {
                (**self).peek(at)
            }
            fn fence(&self) {
                (**self).fence()
            }
            fn now(&self) -> Nanoseconds {
                (**self).now()
            }
            fn relax(&self) {
                (**self).relax()
            }
            fn rest(&self, limit: Nanoseconds, done: &mut dyn FnMut() -> bool) {
                (**self).rest(limit, done)
            }
            fn enter(&self, rank: Rank) -> u64 {
                (**self).enter(rank)
            }
            fn leave(&self, rank: Rank, state: u64) {
                (**self).leave(rank, state)
            }
        }

        impl<E, P: Observer<E> + ?Sized> Observer<E> for $pointer {
            fn observe(&self, event: &E) {
                (**self).observe(event)
            }
        }
    )*};
}
platform_by_reference!(&P);
#[cfg(feature = "alloc")]
platform_by_reference!(Arc<P>);
