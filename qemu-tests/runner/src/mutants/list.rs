//! The lists of mutants: `qemu-tests/mutants/*.toml`.
//!
//! ```toml
//! [[mutant]]
//! name = "unmapping-owes-nothing"
//! rows = ["I1"]                       # of docs/features.md and docs/origins.md
//! what = "…"                          # in one sentence, which mistake this would be
//! file = "drivers/vtd/src/….rs"
//! find = "…"                          # text that occurs exactly once
//! replace = "…"
//! also = [{ find = "…", replace = "…" }]   # if the mistake takes more than one place of the file
//! caught_by = ["vtd-model-platform::model::mapping::…"]   # each of these must fail
//! hangs = true                        # only if running into the time limit is how it is caught
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::behaviour;
use crate::features;
use crate::sources;
use crate::workspace::Workspace;

/// A seeded fault.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    pub(crate) name: String,
    /// Features that it breaks.
    pub(crate) rows: Vec<String>,
    pub(crate) what: String,
    /// From the workspace's root.
    pub(crate) file: PathBuf,
    pub(crate) find: String,
    pub(crate) replace: String,
    /// Further changes of the file, if the mistake takes more than one.
    #[serde(default)]
    pub(crate) also: Vec<Edit>,
    /// Tests of which each must fail: `PACKAGE::…` on the host, or `boot::NAME`.
    pub(crate) caught_by: Vec<String>,
    /// Running into the time limit counts as a failure.
    #[serde(default)]
    pub(crate) hangs: bool,
}

/// A change of a text.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// What occurs exactly once.
    find: String,
    replace: String,
}

/// Every mutant.
#[derive(Debug)]
pub(crate) struct List {
    mutants: Vec<Mutant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Area {
    #[serde(default)]
    mutant: Vec<Mutant>,
}

impl List {
    /// Reads all lists and holds them against the sources; the error names every mistake.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let directory = workspace.root().join("qemu-tests/mutants");
        let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
            .with_context(|| format!("cannot read {}", directory.display()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.retain(|file| {
            file.extension()
                .is_some_and(|extension| extension == "toml")
                && file.file_stem().is_some_and(|name| name != "survivors")
        });
        files.sort();
        let mut mutants = Vec::new();
        let mut mistakes = Vec::new();
        for file in files {
            let shown = shown(workspace.root(), &file);
            let text = std::fs::read_to_string(&file).with_context(|| shown.clone())?;
            let area: Area = toml::from_str(&text).with_context(|| shown.clone())?;
            for mutant in area.mutant {
                for mistake in mutant.mistakes(workspace.root()) {
                    mistakes.push(format!("{shown}: {}: {mistake}", mutant.name));
                }
                mutants.push(mutant);
            }
        }
        mistakes.extend(duplicates(&mutants));
        if !mistakes.is_empty() {
            bail!("the lists of mutants do not fit:\n{}", mistakes.join("\n"));
        }
        // Those of one crate one after the other: less is built anew.
        mutants.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(Self { mutants })
    }

    /// Those of these names, or whose names contain one of these words; all without any.
    pub(crate) fn select(&self, names: &[String]) -> Result<Vec<&Mutant>> {
        if names.is_empty() {
            return Ok(self.all().collect());
        }
        let mut selected = Vec::new();
        for name in names {
            let exact: Vec<_> = self.all().filter(|mutant| mutant.name == *name).collect();
            let found = if exact.is_empty() {
                self.all()
                    .filter(|mutant| mutant.name.contains(name))
                    .collect()
            } else {
                exact
            };
            if found.is_empty() {
                bail!("no mutant is called `{name}`, nor in part; see --list");
            }
            selected.extend(found);
        }
        selected.sort_by_key(|mutant| (&mutant.file, &mutant.name));
        selected.dedup_by_key(|mutant| &mutant.name);
        Ok(selected)
    }

    /// Every mutant, in the order in which they are tried.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Mutant> {
        self.mutants.iter()
    }
}

fn duplicates(mutants: &[Mutant]) -> Vec<String> {
    let mut count: BTreeMap<&str, u32> = BTreeMap::new();
    for mutant in mutants {
        *count.entry(&mutant.name).or_default() += 1;
    }
    count
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .map(|(name, count)| format!("{name}: {count} mutants have this name"))
        .collect()
}

impl Mutant {
    /// A hash of what it does and of what must notice it.
    pub(crate) fn entry(&self) -> String {
        sources::hash_of(&format!("{self:?}"))
    }

