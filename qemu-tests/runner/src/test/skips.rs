//! The checked-in list of tests that may be skipped, with the reason for each.
//!
//! `qemu-tests/skips.txt`: a line `PATTERN: REASON` for each; a pattern is a case's name, in
//! which `*` stands for anything. Lines that begin with `#` are comments.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// The list.
#[derive(Debug, Default)]
pub(crate) struct AllowedSkips {
    entries: Vec<(String, String)>,
}

impl AllowedSkips {
    /// Reads it from the workspace.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let file = workspace.root().join("qemu-tests/skips.txt");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| shown(&file))
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut entries = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(": ") {
                Some((pattern, reason)) if !reason.trim().is_empty() => {
                    entries.push((pattern.trim().to_owned(), reason.trim().to_owned()));
                }
                _ => bail!("`{line}` gives no reason"),
            }
        }
        Ok(Self { entries })
    }

    /// The reason why a test may be skipped, if it may.
    pub(crate) fn reason(&self, name: &str) -> Option<&str> {
        self.entries
            .iter()
            .find(|(pattern, _)| fits(pattern, name))
            .map(|(_, reason)| reason.as_str())
    }
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}

/// Whether a name has the form of a pattern.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len())
                .filter(|&at| tail.is_char_boundary(at))
                .any(|at| fits(rest, &tail[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_test_may_be_skipped_for_its_reason() {
        let list = AllowedSkips::parse("# comment\n\na[*,10.0,*]: too old\nb: never\n").unwrap();
        assert_eq!(list.reason("a[legacy,10.0,aw48]"), Some("too old"));
        assert_eq!(list.reason("a[legacy,11.1,aw48]"), None);
        assert_eq!(list.reason("b"), Some("never"));
        assert_eq!(list.reason("bb"), None);
    }

    #[test]
    fn an_entry_without_a_reason_is_refused() {
        assert!(AllowedSkips::parse("a[*]").is_err());
        assert!(AllowedSkips::parse("a[*]: ").is_err());
    }
}
