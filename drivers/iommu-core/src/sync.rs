//! Locks that save the interrupt flag and know their rank.
//!
//! Every lock has a [`Rank`]. A CPU may take a lock only if its rank is above those of all
//! locks that it holds; the platform checks this in debug builds, in
//! [`Platform::enter`]. All of these locks may be taken in
//! interrupt handlers, so interrupts are off while one is held, and nothing is waited for
//! under one except where its rank says so.
//!
//! # Permutation testing
//! A lock that is taken waits by [`Platform::relax`], and enters by [`Platform::enter`]: a
//! platform that gives way to other threads there (and in its memory and registers) is all
//! that `shuttle` needs. For `loom`, which must see every atomic, `--cfg loom` replaces the
//! primitives here, and nothing else is different.

mod primitive;

pub use primitive::atomic;

use crate::Platform;
use core::ops::{Deref, DerefMut};
use primitive::{Lock, LockGuard, unless_loom};

/// The order in which locks are taken: a lock may be taken only under locks of lower rank.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Rank {
    /// A guest's objects and its shadow tables (`iommu`). The first to be taken.
    Vm = 10,
    /// Which guest owns which device (`iommu`).
    Owners = 20,
    /// System-wide PASIDs (`iommu`).
    Pasids = 30,
    /// Domains of the driver (`vtd`).
    Domains = 40,
    /// Root, context and PASID tables of a unit (`vtd`).
    Tables = 50,
    /// The interrupt remapping table of a unit (`vtd`).
    Interrupts = 60,
    /// The command registers of a unit (`vtd`): held while a command completes (bounded).
    Registers = 70,
    /// The invalidation queue of a unit (`vtd`): never held while waiting.
    Queue = 80,
    /// The fault records and page requests of a unit (`vtd`).
    Faults = 90,
    /// A guest's fault queue (`iommu`), filled from interrupt handlers.
    Events = 100,
    /// Frames and ids that wait for a flush that failed.
    Quarantine = 110,
    /// The platform's own: mappings of registers, which need frames for tables.
    Mappings = 115,
    /// The platform's own: allocator.
    Memory = 120,
    /// The log. The last to be taken, and always possible.
    Log = 130,
}

/// A mutual exclusion lock for short sections, with interrupts off.
#[derive(Debug)]
pub struct Mutex<T> {
    rank: Rank,
    inner: Lock<T>,
}

impl<T> Mutex<T> {
    unless_loom! {
        /// A lock of this rank around `value`.
        pub const fn new(rank: Rank, value: T) -> Self {
            Self {
                rank,
                inner: Lock::new(value),
            }
        }
    }

    /// Takes the lock.
    pub fn lock<'a, P: Platform + ?Sized>(&'a self, platform: &'a P) -> Guard<'a, T, P> {
        let state = platform.enter(self.rank);
        let section = Section {
            platform,
            rank: self.rank,
            state,
        };
        Guard {
            value: primitive::lock(&self.inner, platform),
            _section: section,
        }
    }

    /// Takes the lock if it is free. For handlers that must not wait.
    pub fn try_lock<'a, P: Platform + ?Sized>(
        &'a self,
        platform: &'a P,
    ) -> Option<Guard<'a, T, P>> {
        let state = platform.enter(self.rank);
        let section = Section {
            platform,
            rank: self.rank,
            state,
        };
        self.inner.try_lock().map(|value| Guard {
            value,
            _section: section,
        })
    }

    /// The value, of a lock that nobody else can hold.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }

    /// Takes the lock apart.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

/// A lock for long work: interrupts stay on, and hardware may be waited for under it.
///
/// It has no rank, because it comes before all of them: it is never taken while a
/// [`Mutex`] is held, never in an interrupt handler, and a CPU holds one at a time.
#[derive(Debug)]
pub struct Turn<T> {
    inner: Lock<T>,
}

impl<T> Turn<T> {
    unless_loom! {
        /// A lock around `value`.
        pub const fn new(value: T) -> Self {
            Self {
                inner: Lock::new(value),
            }
        }
    }

    /// Waits for its turn.
    pub fn take<P: Platform + ?Sized>(&self, platform: &P) -> LockGuard<'_, T> {
        primitive::lock(&self.inner, platform)
    }
}

/// Holds a lock; gives it back when dropped, and then restores the interrupt flag.
pub struct Guard<'a, T, P: Platform + ?Sized> {
    // Fields drop in this order: the lock is free before interrupts come back.
    value: LockGuard<'a, T>,
    _section: Section<'a, P>,
}

struct Section<'a, P: Platform + ?Sized> {
    platform: &'a P,
    rank: Rank,
    state: u64,
}

impl<P: Platform + ?Sized> Drop for Section<'_, P> {
    fn drop(&mut self) {
        self.platform.leave(self.rank, self.state);
    }
}

impl<T, P: Platform + ?Sized> Deref for Guard<'_, T, P> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T, P: Platform + ?Sized> DerefMut for Guard<'_, T, P> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
