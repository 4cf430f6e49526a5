//! A copy that stays within the device's buffer.

use crate::registers::BUFFER_ADDRESS;
use iommu_core::Iova;

/// Size of the device's buffer, in bytes.
pub const BUFFER_BYTES: u16 = 4096;

/// Which way a copy goes, as seen from the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Direction {
    /// The device reads memory into its buffer.
    FromMemory,
    /// The device writes its buffer to memory.
    ToMemory,
}

/// A copy was refused because it would leave the device's buffer, or has no bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct OutsideBuffer {
    /// First byte in the buffer.
    pub offset: u16,
    /// Bytes.
    pub bytes: u16,
}

/// A copy between memory and the device's buffer, within the buffer's bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Transfer {
    direction: Direction,
    memory: Iova,
    offset: u16,
    bytes: u16,
}

impl Transfer {
    /// A copy of `bytes` bytes (1 to 4096) between `memory`, as the device addresses it,
    /// and the buffer's byte `offset`.
    pub fn new(
        direction: Direction,
        memory: Iova,
        offset: u16,
        bytes: u16,
    ) -> Result<Self, OutsideBuffer> {
        let refused = OutsideBuffer { offset, bytes };
        let end = offset.checked_add(bytes).ok_or(refused)?;
        if bytes == 0 || end > BUFFER_BYTES {
            return Err(refused);
        }
        Ok(Self {
            direction,
            memory,
            offset,
            bytes,
        })
    }

    /// Which way.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.bytes)
    }

    /// Source and destination as the registers want them: one is the memory address, the
    /// other lies in the device's buffer.
    pub(crate) fn addresses(&self) -> (u64, u64) {
        let buffer = BUFFER_ADDRESS.saturating_add(u64::from(self.offset));
        match self.direction {
            Direction::FromMemory => (self.memory.as_u64(), buffer),
            Direction::ToMemory => (buffer, self.memory.as_u64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whether(offset: u16, bytes: u16) -> bool {
        Transfer::new(Direction::ToMemory, Iova::new(0), offset, bytes).is_ok()
    }

    #[test]
    fn a_copy_may_end_with_the_buffer_but_not_beyond() {
        assert!(whether(0, 4096));
        assert!(!whether(0, 4097));
        assert!(whether(4095, 1));
        assert!(!whether(4095, 2));
        assert!(!whether(4096, 1));
    }

    #[test]
    fn a_copy_that_wraps_is_refused() {
        assert!(!whether(u16::MAX, 1));
        assert!(!whether(1, u16::MAX));
    }

    #[test]
    fn a_copy_of_nothing_is_refused() {
        assert!(!whether(0, 0));
        assert!(whether(0, 1));
    }
}
