//! How getting QEMU is shown: bars on a terminal, one line a step elsewhere.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One step of the work.
#[derive(Debug)]
pub(crate) struct Step {
    bar: ProgressBar,
}

impl Step {
    /// A step whose length is not known.
    pub(crate) fn waiting(text: &str) -> Self {
        Self::start(
            text,
            ProgressBar::new_spinner(),
            "{spinner} {msg} {elapsed}",
        )
    }

    /// A step of so many bytes.
    pub(crate) fn bytes(text: &str, total: u64) -> Self {
        Self::start(
            text,
            ProgressBar::new(total),
            "{spinner} {msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec}",
        )
    }

    /// A step of so many items.
    pub(crate) fn items(text: &str, total: u64) -> Self {
        Self::start(
            text,
            ProgressBar::new(total),
            "{spinner} {msg} [{wide_bar}] {pos}/{len}",
        )
    }

    fn start(text: &str, bar: ProgressBar, template: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            eprintln!("{text}");
        }
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// So much is done.
    pub(crate) fn at(&self, position: u64) {
        self.bar.set_position(position);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The bytes that lie in a directory's files, those of its subdirectories left out.
pub(crate) fn bytes_in(directory: &Path) -> u64 {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum()
}
