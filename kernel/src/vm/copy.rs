//! Copies between byte slices and atomic cells.
//!
//! Each byte is read or written once. Cells are little endian, so byte *n* of a cell is bits
//! 8*n* to 8*n* + 7.

use core::sync::atomic::{AtomicU64, Ordering};

/// The stretches of `bytes` bytes from byte `offset` on that lie in one cell each: cell,
/// first byte within, range in the slice.
fn stretches(
    offset: usize,
    bytes: usize,
) -> impl Iterator<Item = (usize, usize, core::ops::Range<usize>)> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let place = offset.checked_add(at)?;
        let (cell, within) = (place / 8, place % 8);
        let length = (8 - within).min(bytes.checked_sub(at)?);
        let range = at..at + length;
        at += length;
        (length > 0).then_some((cell, within, range))
    })
}

/// Copies out of cells.
pub(super) fn from_cells(cells: &[AtomicU64], offset: usize, bytes: &mut [u8]) {
    for (cell, within, range) in stretches(offset, bytes.len()) {
        if let (Some(cell), Some(into)) = (cells.get(cell), bytes.get_mut(range)) {
            let value = cell.load(Ordering::Relaxed).to_le_bytes();
            for (into, from) in into.iter_mut().zip(value.iter().skip(within)) {
                *into = *from;
            }
        }
    }
}

/// Copies into cells. What lies beside the bytes in a cell keeps its value, even if somebody
/// else changes it meanwhile.
pub(super) fn into_cells(cells: &[AtomicU64], offset: usize, bytes: &[u8]) {
    for (cell, within, range) in stretches(offset, bytes.len()) {
        let (Some(cell), Some(from)) = (cells.get(cell), bytes.get(range)) else {
            continue;
        };
        if let Ok(whole) = from.try_into() {
            cell.store(u64::from_le_bytes(whole), Ordering::Relaxed);
            continue;
        }
        let replace = |old: u64| {
            let mut value = old.to_le_bytes();
            for (into, from) in value.iter_mut().skip(within).zip(from) {
                *into = *from;
            }
            u64::from_le_bytes(value)
        };
        // A failed exchange means that somebody else wrote to the same 8 bytes just then;
        // a device could do so for ever, so it is not tried for ever.
        let mut old = cell.load(Ordering::Relaxed);
        for _ in 0..64 {
            match cell.compare_exchange(old, replace(old), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => old = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_and_length_copies_what_it_should() {
        for offset in 0..17 {
            for length in 0..20 {
                let cells = [const { AtomicU64::new(u64::MAX) }; 5];
                let bytes: std::vec::Vec<u8> = (1..=length as u8).collect();
                into_cells(&cells, offset, &bytes);
                let mut back = std::vec![0; length];
                from_cells(&cells, offset, &mut back);
                assert_eq!(back, bytes);
                let mut all = [0; 40];
                from_cells(&cells, 0, &mut all);
                let others = all.iter().filter(|byte| **byte == 0xff).count();
                assert_eq!(others, 40 - length, "neighbours keep their value");
            }
        }
    }
}
