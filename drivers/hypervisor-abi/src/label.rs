//! Short texts that travel by value.

use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A text of at most `N` bytes, filled up with zeroes.
///
/// What arrives from a guest may be any bytes: [`Label::text`] gives what of it can be
/// printed in one line.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Label<const N: usize>([u8; N]);

impl<const N: usize> Label<N> {
    /// As much of a text as fits.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; N];
        for (slot, byte) in bytes.iter_mut().zip(text.bytes()) {
            *slot = byte;
        }
        Self(bytes)
    }

    /// The text up to the first byte that is not printable ASCII.
    pub fn text(&self) -> &str {
        let printable = self
            .0
            .iter()
            .take_while(|byte| matches!(byte, b' '..=b'~'))
            .count();
        self.0
            .get(..printable)
            .and_then(|bytes| str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    /// The text up to the first byte that cannot be part of a name: letters, digits, `-`,
    /// `.` and `_` can.
    pub fn name(&self) -> &str {
        let text = self.text();
        let stop = |c: char| !(c.is_ascii_alphanumeric() || "-._".contains(c));
        text.split(stop).next().unwrap_or_default()
    }
}

impl<const N: usize> fmt::Write for Label<N> {
    /// Appends as much as fits, and never fails.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = self.0.iter_mut().skip_while(|byte| **byte != 0);
        for (slot, byte) in free.zip(text.bytes()) {
            *slot = byte;
        }
        Ok(())
    }
}

impl<const N: usize> Default for Label<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> fmt::Debug for Label<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.text(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    #[test]
    fn a_text_that_is_too_long_is_cut() {
        assert_eq!(Label::<4>::new("guests").text(), "gues");
    }

    #[test]
    fn bytes_that_would_break_a_line_end_the_text() {
        let hostile = Label::<8>(*b"ab\ncd\0\0\0");
        assert_eq!(hostile.text(), "ab");
        assert_eq!(Label::<8>([0xff; 8]).text(), "");
    }

    #[test]
    fn a_name_has_no_spaces() {
        assert_eq!(Label::<16>::new("copy.1 pass").name(), "copy.1");
    }

    #[test]
    fn formatting_appends() {
        let mut label = Label::<16>::new("at ");
        write!(label, "{:#x}", 0x1000).unwrap();
        assert_eq!(label.text(), "at 0x1000");
        write!(label, " and much more").unwrap();
        assert_eq!(label.text(), "at 0x1000 and mu");
    }
}
