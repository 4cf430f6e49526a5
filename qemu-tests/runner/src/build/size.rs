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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_elf_file_is_refused() {
        assert!(loaded_bytes(b"not an ELF file").is_err());
    }

    #[test]
    fn our_own_image_takes_less_than_its_file() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let loaded = loaded_bytes(&bytes).unwrap();
        assert!(loaded > 10_000 && loaded < bytes.len() as u64);
    }
}
