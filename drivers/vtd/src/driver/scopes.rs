//! Which unit remaps which device: known to the caller, who has resolved the DMAR's device
//! scopes over the machine's buses.

use iommu_core::DeviceId;

/// Says which unit remaps a device (§8.3).
pub trait Scopes: Send + Sync {
    /// The number of the unit (as in its description) that remaps requests of `device`, or
    /// that remaps the interrupts of an I/O APIC or HPET with this source id. `None` if no
    /// unit does.
    fn unit_of(&self, device: DeviceId) -> Option<u16>;
}

impl<F: Fn(DeviceId) -> Option<u16> + Send + Sync> Scopes for F {
    fn unit_of(&self, device: DeviceId) -> Option<u16> {
        self(device)
    }
}
