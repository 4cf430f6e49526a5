//! Copies of the workspace in which faults can stand, kept from run to run so that only what
//! changed is built anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::sources;
use crate::workspace::Workspace;

/// A copy that is equal to the workspace, but for a fault while it is tried.
#[derive(Debug)]
pub(super) struct Scratch {
    workspace: Workspace,
}

impl Scratch {
    /// The copy of this number, brought up to date.
    pub(super) fn prepare(original: &Workspace, number: usize) -> Result<Self> {
        let root = original.target().join(format!("mutants/{number}"));
        update(original.root(), &root)?;
        let workspace = Workspace::at(&root);
        seed(original.target(), workspace.target())?;
        link(
            &original.target().join("qemu"),
            &workspace.target().join("qemu"),
        )?;
        Ok(Self { workspace })
    }

    /// The copy for the sweep, in which little is built, and that as small as it gets: nothing
    /// is taken over.
    pub(super) fn for_sweep(original: &Workspace) -> Result<Self> {
        let root = original.target().join("mutants/sweep");
        update(original.root(), &root)?;
        Ok(Self {
            workspace: Workspace::at(&root),
        })
    }

    /// A further copy, which takes over what the first one built.
    pub(super) fn beside(original: &Workspace, first: &Self, number: usize) -> Result<Self> {
        let target = original.target().join(format!("mutants/{number}/target"));
        seed(first.workspace.target(), &target)?;
        Self::prepare(original, number)
    }

    pub(super) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Does something while a file reads otherwise.
    pub(super) fn changed<T>(
        &self,
        file: &Path,
        change: impl FnOnce(&str) -> Result<String>,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let file = self.workspace.root().join(file);
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let write = |text: &str| {
            std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
        };
        write(&change(&text)?)?;
        let result = act();
        write(&text)?;
        result
    }
}

/// Makes a copy equal to the original, and touches only what differs.
fn update(original: &Path, copy: &Path) -> Result<()> {
    std::fs::create_dir_all(copy).with_context(|| format!("cannot create {}", copy.display()))?;
    let files = sources::files(original)?;
    for gone in sources::files(copy)? {
        if files.binary_search(&gone).is_err() {
            std::fs::remove_file(copy.join(gone))?;
        }
    }
    for file in files {
        let content = sources::read(&original.join(&file))?;
        let target = copy.join(&file);
        if std::fs::read(&target).is_ok_and(|there| there == content) {
            continue;
        }
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&target, content)
            .with_context(|| format!("cannot write {}", target.display()))?;
    }
    Ok(())
}

/// Takes over what was built elsewhere, if nothing was built here: cargo then builds our own
/// crates only, whose place has changed.
fn seed(from: &Path, target: &Path) -> Result<()> {
    let built = target.join("debug");
    if built.exists() || !from.join("debug/deps").exists() {
        return Ok(());
    }
    // Under another name until it is whole.
    let partial = target.join("seed");
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial)?;
    for name in ["deps", "build", ".fingerprint"] {
        let directory = from.join("debug").join(name);
        if directory.exists() {
            // Cargo looks at times, which `cp -a` keeps.
            command::succeed(Command::new("cp").arg("-a").arg(directory).arg(&partial))
                .context("cannot copy what was built")?;
        }
    }
    std::fs::rename(&partial, &built).with_context(|| format!("cannot create {}", built.display()))
}

/// QEMU is the same for all copies.
fn link(original: &PathBuf, link: &PathBuf) -> Result<()> {
    if link.is_symlink() || !original.exists() {
        return Ok(());
    }
    if let Some(parent) = link.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::os::unix::fs::symlink(original, link)
        .with_context(|| format!("cannot create {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original(name: &str) -> Workspace {
        let root = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("drivers/x/src")).unwrap();
        std::fs::write(root.join("drivers/x/src/a.rs"), "a").unwrap();
        std::fs::write(root.join("drivers/x/src/b.rs"), "b").unwrap();
        Workspace::at(&root)
    }

    #[test]
    fn a_copy_follows_the_workspace_and_keeps_what_did_not_change() {
        let workspace = original("scratch");
        let scratch = Scratch::prepare(&workspace, 0).unwrap();
        let copied = |name: &str| scratch.workspace().root().join("drivers/x/src").join(name);
        let before = std::fs::metadata(copied("b.rs"))
            .unwrap()
            .modified()
            .unwrap();
        let source = workspace.root().join("drivers/x/src");
        std::fs::write(source.join("a.rs"), "aa").unwrap();
        std::fs::write(source.join("c.rs"), "c").unwrap();
        std::fs::write(copied("left.rs"), "of a test").unwrap();
        let hash = || sources::hash(scratch.workspace().root()).unwrap();
        assert_ne!(hash(), sources::hash(workspace.root()).unwrap());
        Scratch::prepare(&workspace, 0).unwrap();
        assert_eq!(hash(), sources::hash(workspace.root()).unwrap());
        assert_eq!(std::fs::read_to_string(copied("a.rs")).unwrap(), "aa");
        assert!(copied("c.rs").exists() && !copied("left.rs").exists());
        let after = std::fs::metadata(copied("b.rs"))
            .unwrap()
            .modified()
            .unwrap();
        assert_eq!(before, after);
        std::fs::remove_dir_all(workspace.root()).unwrap();
    }

    #[test]
    fn a_fault_stands_only_while_it_is_tried() {
        let workspace = original("fault");
        let scratch = Scratch::prepare(&workspace, 0).unwrap();
        let file = Path::new("drivers/x/src/a.rs");
        let there = || std::fs::read_to_string(scratch.workspace().root().join(file)).unwrap();
        let seen = scratch
            .changed(file, |text| Ok(format!("{text}!")), || Ok(there()))
            .unwrap();
        assert_eq!(seen, "a!");
        assert_eq!(there(), "a");
        let failed: Result<()> =
            scratch.changed(file, |_| Ok(String::new()), || anyhow::bail!("no"));
        assert!(failed.is_err());
        assert_eq!(there(), "a");
        assert_eq!(
            std::fs::read_to_string(workspace.root().join(file)).unwrap(),
            "a"
        );
        std::fs::remove_dir_all(workspace.root()).unwrap();
    }
}
