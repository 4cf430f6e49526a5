//! A line in the making, as it is typed.

use arrayvec::ArrayString;

/// Longest line.
const BYTES: usize = 120;

/// What a typed byte leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Typed {
    /// Show this byte.
    Echo(u8),
    /// Take the last character back.
    Erase,
    /// The line is whole.
    Line,
    /// Nothing.
    Ignored,
}

/// The line so far.
#[derive(Default)]
pub(super) struct Input {
    line: ArrayString<BYTES>,
}

impl Input {
    /// Takes a byte as it came.
    pub(super) fn take(&mut self, byte: u8) -> Typed {
        match byte {
            b'\r' | b'\n' => Typed::Line,
            // Backspace and delete.
            0x08 | 0x7f if self.line.pop().is_some() => Typed::Erase,
            b' '..=b'~' if self.line.try_push(char::from(byte)).is_ok() => Typed::Echo(byte),
            _ => Typed::Ignored,
        }
    }

    /// The line, and an empty one from here on.
    pub(super) fn take_line(&mut self) -> ArrayString<BYTES> {
        core::mem::take(&mut self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> (Input, usize) {
        let mut input = Input::default();
        let lines = text
            .bytes()
            .filter(|&byte| input.take(byte) == Typed::Line)
            .count();
        (input, lines)
    }

    #[test]
    fn a_line_can_be_corrected_before_it_ends() {
        let (mut input, lines) = typed("unitz\x7fs\r");
        assert_eq!(lines, 1);
        assert_eq!(input.take_line().as_str(), "units");
        assert_eq!(input.take_line().as_str(), "");
    }

    #[test]
    fn noise_and_what_does_not_fit_are_ignored() {
        let (mut input, _) = typed("\x7f\x00\x1bab\u{e9}");
        assert_eq!(input.take_line().as_str(), "ab");
        let (mut input, _) = typed(&"x".repeat(BYTES + 5));
        assert_eq!(input.take_line().len(), BYTES);
    }
}
