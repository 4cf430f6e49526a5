//! Page requests: the answers to them (§7.6), and of a slot that leads nowhere any more, what
//! is under way is brought to where it can be answered or forgotten (§7.10).

use super::Driver;
use crate::Event;
use crate::queue::{Descriptor, IotlbScope};
use iommu_core::{BackendError, Mmio, Observer, PageResponse, Pasid, Platform, ResponseCode, Slot};

/// The domain id of the invalidation that only stands where one must: no translation has it.
const NO_DOMAIN: u16 = 0;

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Gives answers to devices: all that concern a unit in one round, as far as its queue has
    /// room, and with one wait for them.
    pub(super) fn answer(&self, responses: &[PageResponse]) -> Result<(), BackendError> {
        let mut result = Ok(());
        for response in responses {
            result = result.and(self.can_answer(response.slot));
        }
        for (position, unit) in self.units.iter().enumerate() {
            let (Some(queue), Some(_)) = (&unit.queue, &unit.page_requests) else {
                continue;
            };
            let of_unit = |response: &&PageResponse| {
                let unit = self.locate(response.slot.device);
                unit.is_ok_and(|(of, _)| of == position)
            };
            let mut mine = responses.iter().filter(of_unit).peekable();
            let Some(first) = mine.peek() else { continue };
            let device = first.slot.device;
            let answered = unit.answer(&self.platform, queue, &mut || mine.next().map(descriptor));
            let answered = answered.map_err(|error| self.unconfirmed_error(unit, device, error));
            result = result.and(answered);
        }
        result
    }

    fn can_answer(&self, slot: Slot) -> Result<(), BackendError> {
        let (_, unit) = self.locate(slot.device)?;
        match unit.page_requests {
            Some(_) => Ok(()),
            None => Err(BackendError::Unsupported(slot.device)),
        }
    }

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

fn descriptor(response: &PageResponse) -> Descriptor {
    Descriptor::PageGroupResponse {
        source: response.slot.device.source,
        pasid: response.slot.pasid,
        group: response.group,
        code: match response.code {
            ResponseCode::Success => 0,
            ResponseCode::InvalidRequest => 1,
            ResponseCode::Failure => 15,
        },
    }
}
