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
    pub(in super::super) use spin::mutex::SpinMutex as Lock;
    pub(in super::super) use spin::mutex::SpinMutexGuard as LockGuard;

    /// Waits until it is free. Others see the waiting as turns of a loop.
    pub(in super::super) fn lock<'a, T, P: Platform + ?Sized>(
        lock: &'a Lock<T>,
        platform: &P,
    ) -> LockGuard<'a, T> {
        loop {
            if let Some(guard) = lock.try_lock() {
                return guard;
            }
            // Looking is cheaper than trying.
            while lock.is_locked() {
                platform.relax();
            }
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
