//! Interrupts of devices: who sends them, and entries that let them pass to a vector.

use super::Driver;
use crate::cpu::{apic, vectors};
use crate::pci::Bus;
use iommu_core::{DeviceId, IrqError, IrqHandle, IrqMessage, IrqRemapper, IrqTarget};
use pci::InterruptRequester;
use vtd::InterruptSource;

/// Whom the device's interrupts come from.
pub fn interrupt_source(bus: &Bus, device: DeviceId) -> InterruptSource {
    match bus.topology.interrupt_requester(device) {
        InterruptRequester::Buses(first, last) => InterruptSource::Buses {
            bridge: device,
            first,
            last,
        },
        InterruptRequester::Id(id) => InterruptSource::Function(DeviceId::new(device.segment, id)),
    }
}

/// An entry, and the message that only this source can send to it: it ends in a vector of this
/// CPU.
pub fn route(
    driver: &Driver,
    source: InterruptSource,
    vector: vectors::Vector,
) -> Result<(IrqHandle, IrqMessage), IrqError> {
    let entry = driver.allocate_interrupts(source, 1)?;
    let target = IrqTarget {
        apic_id: apic::id(),
        vector: vector.number(),
        level: false,
    };
    match driver.route(&entry, 0, target) {
        Ok(message) => Ok((entry, message)),
        Err(error) => {
            // What hardware does not forget now is reported by the driver.
            let _ = driver.free(entry);
            Err(error)
        }
    }
}
