//! Waiting.

use iommu_core::{Clock, Nanoseconds};

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
