//! The heap of these tests: any allocation can be made to fail, in the code under test and
//! nowhere else.
//!
//! An allocation that cannot fail (`Vec::push` beyond its room, `Box::new`) ends the whole
//! process when it is made to: nothing in the driver may allocate so after it is up.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Allocations of this thread until one fails; 0 for never.
    static UNTIL_FAILURE: Cell<u64> = const { Cell::new(0) };
    /// The test's own code runs.
    static OUTSIDE: Cell<u32> = const { Cell::new(0) };
}

/// Makes the `n`-th allocation of this thread fail, once; 0 takes the order back.
pub(crate) fn fail_allocation(n: u64) {
    UNTIL_FAILURE.set(n);
}

/// Whether the failure that was ordered is still to come.
pub(crate) fn failure_is_pending() -> bool {
    UNTIL_FAILURE.get() > 0
}

/// Runs code that is not under test.
pub(crate) fn outside<R>(act: impl FnOnce() -> R) -> R {
    OUTSIDE.set(OUTSIDE.get() + 1);
    let result = act();
    OUTSIDE.set(OUTSIDE.get() - 1);
    result
}

fn fails() -> bool {
    if OUTSIDE.get() > 0 || UNTIL_FAILURE.get() == 0 {
        return false;
    }
    UNTIL_FAILURE.set(UNTIL_FAILURE.get() - 1);
    UNTIL_FAILURE.get() == 0
}

struct Failing;

// SAFETY: the system's allocator, which may say no, as any may.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static HEAP: Failing = Failing;
