//! The sources that a result was seen with, as one number: files of the workspace and what
//! stands in them.

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
    for file in files(root)? {
        let without = WITHOUT.iter().any(|name| file.starts_with(name));
        if without || file.starts_with(MUTANTS) {
            continue;
        }
        let content = read(&root.join(&file))?;
        hasher.write(file.as_os_str().as_encoded_bytes());
        hasher.write_u8(0);
        hasher.write_usize(content.len());
        hasher.write(&content);
    }
    Ok(format!("{:016x}", hasher.finish()))
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
}
