//! Sentences in the log that are put together at run time. What is logged often, or from
//! interrupt handlers, has a `defmt` format of its own instead.

use arrayvec::ArrayString;
use core::fmt::{self, Write};

/// The longest sentence; what is beyond is cut off.
const BYTES: usize = 600;

fn text(sentence: fmt::Arguments<'_>) -> ArrayString<BYTES> {
    let mut text = Cut(ArrayString::new());
    let _ = text.write_fmt(sentence);
    text.0
}

struct Cut(ArrayString<BYTES>);

impl Write for Cut {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        for character in part.chars() {
            self.0.try_push(character).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

/// For everybody.
pub(super) fn info(sentence: fmt::Arguments<'_>) {
    defmt::info!("{=str}", text(sentence).as_str());
}

/// For whoever is to do something.
pub(super) fn warn(sentence: fmt::Arguments<'_>) {
    defmt::warn!("{=str}", text(sentence).as_str());
}

/// For who follows each step.
pub(super) fn debug(sentence: fmt::Arguments<'_>) {
    defmt::debug!("{=str}", text(sentence).as_str());
}
