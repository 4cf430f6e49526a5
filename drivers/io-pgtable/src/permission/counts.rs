//! In how many places a page is mapped, for reading and for writing.

/// The counters of one page: 8 bits each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Counts {
    pub(super) reads: u8,
    pub(super) writes: u8,
}

/// One place more. A counter that is full stays so: then a page is taken for unmapped too
/// early, and never too late.
pub(super) fn more(count: u8) -> u8 {
    count.saturating_add(1)
}

/// One place less.
pub(super) fn less(count: u8) -> u8 {
    count.saturating_sub(1)
}

/// Pages whose counters share a cell.
const PER_CELL: u64 = 4;

/// Where the counters of the `index`-th page lie: cell and shift.
pub(super) const fn position(index: u64) -> (usize, u32) {
    let shift = (index & (PER_CELL - 1)) << 4;
    ((index / PER_CELL) as usize, shift as u32)
}

impl Counts {
    pub(super) const fn of(cell: u64, shift: u32) -> Self {
        let bits = cell >> shift;
        Self {
            reads: bits as u8,
            writes: (bits >> 8) as u8,
        }
    }

    /// The cell with these counters in it.
    pub(super) const fn within(self, cell: u64, shift: u32) -> u64 {
        let bits = self.reads as u64 | (self.writes as u64) << 8;
        cell & !(0xffff << shift) | bits << shift
    }
}
