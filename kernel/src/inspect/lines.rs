//! Text that comes in pieces, passed on line by line.

use crate::log::record::Line;
use core::fmt::{self, Write};

/// Collects pieces and passes on each line without its end. What does not fit a record is
/// cut off.
pub(crate) struct Lines<'a> {
    line: Line,
    tell: &'a mut dyn FnMut(&str),
}

impl<'a> Lines<'a> {
    pub(crate) fn new(tell: &'a mut dyn FnMut(&str)) -> Self {
        Self {
            line: Line::new(),
            tell,
        }
    }

    fn end_line(&mut self) {
        let line = core::mem::take(&mut self.line);
        if let Ok(text) = core::str::from_utf8(line.as_bytes()) {
            (self.tell)(text);
        }
    }
}

impl Write for Lines<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut parts = text.split('\n');
        if let Some(first) = parts.next() {
            let _ = self.line.write_str(first);
        }
        for part in parts {
            self.end_line();
            let _ = self.line.write_str(part);
        }
        Ok(())
    }
}
