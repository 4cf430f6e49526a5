//! Where things lie: the workspace's root and its build directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The workspace that this program was built from.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the workspace: by cargo's variables where cargo runs us, else where it built us.
    pub(crate) fn find() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .join("../..")
            .canonicalize()
            .with_context(|| format!("no workspace above {}", manifest.display()))?;
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => root.join(directory),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// A workspace in another directory, which builds below it.
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            target: root.join("target"),
        }
    }

    /// The directory of the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's build directory.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }
}
