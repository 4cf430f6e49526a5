//! Why something was not counted.

use core::fmt;
use iommu_core::Nanoseconds;

/// Why a counter was not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PerformanceError {
    /// There is no unit of this number.
    NoUnit(u16),
    /// The unit has no counters (ECAP.PMS, CAP.ECMDS).
    NoCounters,
    /// The unit places its counters beyond the registers that are mapped.
    BeyondRegisters {
        /// Where the first one that cannot be reached lies, in bytes from the unit's base.
        offset: usize,
    },
    /// There is no counter of this number.
    NoCounter(u16),
    /// The counter counts; disable it first.
    Counting(u16),
    /// The unit cannot count this, filter so, or do what was asked.
    Unsupported,
    /// The unit refused the command, with this status (§11.4.14): 1 undefined, 2 aborted by
    /// another command, 16 a configuration that it does not accept (§10.5).
    Refused(u8),
    /// The unit did not answer in time.
    TimedOut(Nanoseconds),
}

impl core::error::Error for PerformanceError {}

impl fmt::Display for PerformanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUnit(unit) => write!(f, "there is no unit {unit}"),
            Self::NoCounters => f.write_str("the unit has no performance counters"),
            Self::BeyondRegisters { offset } => write!(
                f,
                "performance counters at {offset:#x} lie beyond the registers that are mapped"
            ),
            Self::NoCounter(counter) => write!(f, "the unit has no counter {counter}"),
            Self::Counting(counter) => write!(f, "counter {counter} is counting"),
            Self::Unsupported => f.write_str("the unit cannot count this or so"),
            Self::Refused(status) => write!(f, "the unit refused the command (status {status})"),
            Self::TimedOut(waited) => write!(
                f,
                "the unit did not answer the command within {} ms",
                waited.0 / 1_000_000
            ),
        }
    }
}
