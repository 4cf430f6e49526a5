//! Functions that break the driver's rules, so that a test can see what hardware makes of
//! it. Only with the feature `test-hooks`; nothing of the product calls them.

use crate::Event;
use crate::driver::Driver;
use crate::queue::{ContextScope, Descriptor, IotlbScope, PasidScope};
use crate::unit::Unit;
use core::sync::atomic::Ordering;
use iommu_core::{BackendError, DeviceId, FlushError, Mmio, Observer, Pasid, Platform};

impl<M: Mmio> Unit<M> {
    pub(crate) fn extra_pasid_bits(&self) -> u8 {
        self.extra_pasid_bits.load(Ordering::Relaxed)
    }
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Lets slots of the device's unit have PASIDs of so many bits (at most 20), whatever
    /// ECAP says.
    pub fn pretend_pasid_bits(&self, device: DeviceId, bits: u8) -> Result<(), BackendError> {
        let (_, unit) = self.locate(device)?;
        unit.extra_pasid_bits.store(bits.min(20), Ordering::Relaxed);
        Ok(())
    }

    /// Writes RID_PASID of the device's context entry, whether the unit has ECAP.RPS or
    /// not, and drops everything cached. The device must have been attached once.
    ///
    /// QEMU 10.0 honours the field though its ECAP says otherwise, so that there a device
    /// without PASIDs can be made to walk the entry of any.
    pub fn set_rid_pasid(&self, device: DeviceId, pasid: Pasid) -> Result<(), BackendError> {
        let (_, unit) = self.locate(device)?;
        let known =
            unit.tables
                .lock(self.platform())
                .set_rid_pasid(self.platform(), device.source, pasid);
        if !known {
            return Err(BackendError::Unsupported(device));
        }
        let everything = [
            Descriptor::ContextCache(ContextScope::Global),
            Descriptor::PasidCache(PasidScope::Global),
            Descriptor::Iotlb(IotlbScope::Global),
        ];
        unit.invalidate(self.platform(), &everything).map_err(|_| {
            BackendError::Flush(FlushError::UnitTimedOut {
                unit: unit.index(),
                waited: unit.limits.flush,
            })
        })
    }
}
