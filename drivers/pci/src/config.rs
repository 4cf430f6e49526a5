//! One function's configuration space.

use iommu_core::DeviceId;
use pci_types::{CommandRegister, ConfigRegionAccess, PciAddress};

/// Offset of the command register; the status register is the upper half.
const COMMAND: u16 = 0x04;

/// The configuration space of one function.
///
/// Reads have no side effects; what writes do is the register's definition, so they are
/// safe for memory as long as a remapping unit stands between the function and memory, or
/// the function's bus mastering stays off.
pub struct Config<'a, A> {
    access: &'a A,
    address: PciAddress,
}

impl<'a, A: ConfigRegionAccess> Config<'a, A> {
    /// The configuration space of `device`.
    pub fn new(access: &'a A, device: DeviceId) -> Self {
        let source = device.source;
        let address = PciAddress::new(
            device.segment.0,
            source.bus(),
            source.device(),
            source.function(),
        );
        Self { access, address }
    }

    /// The function's address, for `pci_types`.
    pub fn address(&self) -> PciAddress {
        self.address
    }

    /// How configuration space is reached, for `pci_types`.
    pub fn access(&self) -> &'a A {
        self.access
    }

    /// Reads the aligned 32 bits at `offset`; all ones where there is nothing.
    pub fn read32(&self, offset: u16) -> u32 {
        // SAFETY: reading configuration space has no side effects; absent functions read as
        // all ones.
        unsafe { self.access.read(self.address, offset & !3) }
    }

    /// Reads the aligned 16 bits at `offset`.
    pub fn read16(&self, offset: u16) -> u16 {
        let shift = u32::from(offset & 2) * 8;
        (self.read32(offset) >> shift) as u16
    }

    /// Reads the byte at `offset`.
    pub fn read8(&self, offset: u16) -> u8 {
        let shift = u32::from(offset & 3) * 8;
        (self.read32(offset) >> shift) as u8
    }

    /// Writes the aligned 32 bits at `offset`.
    pub fn write32(&self, offset: u16, value: u32) {
        // SAFETY: see the type.
        unsafe { self.access.write(self.address, offset & !3, value) }
    }

    /// Writes the aligned 16 bits at `offset` and zeroes to the 16 bits beside them, which
    /// must be read-only or cleared by ones.
    pub(crate) fn write16_beside_zeroes(&self, offset: u16, value: u16) {
        let shift = u32::from(offset & 2) * 8;
        self.write32(offset, u32::from(value) << shift);
    }

    /// The command register.
    pub fn command(&self) -> CommandRegister {
        CommandRegister::from_bits_retain(self.read16(COMMAND))
    }

    /// Writes the command register, and zeroes to the status register, whose bits are
    /// cleared by ones.
    pub fn set_command(&self, command: CommandRegister) {
        self.write32(COMMAND, u32::from(command.bits()));
    }

    /// Whether a function answers.
    pub fn is_present(&self) -> bool {
        self.read16(0) != 0xffff
    }
}
