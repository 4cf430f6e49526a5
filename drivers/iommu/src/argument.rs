//! The one check that every argument goes through.
//!
//! A structure in guest memory is an allegation. It is copied once, byte for byte, and
//! only the copy is looked at: what the guest writes meanwhile has no effect.

use crate::error::of_memory;
use iommu_abi::{ARGUMENT_MAX, Argument, Direction, Entry, Errno, Field, Layout};
use iommu_core::{Access, Address, Gpa, GuestMemory};

/// Bytes of an unknown tail that are looked at in one go.
const CHUNK: usize = 128;

/// An argument, copied and checked, and where its results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copied<A> {
    pub(crate) value: A,
    at: Gpa,
    /// Bytes of the caller's structure that we know.
    known: usize,
}

/// Copies an argument in: `argsz`, the unknown tail, flags, reserved fields, and whether
/// results can be written back.
pub(crate) fn copy_argument<A: Argument>(
    memory: &dyn GuestMemory,
    at: Gpa,
) -> Result<Copied<A>, Errno> {
    let mut size = [0; 4];
    memory.copy_in(at, &mut size).map_err(of_memory)?;
    // `argsz` itself is not read again: what is checked is what is used.
    let given = u32::from_le_bytes(size) as usize;
    let mut value = copy_sized::<A>(memory, at, given, Some(size))?;
    if value.flags() & !A::FLAGS != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    check_reserved(&value)?;
    clear_outputs(&mut value);
    let known = given.min(A::SIZE);
    check_writable::<A>(memory, at, known)?;
    Ok(Copied { value, at, known })
}

/// Copies an element of an array in, whose size the caller gave.
pub(crate) fn copy_entry<E: Entry>(
    memory: &dyn GuestMemory,
    at: Gpa,
    given: u32,
) -> Result<E, Errno> {
    let value = copy_sized::<E>(memory, at, given as usize, None)?;
    check_reserved(&value)?;
    Ok(value)
}

/// Where element `index` of an array lies.
pub(crate) fn element(array: u64, entry_size: u32, index: u32) -> Result<Gpa, Errno> {
    u64::from(entry_size)
        .checked_mul(u64::from(index))
        .and_then(|offset| array.checked_add(offset))
        .map(Gpa::new)
        .ok_or(Errno::EOVERFLOW)
}

/// Refuses sizes of elements that no version has.
pub(crate) fn check_entry_size<E: Entry>(entry_size: u32) -> Result<(), Errno> {
    match entry_size as usize {
        size if size < E::MIN_SIZE => Err(Errno::EINVAL),
        size if size > ARGUMENT_MAX => Err(Errno::E2BIG),
        _ => Ok(()),
    }
}

/// Writes an element of an array of results: what the caller's size has room for, and
/// zeroes for what it has beyond ours.
pub(crate) fn write_entry<E: Entry>(
    memory: &dyn GuestMemory,
    at: Gpa,
    entry_size: u32,
    value: &E,
) -> Result<(), Errno> {
    let given = entry_size as usize;
    let bytes = value.as_bytes();
    let known = bytes.get(..given.min(bytes.len())).ok_or(Errno::EINVAL)?;
    memory.copy_out(at, known).map_err(of_memory)?;
    let mut done = known.len();
    while done < given {
        let chunk = given.saturating_sub(done).min(CHUNK);
        let to = at.checked_add(done as u64).ok_or(Errno::EFAULT)?;
        let zeroes = [0; CHUNK];
        let zeroes = zeroes.get(..chunk).ok_or(Errno::EINVAL)?;
        memory.copy_out(to, zeroes).map_err(of_memory)?;
        done = done.saturating_add(chunk);
    }
    Ok(())
}

/// Refuses arrays of results that cannot be written, before anything is done.
pub(crate) fn check_array_writable(
    memory: &dyn GuestMemory,
    array: u64,
    entry_size: u32,
    count: u32,
) -> Result<(), Errno> {
    let end = element(array, entry_size, count)?;
    writable(memory, Gpa::new(array), end)
}

