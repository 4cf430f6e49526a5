//! What an image takes when debug information and symbols are left away.

use std::path::Path;

use anyhow::{Context, Result};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf};

/// Bytes of the file that are loaded: the program headers and what PT_LOAD names.
pub(super) fn loaded(file: &Path) -> Result<u64> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    loaded_bytes(&bytes).with_context(|| format!("{} is no ELF file", file.display()))
}

fn loaded_bytes(bytes: &[u8]) -> Result<u64> {
    let header = elf::FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let headers = header.program_headers(endian, bytes)?;
    let table = u64::from(header.e_ehsize(endian)) + size_of_val(headers) as u64;
    Ok(headers
        .iter()
        .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
        .map(|segment| segment.p_filesz(endian))
        .fold(table, u64::saturating_add))
}

/// An ELF file up to the end of its segments, without a section table: what a loader reads.
pub(super) fn without_debug_information(mut file: Vec<u8>) -> Result<Vec<u8>> {
    /// Offsets of fields of the file header: section table, its entries, the names' index.
    const SECTIONS: std::ops::Range<usize> = 40..48;
    const SECTION_COUNTS: std::ops::Range<usize> = 58..64;
    let header = elf::FileHeader64::<Endianness>::parse(file.as_slice())?;
    let endian = header.endian()?;
    let end = header
        .program_headers(endian, file.as_slice())?
        .iter()
        .map(|header| {
            header
                .p_offset(endian)
                .saturating_add(header.p_filesz(endian))
        })
        .max()
        .context("it has no segments")?;
    file.truncate(usize::try_from(end)?);
    for field in [SECTIONS, SECTION_COUNTS] {
        file.get_mut(field).context("it has no header")?.fill(0);
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_elf_file_is_refused() {
        assert!(loaded_bytes(b"not an ELF file").is_err());
    }

    #[test]
    fn a_file_without_debug_information_has_the_same_segments() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let (whole, loaded) = (bytes.len(), loaded_bytes(&bytes).unwrap());
        let stripped = without_debug_information(bytes).unwrap();
        assert!(stripped.len() < whole);
        assert_eq!(loaded_bytes(&stripped).unwrap(), loaded);
        assert!(without_debug_information(b"not an ELF file".to_vec()).is_err());
    }

    #[test]
    fn our_own_image_takes_less_than_its_file() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let loaded = loaded_bytes(&bytes).unwrap();
        assert!(loaded > 10_000 && loaded < bytes.len() as u64);
    }
}
