//! Pages that devices ask for, and the answers.

use crate::{DeviceId, GuestPasid};
use iommu_abi::{FaultEvent, PageAnswer, PageResponseCode};

/// A device asks for a page.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PageRequest {
    /// Who asks.
    pub device: DeviceId,
    /// The PASID in the request.
    pub pasid: Option<GuestPasid>,
    /// The page.
    pub address: u64,
    /// It wants to read.
    pub read: bool,
    /// It wants to write.
    pub write: bool,
    /// It asks with supervisor rights.
    pub privileged: bool,
    /// Handle of the address space that is bound.
    pub ioas_id: u32,
    /// With the last request of a group: the group, of which all has been told now. Whoever
    /// takes it owes the device an answer, which waits until then.
    pub group: Option<PageGroup>,
}

/// A group of page requests that waits for an answer.
#[must_use = "the device waits: answer it"]
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PageGroup {
    cookie: u64,
    device: DeviceId,
    pasid: Option<GuestPasid>,
    index: u32,
}

impl PageGroup {
    /// All pages of the group are there: the device tries again.
    pub fn served(self) -> Answer {
        Answer(self, PageResponseCode::Success)
    }

    /// A page of the group cannot be had: that access of the device fails.
    pub fn refused(self) -> Answer {
        Answer(self, PageResponseCode::InvalidRequest)
    }

    /// The device must stop asking for pages.
    pub fn failed(self) -> Answer {
        Answer(self, PageResponseCode::Failure)
    }
}

/// An answer to a group: see [`Iommu::answer`](crate::Iommu::answer).
#[must_use = "the device waits: give the answer"]
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Answer(PageGroup, PageResponseCode);

impl Answer {
    pub(crate) fn to_wire(&self) -> PageAnswer {
        let Self(group, code) = self;
        PageAnswer {
            cookie: group.cookie,
            device_id: group.device.0,
            flags: group.pasid.map_or(0, |_| PageAnswer::PASID),
            pasid: group.pasid.map_or(0, |pasid| pasid.0),
            group: group.index,
            code: code.as_u32(),
            ..PageAnswer::default()
        }
    }
}

impl From<FaultEvent> for PageRequest {
    fn from(event: FaultEvent) -> Self {
        let has = |flag| event.flags & flag != 0;
        let device = DeviceId(event.device_id);
        let pasid = has(FaultEvent::PASID).then_some(GuestPasid(event.pasid));
        Self {
            device,
            pasid,
            address: event.address,
            read: event.access & FaultEvent::READ != 0,
            write: event.access & FaultEvent::WRITE != 0,
            privileged: has(FaultEvent::PRIVILEGED),
            ioas_id: event.ioas_id,
            group: has(FaultEvent::LAST).then_some(PageGroup {
                cookie: event.cookie,
                device,
                pasid,
                index: event.group,
            }),
        }
    }
}
