//! What a test comes to, and the checks that bring it there.

use arrayvec::ArrayString;
use core::fmt::{self, Write};

/// Nothing, if all held.
pub(crate) type Outcome = Result<(), Deviation>;

/// Why a test did not pass.
pub(crate) enum Deviation {
    /// Something did not hold.
    Failed(Text),
    /// This machine cannot show it.
    Skipped(Text),
}

/// A sentence of limited length.
pub(crate) type Text = ArrayString<512>;

impl Deviation {
    /// A failure; what is too long is cut off.
    pub(crate) fn failed(text: fmt::Arguments<'_>) -> Self {
        Self::Failed(sentence(text))
    }

    /// A reason not to try.
    pub(crate) fn skipped(text: fmt::Arguments<'_>) -> Self {
        Self::Skipped(sentence(text))
    }
}

fn sentence(text: fmt::Arguments<'_>) -> Text {
    let mut sentence = Text::new();
    let _ = sentence.write_fmt(text);
    sentence
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
