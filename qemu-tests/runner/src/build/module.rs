//! The boot module: a tar archive of what the kernel shall have beside itself.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Artefacts;
use super::callers::CALLERS;

/// What goes into the archive.
#[derive(Debug, Clone, Default)]
pub(crate) struct BootModule {
    files: Vec<(String, Vec<u8>)>,
}

impl BootModule {
    /// Every guest program.
    pub(crate) fn of_guests(artefacts: &Artefacts) -> Result<Self> {
        let mut module = Self::default();
        for (name, file) in artefacts.guests() {
            module.add(&format!("guest/{name}.elf"), read(file)?);
        }
        Ok(module)
    }

    /// Guests that were built for each version of the interface.
    pub(crate) fn with_callers(mut self) -> Self {
        for caller in &CALLERS {
            self.add(&format!("{}.elf", caller.name), caller.image.to_vec());
        }
        self
    }

    /// A DMAR that stands in for the firmware's.
    pub(crate) fn with_dmar(mut self, table: Vec<u8>) -> Self {
        self.add("dmar.bin", table);
        self
    }

    /// A kernel to be started by the one that is booted.
    pub(crate) fn with_next(mut self, kernel: &Path) -> Result<Self> {
        let file = super::size::without_debug_information(read(kernel)?)
            .with_context(|| format!("cannot read {}", kernel.display()))?;
        self.add("next.elf", file);
        Ok(self)
    }

    /// Writes the archive; one without a file would be nothing but zeroes, and is none.
    pub(crate) fn write(&self, path: &Path) -> Result<Option<PathBuf>> {
        if self.files.is_empty() {
            return Ok(None);
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let bytes = self.archive().context("cannot pack the boot module")?;
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Some(path.to_owned()))
    }

    fn add(&mut self, name: &str, content: Vec<u8>) {
        self.files.push((name.to_owned(), content));
    }

    fn archive(&self) -> std::io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in &self.files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append_data(&mut header, name, content.as_slice())?;
        }
        archive.into_inner()
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_archive_holds_each_file_under_its_name() {
        let mut module = BootModule::default();
        module.add("guest/a.elf", vec![1; 700]);
        let bytes = module.with_dmar(b"DMAR".to_vec()).archive().unwrap();
        assert_eq!(bytes.len() % 512, 0);
        let mut found = Vec::new();
        let mut archive = tar::Archive::new(bytes.as_slice());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((entry.path().unwrap().display().to_string(), content.len()));
        }
        assert_eq!(
            found,
            [("guest/a.elf".to_owned(), 700), ("dmar.bin".to_owned(), 4)]
        );
    }
}
