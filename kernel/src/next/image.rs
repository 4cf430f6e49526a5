//! The next kernel's ELF file: where its segments go, and where it starts by PVH.

use arrayvec::ArrayVec;
use core::fmt;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::note::Note;
use iommu_core::{AddressRange, Hpa};

/// Segments that a kernel can have.
pub(super) const SEGMENTS: usize = 16;

/// The note that holds PVH's entry point (`XEN_ELFNOTE_PHYS32_ENTRY`).
const ENTRY_NOTE: u64 = 18;

/// Bytes of the file, and where they go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// Where they go.
    pub to: Hpa,
    /// The bytes.
    pub bytes: &'a [u8],
    /// Zeroes behind them.
    pub zeroes: u64,
}

/// A kernel that can be started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NextImage<'a> {
    /// Its segments.
    pub segments: ArrayVec<Segment<'a>, SEGMENTS>,
    /// Its first instruction, in 32-bit mode without paging.
    pub entry: u32,
    /// All memory that its segments take.
    pub range: AddressRange<Hpa>,
}

/// Why a file cannot be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// Not an ELF file for x86-64, or a damaged one.
    NotElf,
    /// A segment's bytes lie outside the file, or it has more bytes than memory.
    BadSegment,
    /// It has more segments than are kept.
    TooManySegments,
    /// It has no segment.
    Empty,
    /// It cannot be started by PVH.
    NoEntry,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotElf => "not an ELF file for x86-64",
            Self::BadSegment => "a segment is damaged",
            Self::TooManySegments => "it has too many segments",
            Self::Empty => "it has no segment to be loaded",
            Self::NoEntry => "it has no note with a PVH entry point",
        })
    }
}

impl<'a> NextImage<'a> {
    /// Reads a file.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ImageError::NotElf)?;
        if elf.ehdr.e_machine != EM_X86_64 {
            return Err(ImageError::NotElf);
        }
        let headers = elf.segments().ok_or(ImageError::NotElf)?;
        let mut segments = ArrayVec::new();
        let mut entry = None;
        let mut extent: Option<(u64, u64)> = None;
        for header in headers.iter() {
            match header.p_type {
                PT_LOAD if header.p_memsz > 0 => {
                    let bytes = elf
                        .segment_data(&header)
                        .map_err(|_| ImageError::BadSegment)?;
                    let zeroes = header
                        .p_memsz
                        .checked_sub(header.p_filesz)
                        .ok_or(ImageError::BadSegment)?;
                    let end = header
                        .p_paddr
                        .checked_add(header.p_memsz)
                        .ok_or(ImageError::BadSegment)?;
                    extent = Some(match extent {
                        Some((first, last)) => (first.min(header.p_paddr), last.max(end)),
                        None => (header.p_paddr, end),
                    });
                    segments
                        .try_push(Segment {
                            to: Hpa::new(header.p_paddr),
                            bytes,
                            zeroes,
                        })
                        .map_err(|_| ImageError::TooManySegments)?;
                }
                PT_NOTE => {
                    let notes = elf
                        .segment_data_as_notes(&header)
                        .map_err(|_| ImageError::BadSegment)?;
                    entry = entry.or_else(|| notes.into_iter().find_map(|note| entry_of(&note)));
                }
                _ => {}
            }
        }
        let (first, end) = extent.ok_or(ImageError::Empty)?;
        Ok(Self {
            segments,
            entry: entry.ok_or(ImageError::NoEntry)?,
            range: AddressRange::of_bytes(Hpa::new(first), end.saturating_sub(first))
                .map_err(|_| ImageError::BadSegment)?,
        })
    }

    /// Whether all of it lies within memory that is given up.
    pub fn fits(&self, given_up: &AddressRange<Hpa>) -> bool {
        given_up.contains(self.range.first()) && given_up.contains(self.range.last())
    }
}

/// The entry point in a note, whose size is that of a pointer of either width.
fn entry_of(note: &Note<'_>) -> Option<u32> {
    let Note::Unknown(note) = note else {
        return None;
    };
    if note.n_type != ENTRY_NOTE || note.name_str().ok()? != "Xen" {
        return None;
    }
    let address = match note.desc.len() {
        4 => u64::from(u32::from_le_bytes(note.desc.try_into().ok()?)),
        8 => u64::from_le_bytes(note.desc.try_into().ok()?),
        _ => return None,
    };
    let entry = Hpa::new(address);
    u32::try_from(entry.as_u64()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// An ELF file with one segment at 1 MiB and a note.
    fn file(note_type: u32, file_size: u64, memory_size: u64) -> Vec<u8> {
        let mut bytes = vec![0u8; 0x100];
        bytes[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        let mut put = |at: usize, value: u64, size: usize| {
            let end = at + size;
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(&value.to_le_bytes()[..size]);
        };
        put(16, 2, 2);
        put(18, 62, 2);
        put(20, 1, 4);
        put(32, 64, 8);
        put(52, 64, 2);
        put(54, 56, 2);
        put(56, 2, 2);
        put(58, 64, 2);
        // PT_LOAD: offset 100h.
        put(64, 1, 4);
        put(72, 0x100, 8);
        put(88, 0x10_0000, 8);
        put(96, file_size, 8);
        put(104, memory_size, 8);
        put(112, 4096, 8);
        // PT_NOTE: offset 200h.
        put(120, 4, 4);
        put(128, 0x200, 8);
        put(152, 24, 8);
        put(160, 24, 8);
        put(168, 4, 8);
        for at in 0..16 {
            put(0x100 + at, 0xa0 + at as u64, 1);
        }
        put(0x200, 4, 4);
        put(0x204, 8, 4);
        put(0x208, note_type.into(), 4);
        put(0x20c, u64::from(u32::from_le_bytes(*b"Xen\0")), 4);
        put(0x210, 0x10_0040, 8);
        bytes
    }

    #[test]
    fn segments_and_the_entry_point_are_found() {
        let file = file(18, 16, 0x2000);
        let image = NextImage::parse(&file).unwrap();
        assert_eq!(image.entry, 0x10_0040);
        assert_eq!(image.segments.len(), 1);
        assert_eq!(image.segments[0].to, Hpa::new(0x10_0000));
        assert_eq!(image.segments[0].bytes[..2], [0xa0, 0xa1]);
        assert_eq!(image.segments[0].zeroes, 0x1ff0);
        assert_eq!(image.range.last(), Hpa::new(0x10_1fff));
    }

    #[test]
    fn an_image_fits_where_all_of_it_lies() {
        let file = file(18, 16, 0x2000);
        let image = NextImage::parse(&file).unwrap();
        let memory = |bytes| AddressRange::of_bytes(Hpa::new(0x10_0000), bytes).unwrap();
        assert!(image.fits(&memory(0x2000)));
        assert!(!image.fits(&memory(0x1fff)));
    }

    #[test]
    fn what_cannot_be_started_is_refused() {
        assert_eq!(NextImage::parse(b"#!/bin/sh"), Err(ImageError::NotElf));
        assert_eq!(
            NextImage::parse(&file(17, 16, 0x2000)),
            Err(ImageError::NoEntry)
        );
        assert_eq!(
            NextImage::parse(&file(18, 16, 8)),
            Err(ImageError::BadSegment)
        );
        assert_eq!(
            NextImage::parse(&file(18, 0x10_0000, 0x20_0000)),
            Err(ImageError::BadSegment)
        );
        assert_eq!(NextImage::parse(&file(18, 0, 0)), Err(ImageError::Empty));
    }
}
