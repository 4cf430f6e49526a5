//! Interrupts that wait for a guest.

use core::sync::atomic::{AtomicU64, Ordering};

/// Which vectors wait, and how many came. May be used in interrupt handlers.
///
/// This is all of the interrupt controller that a guest has: a vector is pending once,
/// however often it was raised, and is taken when it is delivered. Higher vectors go first.
#[derive(Debug, Default)]
pub struct VirtualInterrupts {
    pending: [AtomicU64; 4],
    raised: AtomicU64,
    delivered: AtomicU64,
}

impl VirtualInterrupts {
    /// Nothing waits.
    pub const fn new() -> Self {
        Self {
            pending: [const { AtomicU64::new(0) }; 4],
            raised: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
        }
    }

    /// Makes a vector wait. Vectors below 32 are the guest's exceptions and are ignored.
    pub fn raise(&self, vector: u8) {
        if vector < 32 {
            return;
        }
        if let Some(word) = self.pending.get(usize::from(vector / 64)) {
            word.fetch_or(1 << (vector % 64), Ordering::AcqRel);
            self.raised.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The vector to be delivered next.
    pub fn next(&self) -> Option<u8> {
        let words = self.pending.iter().enumerate().rev();
        let mut waiting = words.map(|(index, word)| (index, word.load(Ordering::Acquire)));
        let (index, word) = waiting.find(|(_, word)| *word != 0)?;
        // At most 3 * 64 + 63.
        Some((index as u32 * 64 + word.ilog2()) as u8)
    }

    /// Takes a vector that waits; whether it did.
    pub fn take(&self, vector: u8) -> bool {
        let bit = 1 << (vector % 64);
        let word = self.pending.get(usize::from(vector / 64));
        let waited = word.is_some_and(|word| word.fetch_and(!bit, Ordering::AcqRel) & bit != 0);
        if waited {
            self.delivered.fetch_add(1, Ordering::Relaxed);
        }
        waited
    }

    /// How many interrupts were raised.
    pub fn raised(&self) -> u64 {
        self.raised.load(Ordering::Relaxed)
    }

    /// How many were delivered.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_vectors_go_first_and_each_goes_once() {
        let interrupts = VirtualInterrupts::new();
        for vector in [0x20, 0xff, 0x51, 0x51] {
            interrupts.raise(vector);
        }
        let mut order = std::vec::Vec::new();
        while let Some(vector) = interrupts.next() {
            assert!(interrupts.take(vector));
            order.push(vector);
        }
        assert_eq!(order, [0xff, 0x51, 0x20]);
        assert_eq!((interrupts.raised(), interrupts.delivered()), (4, 3));
        assert!(!interrupts.take(0x51));
    }

    #[test]
    fn an_exception_cannot_be_raised_as_an_interrupt() {
        let interrupts = VirtualInterrupts::new();
        interrupts.raise(31);
        assert_eq!(interrupts.next(), None);
        interrupts.raise(32);
        assert_eq!(interrupts.next(), Some(32));
    }
}
