//! What became of mutants: `target/mutants/results.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::list::Mutant;
use crate::host::TestTargets;
use crate::results;
use crate::sources::{self, Sources};
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
    /// Hash of the sources of its tests.
    sources: String,
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    pub(crate) seconds: f64,
}

impl Tried {
    pub(crate) fn new(mutant: &Mutant, sources: String, verdict: Verdict, took: Duration) -> Self {
        Self {
            name: mutant.name.clone(),
            rows: mutant.rows.clone(),
            file: mutant.file.clone(),
            entry: mutant.entry(),
            sources,
            verdict,
            seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
        }
    }

    pub(crate) fn is_caught(&self) -> bool {
        matches!(self.verdict, Verdict::Caught { .. })
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

/// What became of all that were tried, each in the sources that it names.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    mutants: BTreeMap<String, Tried>,
}

impl Record {
    /// What is known.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let file = file(workspace);
        if !file.exists() {
            return Ok(Self::default());
        }
        // What another version of this program wrote says nothing.
        Ok(serde_json::from_slice(&sources::read(&file)?).unwrap_or_default())
    }

    pub(super) fn write(&self, workspace: &Workspace) -> Result<()> {
        results::write(&file(workspace), &serde_json::to_string_pretty(self)?)
    }

    pub(crate) fn add(&mut self, tried: Tried) {
        self.mutants.insert(tried.name.clone(), tried);
    }

    /// What became of a mutant as it stands in the list, in these sources of its tests.
    pub(crate) fn of(&self, mutant: &Mutant, sources: &str) -> Option<&Tried> {
        self.mutants
            .get(&mutant.name)
            .filter(|tried| tried.entry == mutant.entry() && tried.sources == sources)
    }

    pub(super) fn has_caught(&self, mutant: &Mutant, sources: &str) -> bool {
        self.of(mutant, sources).is_some_and(Tried::is_caught)
    }
}

/// The hash of the sources that decide what becomes of a mutant: of the crates that its tests
/// are built from, or of everything, if one of them boots.
pub(crate) fn sources_of(mutant: &Mutant, targets: &TestTargets, sources: &Sources) -> String {
    let mut directories = BTreeSet::new();
    for test in &mutant.caught_by {
        match targets.resolve(test) {
            Ok((target, _)) => directories.extend(targets.built_from(&target.package)),
            Err(_) => return sources.whole().to_owned(),
        }
    }
    sources.of_crates(&directories)
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

    fn tried(mutant: &Mutant, sources: &str, verdict: Verdict) -> Tried {
        Tried::new(
            mutant,
            sources.to_owned(),
            verdict,
            Duration::from_millis(1234),
        )
    }

    #[test]
    fn what_is_recorded_holds_for_the_same_sources_and_the_same_entry() {
        let root = std::env::temp_dir().join(format!("xtask-record-{}", std::process::id()));
        let workspace = Workspace::at(&root);
        let mut record = Record::read(&workspace).unwrap();
        let known = mutant("a", "one");
        assert!(!record.has_caught(&known, "1"));
        record.add(tried(&known, "1", caught()));
        record.write(&workspace).unwrap();
        let read = Record::read(&workspace).unwrap();
        assert_eq!(read, record);
        assert!(read.has_caught(&known, "1"));
        let found = read.of(&known, "1").unwrap();
        assert_eq!(found.caught_by().collect::<Vec<_>>(), ["t"]);
        assert!(!read.has_caught(&mutant("a", "other text"), "1"));
        assert!(!read.has_caught(&known, "2"));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn one_that_survived_is_known_and_not_caught() {
        let mut record = Record::default();
        let known = mutant("a", "one");
        let survived = Verdict::Survived {
            test: "t".to_owned(),
        };
        record.add(tried(&known, "1", survived));
        assert!(record.of(&known, "1").is_some() && !record.has_caught(&known, "1"));
    }
}
