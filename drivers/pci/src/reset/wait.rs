//! Waiting.

use iommu_core::Nanoseconds;

/// Time, as resets need it.
pub trait Clock {
    /// Time since some moment.
    fn now(&self) -> Nanoseconds;

    /// Called while something is waited for.
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

/// Lets time pass.
pub(super) fn pause(clock: &impl Clock, time: Nanoseconds) {
    wait_until(clock, time, || false);
}

/// Waits for something, so long at most. Says whether it came; asks once more at the end.
pub(crate) fn wait_until(
    clock: &impl Clock,
    limit: Nanoseconds,
    mut done: impl FnMut() -> bool,
) -> bool {
    let begun = clock.now();
    loop {
        if done() {
            return true;
        }
        if clock.now().since(begun) > limit {
            return done();
        }
        clock.relax();
    }
}
