//! What a device or an I/O APIC is programmed with (§5.1.2.2, §5.1.5).

use crate::tables::interrupt::{IoapicEntry, RemappableAddress};
use iommu_core::{IrqMessage, IrqTarget};

/// The message that raises entry `first + offset`.
///
/// The offset is the subhandle in the data, so that a device with several MSI vectors,
/// which it tells apart by adding to the data, is programmed with the message of offset 0.
pub(crate) fn remappable_message(first: u16, offset: u16) -> IrqMessage {
    IrqMessage {
        address: u64::from(RemappableAddress::with_subhandle(first).into_bits()),
        data: u32::from(offset),
    }
}

/// The redirection table entry that makes an I/O APIC raise what `message` raises.
///
/// Trigger and vector are those of the entry's target, as §5.1.5.1 wants; the polarity is
/// the line's own.
pub fn ioapic_entry(
    message: &IrqMessage,
    target: &IrqTarget,
    active_low: bool,
    masked: bool,
) -> u64 {
    let address = RemappableAddress::from_bits(message.address as u32);
    let handle = address.handle_low() | (u16::from(address.handle_high()) << 15);
    let index = handle.wrapping_add(message.data as u16);
    IoapicEntry::new()
        .with_format(true)
        .with_index_low(index & 0x7fff)
        .with_index_high(index >> 15 != 0)
        .with_vector(target.vector)
        .with_level(target.level)
        .with_active_low(active_low)
        .with_mask(masked)
        .into_bits()
}
