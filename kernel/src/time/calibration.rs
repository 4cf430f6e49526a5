//! How fast a counter of unknown rate runs, and how its counts become nanoseconds.

/// A counter of known rate that counts upwards and wraps.
pub trait Reference {
    /// Counts per second.
    fn hertz(&self) -> u64;
    /// Bits of the counter.
    fn bits(&self) -> u32;
    /// Its value now.
    fn read(&mut self) -> u64;
}

/// Share of a second over which a counter is measured.
const MEASURES_PER_SECOND: u64 = 50;

/// Measures how many times a second `counter` counts, over 20 ms of `reference`.
///
/// `None` if the reference does not count: it is given up after `patience` counts of
/// `counter`, or if that one does not count either after `patience` reads.
pub fn measure(
    reference: &mut dyn Reference,
    mut counter: impl FnMut() -> u64,
    patience: u64,
) -> Option<u64> {
    let span = reference.hertz() / MEASURES_PER_SECOND;
    let mask = u64::MAX.checked_shr(64u32.checked_sub(reference.bits())?)?;
    let mut last = reference.read();
    let start = counter();
    let mut passed: u64 = 0;
    // The sum of short steps, so that a counter may wrap any number of times.
    for _ in 0..patience {
        let value = reference.read();
        let now = counter();
        passed += value.wrapping_sub(last) & mask;
        last = value;
        let counted = now.wrapping_sub(start);
        if passed >= span {
            return rate(counted, passed, reference.hertz());
        }
        if counted > patience {
            break;
        }
    }
    None
}

fn rate(counted: u64, passed: u64, hertz: u64) -> Option<u64> {
    let rate = u128::from(counted)
        .checked_mul(u128::from(hertz))?
        .checked_div(u128::from(passed))?;
    u64::try_from(rate).ok().filter(|&rate| rate > 0)
}

/// Turns counts into nanoseconds by one multiplication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// Nanoseconds per count, with 32 bits of fraction.
    multiplier: u64,
}

impl Scale {
    /// For a counter that counts `hertz` times a second; `None` for 0 and for counters
    /// slower than 1 Hz times 2^-32.
    pub fn new(hertz: u64) -> Option<Self> {
        let multiplier = (1_000_000_000u128 << 32).checked_div(u128::from(hertz))?;
        Some(Self {
            multiplier: u64::try_from(multiplier).ok()?,
        })
    }

    /// The time of `counts` counts.
    pub fn nanoseconds(self, counts: u64) -> u64 {
        // Saturates after 584 years.
        u64::try_from((u128::from(counts) * u128::from(self.multiplier)) >> 32).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// A machine whose time advances with each look at a clock.
    struct Machine {
        nanoseconds: Cell<u64>,
        step: u64,
    }

    impl Machine {
        fn new(step: u64) -> Self {
            Self {
                nanoseconds: Cell::new(0),
                step,
            }
        }

        fn look(&self) -> u64 {
            let now = self.nanoseconds.get() + self.step;
            self.nanoseconds.set(now);
            now
        }

        fn tsc(&self, hertz: u64) -> u64 {
            (u128::from(self.look()) * u128::from(hertz) / 1_000_000_000) as u64
        }
    }

    struct Counter<'a> {
        machine: &'a Machine,
        hertz: u64,
        bits: u32,
        stopped: bool,
    }

    impl Reference for Counter<'_> {
        fn hertz(&self) -> u64 {
            self.hertz
        }
        fn bits(&self) -> u32 {
            self.bits
        }
        fn read(&mut self) -> u64 {
            if self.stopped {
                return 5;
            }
            self.machine.tsc(self.hertz) & ((1 << self.bits) - 1)
        }
    }

    fn measured(step: u64, stopped: bool, bits: u32) -> Option<u64> {
        let machine = Machine::new(step);
        let mut reference = Counter {
            machine: &machine,
            hertz: 1_193_182,
            bits,
            stopped,
        };
        measure(&mut reference, || machine.tsc(3_000_000_000), 1 << 32)
    }

    #[test]
    fn the_rate_is_right_to_a_thousandth() {
        for step in [10, 1_000, 10_000] {
            let rate = measured(step, false, 16).unwrap();
            assert!(
                rate.abs_diff(3_000_000_000) < 3_000_000,
                "step {step}: {rate}"
            );
        }
    }

    #[test]
    fn the_reference_may_wrap_while_measuring() {
        let rate = measured(1_000, false, 10).unwrap();
        assert!(rate.abs_diff(3_000_000_000) < 3_000_000, "{rate}");
    }

    #[test]
    fn a_reference_that_does_not_count_is_given_up() {
        assert_eq!(measured(10_000, true, 16), None);
    }

    #[test]
    fn counts_become_nanoseconds() {
        let scale = Scale::new(1_000_000_000).unwrap();
        assert_eq!(scale.nanoseconds(12_345), 12_345);
        let scale = Scale::new(3_000_000_000).unwrap();
        assert_eq!(scale.nanoseconds(3_000_000_000), 999_999_999);
        assert_eq!(Scale::new(0), None);
        assert_eq!(Scale::new(1).unwrap().nanoseconds(u64::MAX), u64::MAX);
    }
}
