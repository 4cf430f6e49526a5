//! From a device's interrupt in the host to a virtual one.

use crate::vm::interrupts::VirtualInterrupts;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// No guest vector: the guest has not turned the interrupt on.
const OFF: u8 = 0;

/// The way of one device's interrupt into a guest.
#[derive(Debug)]
pub struct InterruptLine {
    guest: Arc<VirtualInterrupts>,
    vector: AtomicU8,
    received: AtomicU64,
    passed_on: AtomicU64,
}

impl InterruptLine {
    /// A line that is off.
    pub fn new(guest: Arc<VirtualInterrupts>) -> Self {
        Self {
            guest,
            vector: AtomicU8::new(OFF),
            received: AtomicU64::new(0),
            passed_on: AtomicU64::new(0),
        }
    }

    /// The vector that the guest wants, or none.
    pub fn set_vector(&self, vector: Option<u8>) {
        self.vector.store(vector.unwrap_or(OFF), Ordering::Release);
    }

    /// The device has interrupted. Called from the host's interrupt handler.
    pub fn receive(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
        match self.vector.load(Ordering::Acquire) {
            OFF => {}
            vector => {
                self.passed_on.fetch_add(1, Ordering::Relaxed);
                self.guest.raise(vector);
            }
        }
    }

    /// How often that was passed on to the guest.
    pub fn passed_on(&self) -> u64 {
        self.passed_on.load(Ordering::Relaxed)
    }

    /// How often the device has interrupted.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

#[cfg(target_os = "none")]
impl crate::cpu::vectors::Handler for InterruptLine {
    fn handle(&self, _vector: crate::cpu::vectors::Vector) {
        self.receive();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_arrives_only_while_the_guest_wants_it() {
        let guest = Arc::new(VirtualInterrupts::new());
        let line = InterruptLine::new(guest.clone());
        line.receive();
        assert_eq!(guest.next(), None);
        line.set_vector(Some(0x51));
        line.receive();
        assert_eq!(guest.next(), Some(0x51));
        assert!(guest.take(0x51));
        line.set_vector(None);
        line.receive();
        assert_eq!((guest.next(), line.received()), (None, 3));
        assert_eq!(line.passed_on(), 1);
    }
}
