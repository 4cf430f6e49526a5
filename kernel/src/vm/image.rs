//! Putting a program into a guest's memory, ready to be started.
//!
//! The guest's memory: nothing in its first page, the program where its ELF file says,
//! then page tables that map the first 4 GiB one to one in pages of 2 MiB, then a page with
//! the [`Start`], then free pages.

use super::ram::GuestRam;
use core::fmt;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PT_LOAD};
use elf::endian::LittleEndian;
use hypervisor_abi::{START_MAGIC, Start};
use iommu_core::{Gpa, GuestMemory, GuestMemoryError, PAGE_SIZE};
use x86_64::structures::paging::PageTableFlags;
use zerocopy::IntoBytes;

/// Tables that map 4 GiB in 2 MiB pages: a root, one below, four below that.
const TABLES: u64 = 6;
const ENTRIES: u64 = 512;
const LARGE_PAGE: u64 = 2 << 20;

/// Why a program cannot be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// Not an ELF file, or a damaged one.
    NotElf,
    /// Not a static x86-64 program.
    WrongKind,
    /// A segment, or what comes after the program, does not fit the guest's memory.
    DoesNotFit(Gpa),
    /// A segment's bytes lie outside the file, or it has more bytes than memory.
    BadSegment,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("not an ELF file"),
            Self::WrongKind => f.write_str("not a static program for x86-64"),
            Self::DoesNotFit(gpa) => write!(f, "no memory at {gpa} for it"),
            Self::BadSegment => f.write_str("a segment is damaged"),
        }
    }
}

impl From<GuestMemoryError> for ImageError {
    fn from(error: GuestMemoryError) -> Self {
        match error {
            GuestMemoryError::Unmapped(gpa)
            | GuestMemoryError::Denied(gpa)
            | GuestMemoryError::Misaligned(gpa) => Self::DoesNotFit(gpa),
        }
    }
}

/// How a program starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// First instruction.
    pub rip: Gpa,
    /// Root of its page tables.
    pub cr3: Gpa,
    /// Where its [`Start`] lies.
    pub start: Gpa,
}

/// Loads the program and writes tables and [`Start`] behind it. Of `start`, only `seed`,
/// `tsc_per_ms` and `parameter` are used; the rest is filled in.
pub(super) fn load(
    ram: &GuestRam,
    file: &[u8],
    start: Start,
) -> Result<(Entry, Start), ImageError> {
    let (rip, end) = load_segments(ram, file)?;
    let cr3 = Gpa::new(end.next_multiple_of(PAGE_SIZE));
    write_tables(ram, cr3)?;
    let page = Gpa::new(cr3.as_u64() + TABLES * PAGE_SIZE);
    let start = write_start(ram, page, start)?;
    let entry = Entry {
        rip,
        cr3,
        start: page,
    };
    Ok((entry, start))
}

/// Writes a [`Start`] for a guest without a program in its memory.
pub(super) fn without_program(ram: &GuestRam, start: Start) -> Result<Start, ImageError> {
    write_start(ram, Gpa::new(first_free(ram)), start)
}

fn write_start(ram: &GuestRam, page: Gpa, start: Start) -> Result<Start, ImageError> {
    let start = Start {
        magic: START_MAGIC,
        memory_base: ram.base().as_u64(),
        memory_bytes: ram.bytes(),
        free_from: page.as_u64() + PAGE_SIZE,
        ..start
    };
    ram.copy_out(page, start.as_bytes())?;
    Ok(start)
}

/// The second page: the first is left empty.
fn first_free(ram: &GuestRam) -> u64 {
    ram.base().as_u64() + PAGE_SIZE
}

/// Copies the program; returns its entry and the first byte behind it.
fn load_segments(ram: &GuestRam, file: &[u8]) -> Result<(Gpa, u64), ImageError> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ImageError::NotElf)?;
    if elf.ehdr.e_machine != EM_X86_64 || elf.ehdr.e_type != ET_EXEC {
        return Err(ImageError::WrongKind);
    }
    let mut end = first_free(ram);
    let segments = elf.segments().ok_or(ImageError::NotElf)?;
    for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD) {
        let bytes = elf
            .segment_data(&segment)
            .map_err(|_| ImageError::BadSegment)?;
        let at = Gpa::new(segment.p_paddr);
        let beyond = segment
            .p_paddr
            .checked_add(segment.p_memsz)
            .ok_or(ImageError::BadSegment)?;
        if segment.p_filesz > segment.p_memsz {
            return Err(ImageError::BadSegment);
        }
        if beyond > ram.end() || at.as_u64() < first_free(ram) {
            return Err(ImageError::DoesNotFit(at));
        }
        // The rest of the segment is zero, as all of the memory is at first.
        ram.copy_out(at, bytes)?;
        end = end.max(beyond);
    }
    Ok((Gpa::new(elf.ehdr.e_entry), end))
}

/// Maps 4 GiB one to one, for the program to start with.
fn write_tables(ram: &GuestRam, root: Gpa) -> Result<(), ImageError> {
    let table = |number: u64| root.as_u64() + number * PAGE_SIZE;
    let upper = (PageTableFlags::PRESENT | PageTableFlags::WRITABLE).bits();
    let leaf = upper | PageTableFlags::HUGE_PAGE.bits();
    ram.write_once(root, table(1) | upper)?;
    for number in 0..TABLES - 2 {
        let lowest = table(2 + number);
        ram.write_once(Gpa::new(table(1) + 8 * number), lowest | upper)?;
        for index in 0..ENTRIES {
            let page = (number * ENTRIES + index) * LARGE_PAGE;
            ram.write_once(Gpa::new(lowest + 8 * index), page | leaf)?;
        }
    }
    Ok(())
}
