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

    /// No memory for what a test needs.
    pub(crate) fn no_memory() -> Self {
        Self::failed(format_args!("no memory"))
    }

    /// A reason not to try.
    pub(crate) fn skipped(text: fmt::Arguments<'_>) -> Self {
        Self::Skipped(format(text))
    }
}

/// What set-up can end in; none of it is what a test is about.
macro_rules! failures {
    ($($error:ty: $what:literal,)*) => {
        $(
            impl From<$error> for Deviation {
                fn from(error: $error) -> Self {
                    Self::failed(format_args!(concat!($what, ": {:?}"), error))
                }
            }
        )*
    };
}

failures! {
    edu::EduError: "the edu device",
    edu::OutsideBuffer: "a copy beyond the edu device's buffer",
    iommu_core::BackendError: "the driver refused",
    iommu_core::FlushError: "a flush failed",
    iommu_core::IrqError: "interrupt remapping refused",
    iommu_core::MapError: "the driver does not map",
    iommu_core::OutOfFrames: "no memory",
    kernel::memory::MapError: "registers cannot be mapped",
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
