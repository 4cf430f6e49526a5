//! What reaches a guest's CPU from outside: interrupts that wait for it, and the wish that it
//! stop.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Makes the CPU of a number look again at what waits.
pub type Kick = fn(u32);

/// The guest has not run yet.
const NOWHERE: u32 = u32::MAX;

/// Which vectors wait, and how many came. May be used in interrupt handlers and on any CPU.
///
/// This is all of the interrupt controller that a guest has: a vector is pending once,
/// however often it was raised, and is taken when it is delivered. Higher vectors go first.
/// Whatever comes for a guest that runs on another CPU makes that CPU leave it.
#[derive(Debug)]
pub struct VirtualInterrupts {
    pending: [AtomicU64; 4],
    raised: AtomicU64,
    delivered: AtomicU64,
    stopped: AtomicBool,
    cpu: AtomicU32,
    kick: Kick,
}

impl VirtualInterrupts {
    /// Nothing waits.
    pub const fn new(kick: Kick) -> Self {
        Self {
            pending: [const { AtomicU64::new(0) }; 4],
            raised: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            cpu: AtomicU32::new(NOWHERE),
            kick,
        }
    }

    /// Notes on which CPU the guest runs.
    pub fn run_on(&self, cpu: u32) {
        self.cpu.store(cpu, Ordering::SeqCst);
    }

    fn look_again(&self) {
        match self.cpu.load(Ordering::SeqCst) {
            NOWHERE => {}
            cpu => (self.kick)(cpu),
        }
    }

    /// Makes a vector wait. Vectors below 32 are the guest's exceptions and are ignored.
    pub fn raise(&self, vector: u8) {
        if vector < 32 {
            return;
        }
        if let Some(word) = self.pending.get(usize::from(vector / 64)) {
            word.fetch_or(1 << (vector % 64), Ordering::SeqCst);
            self.raised.fetch_add(1, Ordering::Relaxed);
            self.look_again();
        }
    }

    /// Asks that the guest not go on.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.look_again();
    }

    /// Whether that was asked for.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
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

    std::thread_local! {
        static KICKED: core::cell::RefCell<std::vec::Vec<u32>> = Default::default();
    }

    fn kick(cpu: u32) {
        KICKED.with_borrow_mut(|kicked| kicked.push(cpu));
    }

    #[test]
    fn whatever_comes_makes_the_guest_s_cpu_look() {
        let interrupts = VirtualInterrupts::new(kick);
        interrupts.raise(0x51);
        interrupts.run_on(3);
        interrupts.raise(31);
        interrupts.raise(0x52);
        interrupts.run_on(2);
        assert!(!interrupts.is_stopped());
        interrupts.stop();
        assert!(interrupts.is_stopped());
        assert_eq!(KICKED.with_borrow(Clone::clone), [3, 2]);
    }

    #[test]
    fn higher_vectors_go_first_and_each_goes_once() {
        let interrupts = VirtualInterrupts::new(|_| {});
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
        let interrupts = VirtualInterrupts::new(|_| {});
        interrupts.raise(31);
        assert_eq!(interrupts.next(), None);
        interrupts.raise(32);
        assert_eq!(interrupts.next(), Some(32));
    }
}
