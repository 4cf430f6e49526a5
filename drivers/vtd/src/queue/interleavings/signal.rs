//! Waiting without turning: a thread that has nothing to do sleeps until the other side did
//! something. `loom` then tries orders of what happens, and not of looks at what does not.

use loom::sync::{Condvar, Mutex};

/// Counts what one side does.
#[derive(Default)]
pub(super) struct Signal {
    count: Mutex<u64>,
    more: Condvar,
}

impl Signal {
    /// Something was done.
    pub(super) fn raise(&self) {
        *self.count.lock().expect("no panic") += 1;
        self.more.notify_all();
    }

    /// Sleeps until more was done than `seen`, which moves along. What is done between the
    /// waiter's last look and this is not missed; what is never done is a deadlock, which
    /// `loom` reports.
    pub(super) fn wait(&self, seen: &mut u64) {
        let mut count = self.count.lock().expect("no panic");
        while *count == *seen {
            count = self.more.wait(count).expect("no panic");
        }
        *seen = *count;
    }
}
