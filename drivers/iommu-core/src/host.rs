//! What policy asks of the hypervisor around it.

use crate::{
    BackendError, DeviceId, DomainHandle, ResetError, ServiceError, Slot, SourceId, VmEvent, VmId,
};

/// What policy asks of the hypervisor.
pub trait VmHost {
    /// Tells a guest that something waits for it. Called from interrupt handlers.
    fn notify(&self, vm: VmId, event: VmEvent);

    /// Brings a device into the state of power-on, its DMA stopped.
    fn reset(&self, device: DeviceId) -> Result<(), ResetError>;

    /// Ends all that a device does with a PASID, which may have another owner then. Only a
    /// hypervisor that lets guests share a device by PASID needs it; a PASID for which this
    /// fails is never given to anybody again.
    fn stop_pasid(&self, slot: Slot) -> Result<(), ResetError> {
        Err(ResetError::NoMethod(slot.device))
    }

    /// Like [`reset`](Self::reset), for hypervisors that can also reset a device together
    /// with others: none of those may be one that `is_in_use` names.
    fn reset_beside(
        &self,
        device: DeviceId,
        is_in_use: &dyn Fn(DeviceId) -> bool,
    ) -> Result<(), ResetError> {
        let _ = is_in_use;
        self.reset(device)
    }

    /// Tells the ids, beside its own, under which requests without PASID of a device reach
    /// its unit: those of bridges that speak for it, and those that it uses by mistake
    /// (§3.4.1). Always the same for a device.
    fn aliases(&self, device: DeviceId, tell: &mut dyn FnMut(SourceId)) {
        let _ = (device, tell);
    }

    /// Tells the other devices that cannot be kept apart from this one. Always the same for
    /// a device, and the same for all that are told.
    fn companions(&self, device: DeviceId, tell: &mut dyn FnMut(DeviceId)) {
        let _ = (device, tell);
    }

    /// A domain of the back-end whose tables are those by which the guest's CPUs see its
    /// memory, for a device of the guest. Whoever asked destroys it. `Unsupported` where there
    /// are none that the device's unit can walk, or where they are not kept for devices.
    ///
    /// Before the tables cease to lead to memory of the guest for good, the hypervisor calls
    /// what takes memory out of everything that devices can reach, as for all other memory.
    fn share_tables(&self, vm: VmId, device: DeviceId) -> Result<DomainHandle, BackendError> {
        let _ = vm;
        Err(BackendError::Unsupported(device))
    }

    /// Programs a device to translate ahead and to ask for pages (on: PASID, then ATS, then
    /// PRI), or not to any more (off: the other way round, each step awaited). Only a
    /// hypervisor that allows devices to do so needs it.
    fn set_page_requests(&self, device: DeviceId, on: bool) -> Result<(), ServiceError> {
        let _ = on;
        Err(ServiceError::Unsupported(device))
    }
}
