//! A machine of bytes, for tests.

use iommu_core::{DeviceId, Segment, SourceId};
use pci_types::{ConfigRegionAccess, PciAddress};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::vec::Vec;

const BYTES: usize = 4096;
const DECODING: u8 = 0b11;

struct Space {
    bytes: Vec<u8>,
    /// Which bits of each BAR can be written.
    masks: [u32; 6],
}

/// Functions by id.
#[derive(Default)]
pub(crate) struct Machine {
    functions: RefCell<BTreeMap<u16, Space>>,
    sized_while_decoding: Cell<bool>,
}

/// A function that is being described.
pub(crate) struct Builder<'a> {
    machine: &'a Machine,
    source: SourceId,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn endpoint(&self, bus: u8, device: u8, function: u8) -> Builder<'_> {
        let source = SourceId::new(bus, device, function).unwrap();
        let bytes = std::vec![0; BYTES];
        self.functions.borrow_mut().insert(
            source.bits(),
            Space {
                bytes,
                masks: [0; 6],
            },
        );
        let builder = Builder {
            machine: self,
            source,
        };
        builder.raw(0, 0x11e8_1234)
    }

    pub(crate) fn bridge(
        &self,
        bus: u8,
        device: u8,
        function: u8,
        secondary: u8,
        subordinate: u8,
    ) -> Builder<'_> {
        self.endpoint(bus, device, function)
            .byte(0x0e, 1)
            .byte(0x04, 0b111)
            .byte(0x19, secondary)
            .byte(0x1a, subordinate)
    }

    pub(crate) fn bytes(&self, device: DeviceId) -> Vec<u8> {
        self.functions.borrow()[&device.source.bits()].bytes.clone()
    }

    pub(crate) fn was_sized_while_decoding(&self) -> bool {
        self.sized_while_decoding.get()
    }
}

impl Builder<'_> {
    fn with(self, change: impl FnOnce(&mut Space)) -> Self {
        let mut functions = self.machine.functions.borrow_mut();
        change(functions.get_mut(&self.source.bits()).unwrap());
        drop(functions);
        self
    }

    pub(crate) fn byte(self, offset: usize, value: u8) -> Self {
        self.with(|space| space.bytes[offset] = value)
    }

    pub(crate) fn raw(self, offset: usize, value: u32) -> Self {
        self.with(|space| space.bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes()))
    }

    pub(crate) fn command(self, value: u8) -> Self {
        self.byte(4, value)
    }

    pub(crate) fn multiple_functions(self) -> Self {
        self.with(|space| space.bytes[0x0e] |= 0x80)
    }

    fn masked(self, index: usize, value: u32, mask: u32) -> Self {
        self.raw(0x10 + 4 * index, value)
            .with(|space| space.masks[index] = mask)
    }

    pub(crate) fn bar32(self, index: usize, base: u32, size: u32) -> Self {
        self.masked(index, base, size.wrapping_neg())
    }

    pub(crate) fn bar64(self, index: usize, base: u64, size: u64) -> Self {
        let mask = size.wrapping_neg();
        self.masked(index, base as u32 | 0b1100, mask as u32)
            .masked(index + 1, (base >> 32) as u32, (mask >> 32) as u32)
    }

    pub(crate) fn bar64_in_last_slot(self) -> Self {
        self.masked(5, 0b100, 0xffff_f000)
    }

    pub(crate) fn bar_io(self, index: usize, base: u32, size: u32) -> Self {
        self.masked(index, base | 1, size.wrapping_neg() & 0xffff)
    }

    /// A capability in the list; the first must lie at 0x40.
    pub(crate) fn capability(self, offset: usize, id: u8, next: u8, control: u16) -> Self {
        let header = u32::from(id) | u32::from(next) << 8 | u32::from(control) << 16;
        self.raw(offset, header).byte(6, 0x10).byte(0x34, 0x40)
    }

    pub(crate) fn id(self) -> DeviceId {
        DeviceId::new(Segment(0), self.source)
    }
}

fn source_of(address: PciAddress) -> u16 {
    SourceId::new(address.bus(), address.device(), address.function())
        .unwrap()
        .bits()
}

impl ConfigRegionAccess for Machine {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        let functions = self.functions.borrow();
        let Some(space) = functions.get(&source_of(address)) else {
            return u32::MAX;
        };
        let offset = usize::from(offset);
        u32::from_le_bytes(space.bytes[offset..offset + 4].try_into().unwrap())
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        let mut functions = self.functions.borrow_mut();
        let Some(space) = functions.get_mut(&source_of(address)) else {
            return;
        };
        let offset = usize::from(offset);
        let old = u32::from_le_bytes(space.bytes[offset..offset + 4].try_into().unwrap());
        let new = match offset {
            // The status register's bits are cleared by ones.
            0x04 => (old & 0xffff_0000 & !value) | (value & 0xffff),
            0x10..0x28 => {
                if value == u32::MAX && space.bytes[4] & DECODING != 0 {
                    self.sized_while_decoding.set(true);
                }
                let mask = space.masks[(offset - 0x10) / 4];
                (old & !mask) | (value & mask)
            }
            _ => value,
        };
        space.bytes[offset..offset + 4].copy_from_slice(&new.to_le_bytes());
    }
}
