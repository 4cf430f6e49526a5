//! From a device's interrupt in the host to a virtual one.

use crate::vm::interrupts::VirtualInterrupts;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use iommu_core::Platform;
use iommu_core::sync::{Mutex, Rank};

/// No guest vector: the guest has not turned the interrupt on.
const OFF: u8 = 0;

/// The way of one device's interrupt into a guest. There for ever, because an interrupt handler
/// is; its guests come and go.
pub struct InterruptLine {
    platform: &'static dyn Platform,
    guest: Mutex<Option<Arc<VirtualInterrupts>>>,
    vector: AtomicU8,
    received: AtomicU64,
    passed_on: AtomicU64,
}

impl fmt::Debug for InterruptLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InterruptLine({})", self.received())
    }
}

impl InterruptLine {
    /// A line that leads nowhere.
    pub const fn new(platform: &'static dyn Platform) -> Self {
        Self {
            platform,
            guest: Mutex::new(Rank::Events, None),
            vector: AtomicU8::new(OFF),
            received: AtomicU64::new(0),
            passed_on: AtomicU64::new(0),
        }
    }

    /// Leads to a guest from now on; off, and with nothing counted.
    pub fn lead_to(&self, guest: Arc<VirtualInterrupts>) {
        self.exchange(Some(guest));
    }

    /// Leads nowhere from now on.
    pub fn cut(&self) {
        self.exchange(None);
    }

    fn exchange(&self, guest: Option<Arc<VirtualInterrupts>>) {
        self.set_vector(None);
        let before = core::mem::replace(&mut *self.guest.lock(self.platform), guest);
        self.received.store(0, Ordering::Relaxed);
        self.passed_on.store(0, Ordering::Relaxed);
        // What the last guest had is freed with interrupts on.
        drop(before);
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
                let guest = self.guest.lock(self.platform).clone();
                if let Some(guest) = guest {
                    self.passed_on.fetch_add(1, Ordering::Relaxed);
                    guest.raise(vector);
                }
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
pub(super) mod tests {
    use super::*;
    use std::boxed::Box;
    use test_platform::TestPlatform;

    /// A line that leads to a guest, and the guest's side of it.
    pub(in crate::vm::passthrough) fn line() -> (&'static InterruptLine, Arc<VirtualInterrupts>) {
        let platform = Box::leak(Box::new(TestPlatform::new(8)));
        let guest = Arc::new(VirtualInterrupts::new(|_| {}));
        let line = Box::leak(Box::new(InterruptLine::new(platform)));
        line.lead_to(guest.clone());
        (line, guest)
    }

    #[test]
    fn an_interrupt_arrives_only_while_the_guest_wants_it() {
        let (line, guest) = line();
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

    #[test]
    fn what_comes_late_reaches_neither_the_last_guest_nor_the_next() {
        let (line, last) = line();
        line.set_vector(Some(0x51));
        line.cut();
        line.receive();
        assert_eq!(Arc::strong_count(&last), 1);
        let next = Arc::new(VirtualInterrupts::new(|_| {}));
        line.lead_to(next.clone());
        line.receive();
        assert_eq!((last.next(), next.next()), (None, None));
        line.set_vector(Some(0x52));
        line.receive();
        assert_eq!((last.next(), next.next()), (None, Some(0x52)));
    }
}
