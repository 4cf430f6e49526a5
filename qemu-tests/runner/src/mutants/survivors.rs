//! Why some changes of `cargo-mutants` survive: `qemu-tests/mutants/survivors.toml`.
//!
//! ```toml
//! [[survivor]]
//! file = "drivers/….rs"
//! change = "replace … with …"       # as cargo-mutants says it, without the place
//! why = "…"                         # why no test of behaviour can notice it
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace::Workspace;

/// All of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Survivors {
    #[serde(default)]
    survivor: Vec<Survivor>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Survivor {
    file: PathBuf,
    change: String,
    why: String,
}

impl Survivors {
    pub(super) fn read(workspace: &Workspace) -> Result<Self> {
        let file = workspace.root().join("qemu-tests/mutants/survivors.toml");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| file.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let all: Self = toml::from_str(text)?;
        for survivor in &all.survivor {
            if survivor.why.trim().is_empty() {
                bail!("`{}` gives no reason", survivor.change);
            }
        }
        Ok(all)
    }

    /// Why a change of a file survives, if it is known to.
    pub(super) fn reason(&self, file: &Path, change: &str) -> Option<&str> {
        self.survivor
            .iter()
            .find(|known| known.file == file && known.change == change)
            .map(|known| known.why.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[survivor]]\nfile = \"a.rs\"\nchange = \"x\"\nwhy = \"equal\"\n";

    #[test]
    fn a_listed_change_of_that_file_is_explained_and_no_other() {
        let all = Survivors::parse(ONE).unwrap();
        assert_eq!(all.reason(Path::new("a.rs"), "x"), Some("equal"));
        assert_eq!(all.reason(Path::new("b.rs"), "x"), None);
        assert_eq!(all.reason(Path::new("a.rs"), "y"), None);
    }

    #[test]
    fn a_survivor_without_a_reason_is_refused() {
        assert!(Survivors::parse(&ONE.replace("equal", " ")).is_err());
        assert!(Survivors::parse("").is_ok());
    }
}
