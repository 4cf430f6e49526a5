//! The table of messages that a function with MSI-X sends (PCIe 6.0, 7.7.2): where it lies, and
//! one entry at a time.
//!
//! What a message says is nobody's business here: whoever remaps interrupts makes it.

use bitfield_struct::bitfield;
use iommu_core::{IrqMessage, Mmio};
use pci_types::capability::MsixCapability;

/// Bytes of an entry.
const ENTRY: usize = 16;

/// Offsets in an entry.
const ADDRESS_LOW: usize = 0;
const ADDRESS_HIGH: usize = 4;
const DATA: usize = 8;
const CONTROL: usize = 12;

/// Vector Control of an entry.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
struct VectorControl {
    masked: bool,
    #[bits(31)]
    reserved: u32,
}

/// The messages of a function, in a window on the registers that its capability names.
#[derive(Debug)]
pub struct MsixTable<M> {
    registers: M,
    offset: usize,
    entries: u16,
}

/// The table, as the capability describes it, does not lie in the window, or lacks the entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoSuchMessage;

impl<M: Mmio> MsixTable<M> {
    /// The table in a window on the whole BAR that the capability names.
    pub fn new(registers: M, capability: &MsixCapability) -> Result<Self, NoSuchMessage> {
        let offset = usize::try_from(capability.table_offset()).map_err(|_| NoSuchMessage)?;
        Self::at(registers, offset, capability.table_size())
    }

    fn at(registers: M, offset: usize, entries: u16) -> Result<Self, NoSuchMessage> {
        let bytes = ENTRY.checked_mul(entries.into()).ok_or(NoSuchMessage)?;
        let end = offset.checked_add(bytes).ok_or(NoSuchMessage)?;
        if end > registers.size() {
            return Err(NoSuchMessage);
        }
        Ok(Self {
            registers,
            offset,
            entries,
        })
    }

    /// Messages that the function can send.
    pub fn entries(&self) -> u16 {
        self.entries
    }

    /// Masks all messages: whoever had the function before may have left some.
    pub fn mask_all(&self) {
        (0..self.entries).for_each(|index| self.mask(index));
    }

    /// Masks one. What comes meanwhile stays pending.
    pub fn mask(&self, index: u16) {
        if let Ok(at) = self.entry(index) {
            self.set_masked(at, true);
        }
    }

    /// Makes an entry send a message. It is masked while half of it is the old one.
    pub fn program(&self, index: u16, message: IrqMessage) -> Result<(), NoSuchMessage> {
        let at = self.entry(index)?;
        self.set_masked(at, true);
        let write = |offset, value| self.registers.write32(at.saturating_add(offset), value);
        write(ADDRESS_LOW, message.address as u32);
        write(ADDRESS_HIGH, (message.address >> 32) as u32);
        write(DATA, message.data);
        self.set_masked(at, false);
        Ok(())
    }

    fn entry(&self, index: u16) -> Result<usize, NoSuchMessage> {
        if index >= self.entries {
            return Err(NoSuchMessage);
        }
        let within = ENTRY.checked_mul(index.into()).ok_or(NoSuchMessage)?;
        self.offset.checked_add(within).ok_or(NoSuchMessage)
    }

    fn set_masked(&self, at: usize, masked: bool) {
        let at = at.saturating_add(CONTROL);
        // The other bits are a device's own (steering tags).
        let control = VectorControl::from_bits(self.registers.read32(at));
        self.registers
            .write32(at, control.with_masked(masked).into_bits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::vec::Vec;

    /// Registers that remember what was written in which order.
    struct Registers {
        words: Mutex<Vec<u32>>,
        written: Mutex<Vec<(usize, u32)>>,
    }

    impl Registers {
        fn new() -> Self {
            Self {
                words: Mutex::new((0..24).map(|_| 0).collect()),
                written: Mutex::default(),
            }
        }
    }

    impl Mmio for &Registers {
        fn size(&self) -> usize {
            self.words.lock().unwrap().len() * 4
        }

        fn read32(&self, at: usize) -> u32 {
            self.words.lock().unwrap()[at / 4]
        }

        fn read64(&self, at: usize) -> u64 {
            panic!("{at:#x}")
        }

        fn write32(&self, at: usize, value: u32) {
            self.words.lock().unwrap()[at / 4] = value;
            self.written.lock().unwrap().push((at, value));
        }

        fn write64(&self, at: usize, _: u64) {
            panic!("{at:#x}")
        }
    }

    const MESSAGE: IrqMessage = IrqMessage {
        address: 0x1_fee0_0d18,
        data: 0x21,
    };

    #[test]
    fn a_message_is_whole_before_it_can_be_sent() {
        let registers = Registers::new();
        let table = MsixTable::at(&registers, 0x20, 3).unwrap();
        registers.words.lock().unwrap()[(0x30 + CONTROL) / 4] = 0xab00;
        table.program(1, MESSAGE).unwrap();
        assert_eq!(
            *registers.written.lock().unwrap(),
            [
                (0x3c, 0xab01),
                (0x30, 0xfee0_0d18),
                (0x34, 1),
                (0x38, 0x21),
                (0x3c, 0xab00)
            ]
        );
    }

    #[test]
    fn all_are_masked_and_none_beyond_the_table() {
        let registers = Registers::new();
        let table = MsixTable::at(&registers, 0x20, 3).unwrap();
        table.mask_all();
        assert_eq!(
            *registers.written.lock().unwrap(),
            [(0x2c, 1), (0x3c, 1), (0x4c, 1)]
        );
        assert_eq!(table.program(3, MESSAGE), Err(NoSuchMessage));
        table.mask(3);
        assert_eq!(registers.written.lock().unwrap().len(), 3);
    }

    #[test]
    fn a_table_that_the_window_does_not_hold_is_refused() {
        let registers = Registers::new();
        assert!(MsixTable::at(&registers, 0x20, 4).is_ok());
        assert!(MsixTable::at(&registers, 0x30, 4).is_err());
        assert!(MsixTable::at(&registers, usize::MAX, 1).is_err());
    }
}
