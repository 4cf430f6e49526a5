//! Programs that log, by the names that the report gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use defmt_decoder::{Locations, Table};

/// What decodes a program's frames.
pub(crate) struct Program {
    pub(super) name: String,
    /// `None` for a program that logs nothing, or cannot be understood.
    pub(super) table: Option<Table>,
    pub(super) locations: Locations,
}

/// Every program that may be in a boot.
pub(crate) struct Programs {
    /// Paths of source files are shown relative to this.
    root: PathBuf,
    programs: BTreeMap<String, Program>,
    silent: BTreeSet<String>,
}

impl Programs {
    /// Reads the ELF files of programs.
    pub(crate) fn load<'a>(
        root: &Path,
        files: impl IntoIterator<Item = (&'a str, &'a Path)>,
    ) -> Result<Self> {
        let mut programs = Self::new(root);
        for (name, file) in files {
            let elf =
                std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            programs
                .add(name, &elf)
                .with_context(|| format!("cannot read the log table of {}", file.display()))?;
        }
        Ok(programs)
    }

    /// No program, of the workspace at `root`.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            programs: BTreeMap::new(),
            silent: BTreeSet::new(),
        }
    }

    /// What paths of source files are shown relative to.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Adds one program by the content of its ELF file.
    pub(super) fn add(&mut self, name: &str, elf: &[u8]) -> Result<()> {
        let table = Table::parse(elf)?;
        let locations = match &table {
            Some(table) => table.get_locations(elf)?,
            None => Locations::new(),
        };
        self.programs.insert(
            name.to_owned(),
            Program {
                name: name.to_owned(),
                table,
                locations,
            },
        );
        Ok(())
    }

    /// Adds a program that is known to log nothing.
    pub(crate) fn add_silent(&mut self, name: &str) {
        self.silent.insert(name.to_owned());
    }

    /// Whether a program is known to log nothing.
    pub(super) fn is_silent(&self, name: &str) -> bool {
        self.silent.contains(name)
    }

    /// The program of a name.
    pub(super) fn find(&self, name: &str) -> Option<&Program> {
        self.programs.get(name)
    }
}