impl<A: Argument> Copied<A> {
    /// Writes the results back: the fields that carry some, as far as the caller's
    /// structure has them, and nothing else.
    pub(crate) fn write_back(&self, memory: &dyn GuestMemory) -> Result<(), Errno> {
        let bytes = self.value.as_bytes();
        for field in outputs::<A>(self.known) {
            let (at, end) = (field.offset, field.offset.saturating_add(field.size));
            let content = bytes.get(at..end).ok_or(Errno::EINVAL)?;
            let to = self.at.checked_add(at as u64).ok_or(Errno::EFAULT)?;
            memory.copy_out(to, content).map_err(of_memory)?;
        }
        Ok(())
    }
}

fn outputs<T: Layout>(known: usize) -> impl Iterator<Item = &'static Field> {
    T::FIELDS.iter().filter(move |field| {
        matches!(field.direction, Direction::Out | Direction::InOut)
            && field.offset.saturating_add(field.size) <= known
    })
}

fn copy_sized<T: Layout>(
    memory: &dyn GuestMemory,
    at: Gpa,
    given: usize,
    first: Option<[u8; 4]>,
) -> Result<T, Errno> {
    if given < T::MIN_SIZE {
        return Err(Errno::EINVAL);
    }
    if given > ARGUMENT_MAX {
        return Err(Errno::E2BIG);
    }
    let mut value = T::default();
    let known = given.min(T::SIZE);
    let bytes = value.as_mut_bytes().get_mut(..known);
    let bytes = bytes.ok_or(Errno::EINVAL)?;
    match first {
        None => memory.copy_in(at, bytes).map_err(of_memory)?,
        Some(first) => {
            let (head, rest) = bytes.split_at_mut_checked(4).ok_or(Errno::EINVAL)?;
            head.copy_from_slice(&first);
            let from = at.checked_add(4).ok_or(Errno::EFAULT)?;
            memory.copy_in(from, rest).map_err(of_memory)?;
        }
    }
    check_tail(memory, at, known, given)?;
    Ok(value)
}

/// What a newer caller has beyond the structure that we know must say nothing.
pub(crate) fn check_tail(
    memory: &dyn GuestMemory,
    at: Gpa,
    known: usize,
    given: usize,
) -> Result<(), Errno> {
    let mut done = known;
    while done < given {
        let mut chunk = [0; CHUNK];
        let length = given.saturating_sub(done).min(CHUNK);
        let bytes = chunk.get_mut(..length).ok_or(Errno::EINVAL)?;
        let from = at.checked_add(done as u64).ok_or(Errno::EFAULT)?;
        memory.copy_in(from, bytes).map_err(of_memory)?;
        if bytes.iter().any(|&byte| byte != 0) {
            return Err(Errno::E2BIG);
        }
        done = done.saturating_add(length);
    }
    Ok(())
}

fn check_reserved<T: Layout>(value: &T) -> Result<(), Errno> {
    let bytes = value.as_bytes();
    let reserved = T::FIELDS
        .iter()
        .filter(|field| field.direction == Direction::Reserved)
        .filter_map(|field| bytes.get(field.offset..field.offset.saturating_add(field.size)));
    for field in reserved {
        if field.iter().any(|&byte| byte != 0) {
            return Err(Errno::EOPNOTSUPP);
        }
    }
    Ok(())
}

/// What the caller left in fields that only carry results must not look like one.
fn clear_outputs<T: Layout>(value: &mut T) {
    for field in T::FIELDS {
        if field.direction != Direction::Out {
            continue;
        }
        let end = field.offset.saturating_add(field.size);
        if let Some(bytes) = value.as_mut_bytes().get_mut(field.offset..end) {
            bytes.fill(0);
        }
    }
}

fn check_writable<A: Argument>(
    memory: &dyn GuestMemory,
    at: Gpa,
    known: usize,
) -> Result<(), Errno> {
    for field in outputs::<A>(known) {
        let end = field.offset.saturating_add(field.size);
        let (Some(first), Some(end)) = (
            at.checked_add(field.offset as u64),
            at.checked_add(end as u64),
        ) else {
            return Err(Errno::EFAULT);
        };
        writable(memory, first, end)?;
    }
    Ok(())
}

/// Whether all bytes from `first` up to `end` can be written.
fn writable(memory: &dyn GuestMemory, first: Gpa, end: Gpa) -> Result<(), Errno> {
    let mut at = first;
    while at < end {
        let backing = memory.resolve(at, Access::WRITE).map_err(of_memory)?;
        // A backing without bytes would keep us here for ever.
        at = at.checked_add(backing.bytes.max(1)).ok_or(Errno::EFAULT)?;
    }
    Ok(())
}
