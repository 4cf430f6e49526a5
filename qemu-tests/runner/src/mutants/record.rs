//! What became of mutants: `target/mutants/results.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::list::Mutant;
use crate::results;
use crate::sources;
use crate::workspace::Workspace;

/// What became of a mutant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// Every test that is named failed.
    Caught { by: Vec<Catch> },
    /// This one passed.
    Survived { test: String },
    /// This one ran into its time limit, which the entry does not announce.
    Hung { test: String },
    /// The fault is none: it does not even compile.
    NotBuilt { why: String },
}

/// A test that failed, and what it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catch {
    pub(crate) test: String,
    pub(crate) said: String,
}

/// A mutant that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tried {
    pub(crate) name: String,
    pub(crate) rows: Vec<String>,
    pub(crate) file: PathBuf,
    /// Hash of its entry in the list.
    entry: String,
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    pub(crate) seconds: f64,
}

impl Tried {
    pub(crate) fn new(mutant: &Mutant, verdict: Verdict, took: Duration) -> Self {
        Self {
            name: mutant.name.clone(),
            rows: mutant.rows.clone(),
            file: mutant.file.clone(),
            entry: mutant.entry(),
            verdict,
            seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
        }
    }

    pub(crate) fn is_caught(&self) -> bool {
        matches!(self.verdict, Verdict::Caught { .. })
    }

    /// Whether it is this mutant, as it stands in the list.
    pub(crate) fn is_of(&self, mutant: &Mutant) -> bool {
        self.name == mutant.name && self.entry == mutant.entry()
    }

    /// The tests that noticed.
    pub(crate) fn caught_by(&self) -> impl Iterator<Item = &str> {
        let by = match &self.verdict {
            Verdict::Caught { by } => by.as_slice(),
            _ => &[],
        };
        by.iter().map(|catch| catch.test.as_str())
    }
}

/// What became of all that were tried in the same sources.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    sources: String,
    mutants: BTreeMap<String, Tried>,
}

impl Record {
    /// What is known of these sources.
    pub(crate) fn read(workspace: &Workspace, sources: &str) -> Result<Self> {
        let nothing = Self {
            sources: sources.to_owned(),
            mutants: BTreeMap::new(),
        };
        let file = file(workspace);
        if !file.exists() {
            return Ok(nothing);
        }
        // What another version of this program wrote is of other sources.
        let found: Option<Self> = serde_json::from_slice(&sources::read(&file)?).ok();
        Ok(found
            .filter(|found| found.sources == sources)
            .unwrap_or(nothing))
    }

    pub(super) fn write(&self, workspace: &Workspace) -> Result<()> {
        results::write(&file(workspace), &serde_json::to_string_pretty(self)?)
    }

    pub(crate) fn add(&mut self, tried: Tried) {
        self.mutants.insert(tried.name.clone(), tried);
    }

    /// What became of a mutant as it stands in the list.
    pub(crate) fn of(&self, mutant: &Mutant) -> Option<&Tried> {
        let tried = self.mutants.get(&mutant.name)?;
        tried.is_of(mutant).then_some(tried)
    }

    pub(super) fn has_caught(&self, mutant: &Mutant) -> bool {
        self.of(mutant).is_some_and(Tried::is_caught)
    }
}

fn file(workspace: &Workspace) -> PathBuf {
    workspace.target().join("mutants/results.json")
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::mutant;
    use super::*;

    fn caught() -> Verdict {
        Verdict::Caught {
            by: vec![Catch {
                test: "t".to_owned(),
                said: "why".to_owned(),
            }],
        }
    }

    #[test]
    fn what_is_recorded_holds_for_the_same_sources_and_the_same_entry() {
        let root = std::env::temp_dir().join(format!("xtask-record-{}", std::process::id()));
        let workspace = Workspace::at(&root);
        let mut record = Record::read(&workspace, "1").unwrap();
        let known = mutant("a", "one");
        assert!(!record.has_caught(&known));
        record.add(Tried::new(&known, caught(), Duration::from_millis(1234)));
        record.write(&workspace).unwrap();
        let read = Record::read(&workspace, "1").unwrap();
        assert_eq!(read, record);
        assert!(read.has_caught(&known));
        assert_eq!(
            read.of(&known).unwrap().caught_by().collect::<Vec<_>>(),
            ["t"]
        );
        assert!(!read.has_caught(&mutant("a", "other text")));
        assert!(!Record::read(&workspace, "2").unwrap().has_caught(&known));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn one_that_survived_is_known_and_not_caught() {
        let mut record = Record::default();
        let known = mutant("a", "one");
        let survived = Verdict::Survived {
            test: "t".to_owned(),
        };
        record.add(Tried::new(&known, survived, Duration::ZERO));
        assert!(record.of(&known).is_some() && !record.has_caught(&known));
    }
}
