//! Host physical memory: where tables, queues and DMA data lie.
//!
//! The memory itself belongs to whoever runs the test, through [`HostMemory`]; [`Ram`] is a
//! ready-made one. What a non-snooping unit sees of it is kept apart, in `image`.

mod image;
mod ram;

pub(crate) use image::Image;
pub use ram::Ram;

/// Bytes of a cache line, the unit of writing back.
pub(crate) const LINE: u64 = 64;

/// Memory by host physical address, in aligned 64-bit cells, shared between the driver
/// under test (which stores directly) and the model (which reads tables, writes status
/// words, updates flags and carries out DMA).
///
/// Every function is one atomic access of the cell. An address that no memory answers
/// gives `None`; `hpa` is a multiple of 8.
pub trait HostMemory: Send + Sync {
    /// Reads a cell.
    fn load(&self, hpa: u64) -> Option<u64>;
    /// Writes a cell.
    fn store(&self, hpa: u64, value: u64) -> Option<()>;
    /// Replaces `current` by `new`; `Some(Err(found))` if the cell held something else.
    fn compare_exchange(&self, hpa: u64, current: u64, new: u64) -> Option<Result<u64, u64>>;
}

/// Reads `len` bytes, across cells.
pub(crate) fn read_bytes(memory: &dyn HostMemory, hpa: u64, bytes: &mut [u8]) -> Option<()> {
    for (at, byte) in (hpa..).zip(bytes) {
        let cell = memory.load(at & !7)?;
        *byte = cell.to_le_bytes()[(at & 7) as usize];
    }
    Some(())
}

/// Writes bytes, cell by cell; each cell changes in one atomic step.
pub(crate) fn write_bytes(memory: &dyn HostMemory, hpa: u64, bytes: &[u8]) -> Option<()> {
    let mut at = hpa;
    let mut rest = bytes;
    while !rest.is_empty() {
        let start = (at & 7) as usize;
        let count = rest.len().min(8 - start);
        let (now, later) = rest.split_at(count);
        modify(memory, at & !7, |cell| {
            let mut cell = cell.to_le_bytes();
            cell[start..start + count].copy_from_slice(now);
            u64::from_le_bytes(cell)
        })?;
        at += count as u64;
        rest = later;
    }
    Some(())
}

/// Changes a cell atomically; gives the value before.
pub(crate) fn modify(
    memory: &dyn HostMemory,
    hpa: u64,
    change: impl Fn(u64) -> u64,
) -> Option<u64> {
    let mut seen = memory.load(hpa)?;
    loop {
        match memory.compare_exchange(hpa, seen, change(seen))? {
            Ok(before) => return Some(before),
            Err(found) => seen = found,
        }
    }
}
