//! What locks and shared words are made of: the machine's atomics, or `loom`'s.

#[cfg(loom)]
pub(super) use looms::{Lock, LockGuard, lock};
#[cfg(not(loom))]
pub(super) use machines::{Lock, LockGuard, lock};

/// Atomics for words that several CPUs, or a CPU and hardware, agree by.
#[cfg(not(loom))]
pub use core::sync::atomic;
/// Atomics whose every order of accesses is tried.
#[cfg(loom)]
pub use loom::sync::atomic;

/// A `const fn`, but not where `loom` makes the primitives.
macro_rules! unless_loom {
    ($(#[$doc:meta])* $visibility:vis const fn $($function:tt)*) => {
        #[cfg(not(loom))]
        $(#[$doc])*
        $visibility const fn $($function)*

        #[cfg(loom)]
        $(#[$doc])*
        $visibility fn $($function)*
    };
}
pub(super) use unless_loom;

#[cfg(not(loom))]
mod machines {
    use crate::Platform;
    use core::ops::{Deref, DerefMut};
    use core::sync::atomic::{AtomicU32, Ordering};
    use spin::mutex::{SpinMutex, SpinMutexGuard};

    /// A lock that is had in the order in which it was asked for: whoever waits waits for
    /// those before it, once each, and for who tries at a moment when it is free.
    ///
    /// Not `spin`'s lock with tickets: that one relaxes by a function of its type, and here a
    /// platform, which is a value, is told of each turn of waiting.
    #[derive(Debug)]
    pub(in super::super) struct Lock<T> {
        /// The number that the next to ask gets.
        next: AtomicU32,
        /// The number whose turn it is.
        turn: AtomicU32,
        inner: SpinMutex<T>,
    }

    impl<T> Lock<T> {
        pub(in super::super) const fn new(value: T) -> Self {
            Self {
                next: AtomicU32::new(0),
                turn: AtomicU32::new(0),
                inner: SpinMutex::new(value),
            }
        }

        /// Takes it if it is free and nobody waits.
        pub(in super::super) fn try_lock(&self) -> Option<LockGuard<'_, T>> {
            let turn = self.turn.load(Ordering::Acquire);
            let next = turn.wrapping_add(1);
            let taken = self
                .next
                .compare_exchange(turn, next, Ordering::AcqRel, Ordering::Relaxed);
            taken.ok()?;
            match self.inner.try_lock() {
                Some(value) => Some(self.guard(value)),
                None => {
                    self.turn.fetch_add(1, Ordering::Release);
                    None
                }
            }
        }

        pub(in super::super) fn get_mut(&mut self) -> &mut T {
            self.inner.get_mut()
        }

        pub(in super::super) fn into_inner(self) -> T {
            self.inner.into_inner()
        }

        fn guard<'a>(&'a self, value: SpinMutexGuard<'a, T>) -> LockGuard<'a, T> {
            LockGuard {
                value,
                _turn: Turn(&self.turn),
            }
        }
    }

    /// Holds a lock.
    pub struct LockGuard<'a, T> {
        // Fields drop in this order: it is free before it is the next one's turn.
        value: SpinMutexGuard<'a, T>,
        _turn: Turn<'a>,
    }

    struct Turn<'a>(&'a AtomicU32);

    impl Drop for Turn<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Release);
        }
    }

    impl<T> Deref for LockGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.value
        }
    }

    impl<T> DerefMut for LockGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.value
        }
    }

    /// Waits for its turn. Others see the waiting as turns of a loop.
    pub(in super::super) fn lock<'a, T, P: Platform + ?Sized>(
        lock: &'a Lock<T>,
        platform: &P,
    ) -> LockGuard<'a, T> {
        let number = lock.next.fetch_add(1, Ordering::Relaxed);
        while lock.turn.load(Ordering::Acquire) != number {
            platform.relax();
        }
        loop {
            // Free: whose turn it was has given it back before.
            if let Some(value) = lock.inner.try_lock() {
                return lock.guard(value);
            }
            platform.relax();
        }
    }
}

#[cfg(loom)]
mod looms {
    use crate::Platform;
    pub(in super::super) use loom::sync::MutexGuard as LockGuard;

    /// `loom`'s lock, which nobody poisons: a panic ends the test.
    #[derive(Debug)]
    pub(in super::super) struct Lock<T>(loom::sync::Mutex<T>);

    impl<T> Lock<T> {
        pub(in super::super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(in super::super) fn try_lock(&self) -> Option<LockGuard<'_, T>> {
            self.0.try_lock().ok()
        }

        pub(in super::super) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap_or_else(|error| error.into_inner())
        }

        pub(in super::super) fn into_inner(self) -> T {
            self.0
                .into_inner()
                .unwrap_or_else(|error| error.into_inner())
        }
    }

    pub(in super::super) fn lock<'a, T, P: Platform + ?Sized>(
        lock: &'a Lock<T>,
        _: &P,
    ) -> LockGuard<'a, T> {
        lock.0.lock().unwrap_or_else(|error| error.into_inner())
    }
}
