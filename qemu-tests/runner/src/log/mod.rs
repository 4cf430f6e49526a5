//! Logs: `defmt` frames of several programs, each decoded by its own ELF file.

#[cfg(test)]
pub(crate) mod fixture;
mod line;
mod places;
mod program;
mod stream;

pub(crate) use line::{LogLine, Style};
pub(crate) use places::explain;
pub(crate) use program::Programs;
pub(crate) use stream::Streams;
