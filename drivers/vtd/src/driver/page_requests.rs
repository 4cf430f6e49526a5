//! Page requests of a slot that leads nowhere any more: what is under way is brought to
//! where it can be answered or forgotten (§7.10).

use super::Driver;
use crate::Event;
use crate::queue::{Descriptor, IotlbScope};
use iommu_core::{BackendError, Mmio, Observer, Pasid, Platform, Slot};

/// The domain id of the invalidation that only stands where one must: no translation has it.
const NO_DOMAIN: u16 = 0;

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Says whether requests were dropped meanwhile because the queue was full.
    ///
    /// The device answers the invalidation of its TLB after it has taken the answers that were
    /// queued before, and after it has sent what it had to ask (§7.7, §7.8); the wait is
    /// written after what it sent (PD). A unit without PD writes what it received at the
    /// latest when the tail is read.
    pub(super) fn flush_requests(&self, slot: Slot) -> Result<bool, BackendError> {
        let device = slot.device;
        let (_, unit) = self.locate(device)?;
        let (Some(queue), Some(_)) = (&unit.queue, &unit.page_requests) else {
            return Ok(false);
        };
        let known = self.domains.lock(&self.platform).device_tlb(device);
        let Some(target) = known else {
            // It may not ask, or not any more.
            return Ok(false);
        };
        let steps = [
            queue.fence_descriptor(),
            Descriptor::Iotlb(IotlbScope::Pasid {
                domain: NO_DOMAIN,
                pasid: slot.pasid.unwrap_or(Pasid::ZERO),
            }),
            Descriptor::DeviceTlb {
                target,
                pasid: slot.pasid,
                block: None,
            },
        ];
        unit.invalidate_behind_requests(&self.platform, queue, &steps)
            .map_err(|error| self.unconfirmed_error(unit, device, error))?;
        Ok(unit.lost_page_requests())
    }
}
