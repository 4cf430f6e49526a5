//! What became of tests, left under `target/results` for `cargo xtask features`: a file for
//! each command, with the sources that it saw.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::sources;
use crate::workspace::Workspace;

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// What one command saw.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Hash of the sources.
    pub(crate) sources: String,
    /// By names of tests, those of boots with the machine in brackets.
    pub(crate) tests: BTreeMap<String, Outcome>,
}

impl Results {
    /// Of a command that begins now.
    pub(crate) fn begin(workspace: &Workspace) -> Result<Self> {
        Ok(Self {
            sources: sources::hash(workspace.root())?,
            tests: BTreeMap::new(),
        })
    }

    /// Notes tests that ended alike.
    pub(crate) fn note<'n>(&mut self, names: impl IntoIterator<Item = &'n String>, as_: Outcome) {
        for name in names {
            self.tests.insert(name.clone(), as_);
        }
    }

    /// Keeps them as those of `command`, beside what it saw earlier of the same sources. If the
    /// sources changed meanwhile, nobody knows what was seen, and nothing is kept.
    pub(crate) fn keep(mut self, workspace: &Workspace, command: &str) -> Result<()> {
        if sources::hash(workspace.root())? != self.sources {
            eprintln!(
                "the sources changed while `cargo xtask {command}` ran: \
                 `cargo xtask features` will not count what it saw"
            );
            return Ok(());
        }
        let file = file(workspace, command);
        if let Some(earlier) = read(&file)?
            && earlier.sources == self.sources
        {
            for (name, outcome) in earlier.tests {
                self.tests.entry(name).or_insert(outcome);
            }
        }
        let text = serde_json::to_string_pretty(&self)?;
        write(&file, &text)
    }

    /// What all commands saw of these sources, and the names of commands whose results are of
    /// other sources.
    pub(crate) fn all(workspace: &Workspace, sources: &str) -> Result<(Self, Vec<String>)> {
        let mut all = Self {
            sources: sources.to_owned(),
            tests: BTreeMap::new(),
        };
        let mut others = Vec::new();
        let directory = directory(workspace);
        if !directory.exists() {
            return Ok((all, others));
        }
        for entry in std::fs::read_dir(&directory)? {
            let file = entry?.path();
            let Some(results) = read(&file)? else {
                continue;
            };
            if results.sources == sources {
                all.tests.extend(results.tests);
            } else if let Some(command) = file.file_stem() {
                others.push(command.to_string_lossy().into_owned());
            }
        }
        Ok((all, others))
    }
}

fn directory(workspace: &Workspace) -> PathBuf {
    workspace.target().join("results")
}

fn file(workspace: &Workspace, command: &str) -> PathBuf {
    directory(workspace).join(format!("{command}.json"))
}

fn read(file: &Path) -> Result<Option<Results>> {
    if !file.exists() {
        return Ok(None);
    }
    let text = sources::read(file)?;
    // What another version of this program wrote is of other sources.
    Ok(serde_json::from_slice(&text).ok())
}

/// Writes a file whole: one who reads it meanwhile finds the old one or the new one.
pub(crate) fn write(file: &Path, text: &str) -> Result<()> {
    let directory = file.parent().context("a file in a directory")?;
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let new = file.with_extension("new");
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, file))
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(name: &str) -> Workspace {
        let root = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("drivers")).unwrap();
        std::fs::write(root.join("drivers/a.rs"), "1").unwrap();
        Workspace::at(&root)
    }

    fn saw(workspace: &Workspace, name: &str, outcome: Outcome) {
        let mut results = Results::begin(workspace).unwrap();
        results.note([&name.to_owned()], outcome);
        results.keep(workspace, "test").unwrap();
    }

    #[test]
    fn what_was_seen_of_the_same_sources_adds_up_and_the_last_word_counts() {
        let workspace = workspace("results");
        saw(&workspace, "a::x", Outcome::Failed);
        saw(&workspace, "a::y", Outcome::Passed);
        saw(&workspace, "a::x", Outcome::Passed);
        let sources = sources::hash(workspace.root()).unwrap();
        let (all, others) = Results::all(&workspace, &sources).unwrap();
        assert_eq!(all.tests["a::x"], Outcome::Passed);
        assert_eq!(all.tests.len(), 2);
        assert!(others.is_empty());
        std::fs::remove_dir_all(workspace.root()).unwrap();
    }

    #[test]
    fn what_was_seen_of_other_sources_does_not_count() {
        let workspace = workspace("other-results");
        saw(&workspace, "a::x", Outcome::Passed);
        let source = workspace.root().join("drivers/a.rs");
        std::fs::write(&source, "2").unwrap();
        let sources = sources::hash(workspace.root()).unwrap();
        let (all, others) = Results::all(&workspace, &sources).unwrap();
        assert!(all.tests.is_empty());
        assert_eq!(others, ["test"]);
        saw(&workspace, "a::y", Outcome::Passed);
        let (all, _) = Results::all(&workspace, &sources).unwrap();
        assert_eq!(all.tests.keys().collect::<Vec<_>>(), ["a::y"]);
        std::fs::remove_dir_all(workspace.root()).unwrap();
    }

    #[test]
    fn results_of_sources_that_changed_meanwhile_are_not_kept() {
        let workspace = workspace("changed-results");
        let results = Results::begin(&workspace).unwrap();
        std::fs::write(workspace.root().join("drivers/a.rs"), "2").unwrap();
        results.keep(&workspace, "test").unwrap();
        assert!(!directory(&workspace).exists());
        std::fs::remove_dir_all(workspace.root()).unwrap();
    }
}
