//! Entries of a guest's PASID directory and tables (§9.5, §9.6).
//!
//! The guest's unit, as far as it can tell, has a first stage of four and five levels, no
//! memory types and no extended accessed flags; what that unit would ignore is ignored.

use crate::user_table::TableAsked;
use bitfield_struct::bitfield;
use iommu_abi::{Format, IoasAllocate};
use iommu_core::{Address, FaultReason, Gpa, GuestMemory, GuestMemoryError};

/// 64-bit words in an entry of a PASID table.
const WORDS: u64 = 8;

/// An entry of the PASID directory (§9.5).
#[bitfield(u64)]
struct DirectoryEntry {
    present: bool,
    fault_processing_disable: bool,
    #[bits(10)]
    reserved: u16,
    /// Frame number of the PASID table.
    #[bits(52)]
    table: u64,
}

/// Word 0 of an entry of a PASID table (§9.6).
#[bitfield(u64)]
struct Word0 {
    present: bool,
    fault_processing_disable: bool,
    /// Of a second stage.
    #[bits(3)]
    address_width: u8,
    #[bits(1)]
    reserved5: u8,
    #[bits(3)]
    translation_type: u8,
    /// Of a second stage.
    second_stage_accessed_dirty: bool,
    #[bits(2)]
    reserved10: u8,
    /// Of a second stage.
    #[bits(52)]
    second_stage: u64,
}

/// Word 1 of an entry of a PASID table (§9.6).
#[bitfield(u64)]
struct Word1 {
    domain_id: u16,
    #[bits(7)]
    reserved80: u8,
    page_walk_snoop: bool,
    page_snoop: bool,
    /// Cache disable and memory types, which the unit does not have, and what is always
    /// reserved.
    #[bits(39)]
    reserved89: u64,
}

/// Word 2 of an entry of a PASID table (§9.6).
#[bitfield(u64)]
struct Word2 {
    supervisor: bool,
    #[bits(1)]
    reserved129: u8,
    #[bits(2)]
    paging_mode: u8,
    write_protect: bool,
    #[bits(2)]
    ignored: u8,
    /// Extended accessed flags, which the unit does not have, and what is always reserved.
    #[bits(5)]
    reserved135: u8,
    /// Frame number of the root table.
    #[bits(52)]
    first_stage: u64,
}

/// PGTT 001: a first stage alone.
const FIRST_STAGE: u8 = 0b001;

/// What stands at some place of a guest's PASID table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found<T> {
    NotPresent,
    /// Present, and hardware would refuse it for this reason.
    Refused(FaultReason),
    Entry(T),
}

/// The PASID table behind a directory entry.
pub(super) fn directory(memory: &dyn GuestMemory, directory: Gpa, index: u32) -> Found<Gpa> {
    let entry = match read(memory, directory, index.into()) {
        Ok(word) => DirectoryEntry::from_bits(word),
        Err(_) => return Found::Refused(FaultReason::PASID_DIRECTORY_ERROR),
    };
    if !entry.present() {
        return Found::NotPresent;
    }
    if entry.reserved() != 0 {
        return Found::Refused(FaultReason::PASID_DIRECTORY_RESERVED);
    }
    Found::Entry(Gpa::new(entry.table() << 12))
}

/// The table that an entry of a PASID table asks for. Each word is read once; what the
/// guest writes meanwhile makes an entry of words of its own, old or new.
pub(super) fn entry(memory: &dyn GuestMemory, table: Gpa, index: u32) -> Found<TableAsked> {
    let first = u64::from(index).saturating_mul(WORDS);
    let word = |number: u64| read(memory, table, first.saturating_add(number));
    let word0 = match word(0) {
        Ok(word) => Word0::from_bits(word),
        Err(_) => return Found::Refused(FaultReason::PASID_TABLE_ERROR),
    };
    if !word0.present() {
        return Found::NotPresent;
    }
    let (Ok(word1), Ok(word2)) = (word(1), word(2)) else {
        return Found::Refused(FaultReason::PASID_TABLE_ERROR);
    };
    let (word1, word2) = (Word1::from_bits(word1), Word2::from_bits(word2));
    let rest_is_zero = (3..WORDS).all(|number| word(number) == Ok(0));
    let reserved = [word0.reserved5(), word0.reserved10(), word1.reserved80()];
    if !rest_is_zero
        || reserved != [0; 3]
        || word1.reserved89() != 0
        || [word2.reserved129(), word2.reserved135()] != [0; 2]
    {
        return Found::Refused(FaultReason::PASID_RESERVED);
    }
    if word0.translation_type() != FIRST_STAGE {
        return Found::Refused(FaultReason::PASID_INVALID);
    }
    let format = match word2.paging_mode() {
        0 => Format::X86_64Level4,
        1 => Format::X86_64Level5,
        _ => return Found::Refused(FaultReason::PASID_INVALID),
    };
    Found::Entry(TableAsked {
        root: Gpa::new(word2.first_stage() << 12),
        format,
        format_flags: rights(word2),
        enforce_snoop: word1.page_snoop(),
        page_requests: false,
    })
}

/// Write protection is for supervisor requests (§9.6), so it means nothing without them.
fn rights(word2: Word2) -> u64 {
    match (word2.supervisor(), word2.write_protect()) {
        (false, _) => 0,
        (true, false) => IoasAllocate::FORMAT_SUPERVISOR,
        (true, true) => IoasAllocate::FORMAT_SUPERVISOR | IoasAllocate::FORMAT_WRITE_PROTECT,
    }
}

fn read(memory: &dyn GuestMemory, table: Gpa, word: u64) -> Result<u64, GuestMemoryError> {
    let offset = word.saturating_mul(8);
    let at = table
        .checked_add(offset)
        .ok_or(GuestMemoryError::Unmapped(table))?;
    memory.read_once(at)
}
