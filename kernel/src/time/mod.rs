//! The clock: the time-stamp counter, measured against something whose rate is known.

pub mod calibration;

#[cfg(target_os = "none")]
mod clock;
#[cfg(target_os = "none")]
mod reference;

#[cfg(target_os = "none")]
pub(crate) use clock::start_by_pm_timer;
#[cfg(target_os = "none")]
pub use clock::{ClockSource, KernelClock, NoClock, now, seed, source, start};