    /// The file's text with the fault in it.
    pub(crate) fn applied_to(&self, text: &str) -> Result<String, String> {
        let mut changed = self.one(text, &self.find, &self.replace)?;
        for edit in &self.also {
            changed = self.one(&changed, &edit.find, &edit.replace)?;
        }
        Ok(changed)
    }

    fn one(&self, text: &str, find: &str, replace: &str) -> Result<String, String> {
        let lines: Vec<String> = text
            .match_indices(find)
            .map(|(at, _)| (text[..at].matches('\n').count() + 1).to_string())
            .collect();
        let file = self.file.display();
        match lines.len() {
            1 => Ok(text.replacen(find, replace, 1)),
            0 => Err(format!(
                "`{find}` does not occur in {file}; look how the code reads now"
            )),
            count => Err(format!(
                "`{find}` occurs {count} times in {file}, in lines {}; make it longer",
                lines.join(", ")
            )),
        }
    }

    fn mistakes(&self, root: &Path) -> Vec<String> {
        let mut mistakes = Vec::new();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            mistakes.push("a name is made of small letters, digits and hyphens".to_owned());
        }
        if self.what.trim().is_empty() {
            mistakes.push("`what` must say which mistake this would be".to_owned());
        }
        if self.rows.is_empty() {
            mistakes.push("`rows` must name the features that it breaks".to_owned());
        }
        for row in &self.rows {
            if !features::is_row(row) {
                mistakes.push(format!("there is no feature {row}"));
            }
        }
        if self.caught_by.is_empty() {
            mistakes.push("`caught_by` must name a test".to_owned());
        }
        for test in &self.caught_by {
            if let Some(why) = behaviour::objection(test) {
                mistakes.push(format!("`{test}` is no test of behaviour: {why}"));
            }
        }
        if self.find == self.replace {
            mistakes.push("`replace` changes nothing".to_owned());
        }
        match std::fs::read_to_string(root.join(&self.file)) {
            Ok(text) => mistakes.extend(self.applied_to(&text).err()),
            Err(error) => mistakes.push(format!("{}: {error}", self.file.display())),
        }
        mistakes
    }
}

