//! A stack with room below it for a page that shall not be mapped.

use core::cell::UnsafeCell;

const PAGE: usize = 4096;

/// A stack of `BYTES` bytes above a guard page.
///
/// The program leaves the guard page unmapped, so that an overflow faults at once.
#[repr(C, align(4096))]
pub struct Stack<const BYTES: usize> {
    guard: [u8; PAGE],
    body: UnsafeCell<[u8; BYTES]>,
}

// SAFETY: the body is reached only by the CPU whose stack pointer points into it.
unsafe impl<const BYTES: usize> Sync for Stack<BYTES> {}

impl<const BYTES: usize> Stack<BYTES> {
    /// Distance from the start of the value to the stack's top.
    pub const TOP: usize = PAGE + BYTES;

    /// An empty stack.
    pub const fn new() -> Self {
        const { assert!(BYTES.is_multiple_of(PAGE)) };
        Self {
            guard: [0; PAGE],
            body: UnsafeCell::new([0; BYTES]),
        }
    }

    /// Address of the page that shall not be mapped.
    pub fn guard(&self) -> u64 {
        self.guard.as_ptr().addr() as u64
    }

    /// Address just above the stack, where the stack pointer starts.
    pub fn top(&self) -> u64 {
        self.bottom() + BYTES as u64
    }

    /// Lowest address of the stack.
    pub fn bottom(&self) -> u64 {
        self.body.get().addr() as u64
    }
}

impl<const BYTES: usize> Default for Stack<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}
