//! What a test comes to, and the checks that bring it there.

use alloc::fmt::format;
use alloc::string::String;
use core::fmt;

/// Nothing, if all held.
pub(crate) type Outcome = Result<(), Deviation>;

/// Why a test did not pass.
pub(crate) enum Deviation {
    /// Something did not hold.
    Failed(String),
    /// This machine cannot show it.
    Skipped(String),
}

impl Deviation {
    /// A failure.
    pub(crate) fn failed(text: fmt::Arguments<'_>) -> Self {
        Self::Failed(format(text))
    }

    /// A reason not to try.
    pub(crate) fn skipped(text: fmt::Arguments<'_>) -> Self {
        Self::Skipped(format(text))
    }
}

/// `check!(condition, "what was expected {}", …)`: leaves the test if it does not hold.
macro_rules! check {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::check::Deviation::failed(format_args!($($text)+)));
        }
    };
}
pub(crate) use check;

/// `check_eq!(found, expected, "what {}", …)`: leaves the test with both values if they differ.
macro_rules! check_eq {
    ($found:expr, $expected:expr, $($text:tt)+) => {
        match ($found, $expected) {
            (found, expected) if found == expected => {}
            (found, expected) => {
                return Err($crate::check::Deviation::failed(format_args!(
                    "{}: {found:x?} and not {expected:x?}",
                    format_args!($($text)+),
                )));
            }
        }
    };
}
pub(crate) use check_eq;
