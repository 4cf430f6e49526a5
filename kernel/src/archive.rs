//! The boot module: a tar archive with guest programs and perhaps a canned DMAR.

use core::fmt;
use tar_no_std::TarArchiveRef;

/// The boot module's files.
#[derive(Clone, Copy)]
pub struct Archive<'a> {
    /// `None` if there was no module.
    tar: Option<&'a [u8]>,
}

/// The module is not a tar archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAnArchive;

impl fmt::Display for NotAnArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the boot module is not a tar archive")
    }
}

impl<'a> Archive<'a> {
    /// For a start without a module.
    pub const EMPTY: Self = Self { tar: None };

    /// An archive over the module's bytes.
    pub fn new(module: &'a [u8]) -> Result<Self, NotAnArchive> {
        TarArchiveRef::new(module).map_err(|_| NotAnArchive)?;
        Ok(Self { tar: Some(module) })
    }

    /// The content of the file of this name.
    pub fn file(&self, name: &str) -> Option<&'a [u8]> {
        self.files()
            .find(|(file, _)| file.as_str() == Ok(name))
            .map(|(_, data)| data)
    }

    /// Calls `visit` with each file's name. Names that are not UTF-8 are left out.
    pub fn for_each_name(&self, mut visit: impl FnMut(&str)) {
        for (name, _) in self.files() {
            if let Ok(name) = name.as_str() {
                visit(name);
            }
        }
    }

    fn files(&self) -> impl Iterator<Item = (tar_no_std::TarFormatString<256>, &'a [u8])> {
        self.tar
            .and_then(|tar| TarArchiveRef::new(tar).ok())
            .into_iter()
            .flat_map(|archive| {
                archive
                    .entries()
                    .map(|entry| (entry.filename(), entry.data()))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// A ustar archive of one file.
    fn tar(name: &str, content: &[u8]) -> Vec<u8> {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        let size = std::format!("{:011o}\0", content.len());
        header[124..136].copy_from_slice(size.as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        let sum = std::format!("{sum:06o}\0 ");
        header[148..156].copy_from_slice(sum.as_bytes());
        let mut bytes = Vec::from(header);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
        bytes
    }

    #[test]
    fn a_file_is_found_by_its_whole_name() {
        let bytes = tar("guest/nested-bind.elf", b"\x7fELF");
        let archive = Archive::new(&bytes).unwrap();
        assert_eq!(archive.file("guest/nested-bind.elf"), Some(&b"\x7fELF"[..]));
        assert_eq!(archive.file("guest/nested-bind"), None);
        assert_eq!(archive.file("nested-bind.elf"), None);
    }

    #[test]
    fn rubbish_is_no_archive() {
        assert!(Archive::new(&[0x5a; 700]).is_err());
    }

    #[test]
    fn without_a_module_there_are_no_files() {
        assert_eq!(Archive::EMPTY.file("dmar.bin"), None);
    }
}
