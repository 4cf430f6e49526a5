//! The sources that a result was seen with, as one number: files of the workspace and what
//! stands in them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What cannot change the outcome of a test or of a mutant, at the top of the workspace.
const WITHOUT: &[&str] = &[
    ".ci",
    ".gitignore",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "docs",
];

/// Of the lists of mutants, each result names the entry that it is of.
const MUTANTS: &str = "qemu-tests/mutants";

/// The hash of all sources of the workspace at `root`, but for documents and lists of mutants.
pub(crate) fn hash(root: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in counted(root)? {
        feed(&mut hasher, root, &file)?;
    }
    Ok(shown(&hasher))
}

fn counted(root: &Path) -> Result<impl Iterator<Item = PathBuf>> {
    let without = |file: &PathBuf| {
        file.starts_with(MUTANTS) || WITHOUT.iter().any(|name| file.starts_with(name))
    };
    Ok(files(root)?.into_iter().filter(move |file| !without(file)))
}

fn feed(hasher: &mut DefaultHasher, root: &Path, file: &Path) -> Result<()> {
    let content = read(&root.join(file))?;
    hasher.write(file.as_os_str().as_encoded_bytes());
    hasher.write_u8(0);
    hasher.write_usize(content.len());
    hasher.write(&content);
    Ok(())
}

fn shown(hasher: &DefaultHasher) -> String {
    format!("{:016x}", hasher.finish())
}

/// The sources of a workspace, hashed crate by crate: what was seen of one crate holds for as
/// long as that crate, and what it is built from, stays as it was.
#[derive(Debug)]
pub(crate) struct Sources {
    whole: String,
    /// By the crates' directories, and `None` for what belongs to none.
    crates: BTreeMap<Option<PathBuf>, String>,
}

impl Sources {
    /// Reads them all; `directories` are those of the crates, from the root.
    pub(crate) fn of(root: &Path, directories: &BTreeSet<PathBuf>) -> Result<Self> {
        let mut hashers: BTreeMap<Option<PathBuf>, DefaultHasher> = BTreeMap::new();
        for file in counted(root)? {
            let owner = file
                .ancestors()
                .find(|directory| directories.contains(*directory))
                .map(Path::to_owned);
            feed(hashers.entry(owner).or_default(), root, &file)?;
        }
        Ok(Self {
            whole: hash(root)?,
            crates: hashers
                .into_iter()
                .map(|(owner, hasher)| (owner, shown(&hasher)))
                .collect(),
        })
    }

    /// The hash of everything.
    pub(crate) fn whole(&self) -> &str {
        &self.whole
    }

    /// The hash of some crates, and of what belongs to none.
    pub(crate) fn of_crates(&self, directories: &BTreeSet<PathBuf>) -> String {
        let mut text = format!("{:?}", self.crates.get(&None));
        for directory in directories {
            let hash = self.crates.get(&Some(directory.clone()));
            text.push_str(&format!("{} {hash:?}", directory.display()));
        }
        hash_of(&text)
    }
}

/// The hash of a text.
pub(crate) fn hash_of(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    format!("{:016x}", hasher.finish())
}

/// Every file of a workspace by its path within, in order: neither what git keeps for itself
/// nor what was built.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let shown = root.join(&directory);
        let entries = std::fs::read_dir(&shown)
            .with_context(|| format!("cannot read {}", shown.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if name == ".git" || name == "target" {
                continue;
            }
            let path = directory.join(&name);
            if entry.file_type()?.is_dir() {
                directories.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for (path, content) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn the_hash_follows_the_sources_and_nothing_else() {
        let root = workspace("hash", &[("drivers/a.rs", "1"), ("docs/a.md", "1")]);
        let first = hash(&root).unwrap();
        for other in [
            "docs/a.md",
            "target/x",
            ".git/x",
            "qemu-tests/mutants/a.toml",
        ] {
            let other = root.join(other);
            std::fs::create_dir_all(other.parent().unwrap()).unwrap();
            std::fs::write(other, "2").unwrap();
            assert_eq!(hash(&root).unwrap(), first);
        }
        std::fs::write(root.join("drivers/a.rs"), "2").unwrap();
        assert_ne!(hash(&root).unwrap(), first);
        std::fs::write(root.join("drivers/a.rs"), "1").unwrap();
        assert_eq!(hash(&root).unwrap(), first);
        std::fs::rename(root.join("drivers/a.rs"), root.join("drivers/b.rs")).unwrap();
        assert_ne!(hash(&root).unwrap(), first);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_crates_hash_follows_that_crate_and_what_belongs_to_none() {
        let root = workspace(
            "crates",
            &[("a/x.rs", "1"), ("b/x.rs", "1"), ("Cargo.lock", "1")],
        );
        let directories = |names: &[&str]| names.iter().map(PathBuf::from).collect();
        let all: BTreeSet<PathBuf> = directories(&["a", "b"]);
        let of = |names: &[&str]| {
            let sources = Sources::of(&root, &all).unwrap();
            sources.of_crates(&directories(names))
        };
        let before = [of(&["a"]), of(&["b"]), of(&["a", "b"])];
        std::fs::write(root.join("b/x.rs"), "2").unwrap();
        assert_eq!(of(&["a"]), before[0]);
        assert_ne!(of(&["b"]), before[1]);
        assert_ne!(of(&["a", "b"]), before[2]);
        std::fs::write(root.join("Cargo.lock"), "2").unwrap();
        assert_ne!(of(&["a"]), before[0]);
        std::fs::remove_dir_all(root).unwrap();
    }
}
