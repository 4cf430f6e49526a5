//! Where interrupt messages come from.
//!
//! The remapping entries belong to the driver. Whoever programs an MSI or an IOAPIC entry
//! asks here for a message and never composes one.

use crate::DeviceId;

/// Where an interrupt shall arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IrqTarget {
    /// The receiving CPU's APIC id: 8 bits in xAPIC mode, 32 bits in x2APIC mode.
    pub apic_id: u32,
    /// The vector that the CPU sees.
    pub vector: u8,
    /// Level-triggered (an IOAPIC line); MSIs are edge-triggered.
    pub level: bool,
}

/// Remapping entries that belong to one source: `count` of them, contiguous.
///
/// Not `Clone`: whoever holds it owns the entries, until [`IrqRemapper::free`].
#[must_use = "entries that are not freed stay allocated"]
#[derive(PartialEq, Eq, Debug)]
pub struct IrqHandle {
    /// Which unit's table; the driver's own numbering.
    pub unit: u16,
    /// The first entry's index in that table.
    pub first: u16,
    /// Number of entries.
    pub count: u16,
}

/// What a device or an IOAPIC must be programmed with so that its interrupt goes through
/// the entry. Opaque to everybody but the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IrqMessage {
    /// Message address, 64 bits.
    pub address: u64,
    /// Message data.
    pub data: u32,
}

/// Why an interrupt cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum IrqError {
    /// No unit remaps this device's interrupts, or remapping is off there.
    NotRemapped(DeviceId),
    /// No run of so many free entries.
    Exhausted {
        /// How many were asked for.
        wanted: u16,
    },
    /// The APIC id has more bits than the unit's mode (EIM off: 8) can hold.
    ApicIdTooWide(u32),
    /// An entry beyond the handle's count.
    NoSuchEntry(u16),
    /// Vectors below 16 are not for devices (Intel SDM 3A, 12.5.2).
    BadVector(u8),
    /// The unit did not confirm the invalidation of the entry.
    Flush,
}

/// Interrupt remapping, as the rest of a hypervisor uses it.
pub trait IrqRemapper {
    /// Entries that only this device can use (source verification), not present yet.
    fn allocate(&self, source: DeviceId, count: u16) -> Result<IrqHandle, IrqError>;

    /// Makes entry `index` of the handle deliver to `target`, and returns the message
    /// that raises it. May be called again to redirect.
    fn route(
        &self,
        handle: &IrqHandle,
        index: u16,
        target: IrqTarget,
    ) -> Result<IrqMessage, IrqError>;

    /// Makes entry `index` not present: its interrupts are blocked and logged.
    fn mask(&self, handle: &IrqHandle, index: u16) -> Result<(), IrqError>;

    /// Gives the entries back, once hardware has forgotten them.
    fn free(&self, handle: IrqHandle) -> Result<(), IrqError>;
}