fn shown(root: &Path, file: &Path) -> String {
    file.strip_prefix(root)
        .unwrap_or(file)
        .display()
        .to_string()
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.name, self.rows.join(", "))?;
        writeln!(f, "    {}", self.what)?;
        writeln!(f, "    in {}", self.file.display())?;
        write!(f, "    caught by {}", self.caught_by.join(", "))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A mutant in `drivers/a.rs` that a test on the host must notice.
    pub(crate) fn mutant(name: &str, find: &str) -> Mutant {
        Mutant {
            name: name.to_owned(),
            rows: vec!["I1".to_owned()],
            what: "A mistake.".to_owned(),
            file: "drivers/a.rs".into(),
            find: find.to_owned(),
            replace: "nothing".to_owned(),
            also: Vec::new(),
            caught_by: vec!["vtd-model-platform::model::a".to_owned()],
            hangs: false,
        }
    }

    fn workspace(name: &str, list: &str) -> Workspace {
        let root = std::env::temp_dir().join(format!("xtask-list-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("qemu-tests/mutants")).unwrap();
        std::fs::create_dir_all(root.join("drivers")).unwrap();
        std::fs::write(root.join("drivers/a.rs"), "one\ntwo\ntwo\n").unwrap();
        std::fs::write(root.join("qemu-tests/mutants/a.toml"), list).unwrap();
        Workspace::at(&root)
    }

    fn entry(change: &str, to: &str) -> String {
        let good = r#"
[[mutant]]
name = "a-b"
rows = ["I1"]
what = "A mistake."
file = "drivers/a.rs"
find = "one"
replace = "three"
caught_by = ["vtd-model-platform::model::a"]
"#;
        assert!(change.is_empty() || good.contains(change));
        good.replacen(change, to, 1)
    }

    fn read(name: &str, text: &str) -> Result<List> {
        let workspace = workspace(name, text);
        let list = List::read(&workspace);
        std::fs::remove_dir_all(workspace.root()).unwrap();
        list
    }

    #[test]
    fn the_lists_fit_the_sources_as_they_are() {
        let list = List::read(&Workspace::find().unwrap()).unwrap();
        assert!(list.all().count() >= 40);
    }

    #[test]
    fn a_sound_entry_is_read() {
        let list = read("sound", &entry("", "")).unwrap();
        assert_eq!(list.all().next().unwrap().name, "a-b");
    }

    #[test]
    fn each_mistake_in_an_entry_is_named() {
        for (number, (change, to, named)) in [
            (
                "\"one\"",
                "\"two\"",
                "occurs 2 times in drivers/a.rs, in lines 2, 3",
            ),
            ("\"one\"", "\"four\"", "does not occur"),
            ("\"three\"", "\"one\"", "changes nothing"),
            ("\"I1\"", "\"I99\"", "no feature I99"),
            ("\"I1\"", "", "must name the features"),
            ("a-b", "A B", "small letters"),
            ("drivers/a.rs", "drivers/b.rs", "drivers/b.rs"),
            ("\"vtd-model-platform::model::a\"", "", "must name a test"),
            (
                "vtd-model-platform::model::a",
                "vtd::golden::a",
                "no test of behaviour",
            ),
            ("rows", "cols", "unknown field"),
        ]
        .into_iter()
        .enumerate()
        {
            let error = read(&format!("bad-{number}"), &entry(change, to)).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(named), "{change} -> {to}: {error}");
        }
    }

    #[test]
    fn two_mutants_of_one_name_are_refused() {
        let error = read("twice", &entry("", "").repeat(2)).unwrap_err();
        assert!(error.to_string().contains("2 mutants have this name"));
    }

    #[test]
    fn a_whole_name_means_one_mutant_and_a_part_all_that_contain_it() {
        let list = List {
            mutants: ["fence", "fence-late", "wait"]
                .map(|name| mutant(name, "one"))
                .to_vec(),
        };
        let names = |words: &[&str]| -> Vec<String> {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            let selected = list.select(&words).unwrap();
            selected.iter().map(|mutant| mutant.name.clone()).collect()
        };
        assert_eq!(names(&["fence"]), ["fence"]);
        assert_eq!(names(&["fen"]), ["fence", "fence-late"]);
        assert_eq!(names(&["wait", "late", "wait"]), ["fence-late", "wait"]);
        assert_eq!(names(&[]).len(), 3);
        assert!(list.select(&["none".to_owned()]).is_err());
    }

    #[test]
    fn a_fault_stands_in_the_place_of_the_text_that_it_replaces() {
        let mutant = mutant("a", "two");
        assert_eq!(
            mutant.applied_to("one two three").unwrap(),
            "one nothing three"
        );
    }

    #[test]
    fn further_changes_follow_and_must_fit_as_well() {
        let mut mutant = mutant("a", "two");
        let edit = |find: &str| Edit {
            find: find.to_owned(),
            replace: "four".to_owned(),
        };
        mutant.also.push(edit("three"));
        assert_eq!(
            mutant.applied_to("one two three").unwrap(),
            "one nothing four"
        );
        mutant.also.push(edit("three"));
        assert!(mutant.applied_to("one two three").is_err());
    }
}
