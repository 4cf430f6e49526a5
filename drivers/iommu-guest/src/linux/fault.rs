//! `struct iommu_fault` and `struct iommu_page_response`.

use crate::{DeviceId, Error, GuestPasid, Hypercall, Iommu};
use iommu_abi::{
    LINUX_VERSION_1, Layout, LinuxFaultPageRequest, LinuxFaultRead, LinuxFaultReason,
    LinuxFaultType, LinuxFaultUnrecoverable, LinuxPageResponse, LinuxPageResponseCode,
    LinuxPageResponseData, Op,
};

/// Bits of the header's permissions.
const READ: u32 = 1 << 0;
const WRITE: u32 = 1 << 1;
const PRIVILEGED: u32 = 1 << 3;

/// What happened to a device.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LinuxEvent {
    /// A request of it was refused.
    Fault(LinuxFault),
    /// It asks for a page, and waits.
    PageRequest(LinuxPageRequest),
}

/// A refused request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LinuxFault {
    /// Who asked.
    pub device: DeviceId,
    /// Why it was refused.
    pub reason: LinuxFaultReason,
    /// The PASID in the request.
    pub pasid: Option<GuestPasid>,
    /// The page that was asked for.
    pub address: Option<u64>,
    /// It wanted to read.
    pub read: bool,
    /// It wanted to write.
    pub write: bool,
    /// It asked with supervisor rights.
    pub privileged: bool,
    /// Guest-physical address of the entry of the guest's table that ended the walk.
    pub entry: Option<u64>,
}

/// A device asks for a page.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LinuxPageRequest {
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
    /// With the last request of a group: the group. Whoever takes it owes the device an
    /// answer, which waits until then.
    pub group: Option<LinuxPageGroup>,
}

/// A group of page requests that waits for an answer.
#[must_use = "the device waits: answer it"]
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LinuxPageGroup {
    device: DeviceId,
    pasid: Option<GuestPasid>,
    index: u32,
}

impl LinuxPageGroup {
    /// All pages of the group are there: the device tries again.
    pub fn served(self) -> LinuxAnswer {
        LinuxAnswer(self, LinuxPageResponseCode::Success)
    }

    /// A page of the group cannot be had: that access of the device fails.
    pub fn refused(self) -> LinuxAnswer {
        LinuxAnswer(self, LinuxPageResponseCode::Invalid)
    }

    /// The device must stop asking for pages.
    pub fn failed(self) -> LinuxAnswer {
        LinuxAnswer(self, LinuxPageResponseCode::Failure)
    }
}

/// An answer to a group: see [`Iommu::linux_answer`].
#[must_use = "the device waits: give the answer"]
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LinuxAnswer(LinuxPageGroup, LinuxPageResponseCode);

impl LinuxAnswer {
    fn to_wire(&self) -> LinuxPageResponseData {
        let Self(group, code) = self;
        LinuxPageResponseData {
            argsz: LinuxPageResponseData::SIZE as u32,
            version: LINUX_VERSION_1,
            flags: group
                .pasid
                .map_or(0, |_| LinuxPageResponseData::PASID_VALID),
            pasid: group.pasid.map_or(0, |pasid| pasid.0),
            grpid: group.index,
            code: code.as_u32(),
        }
    }
}

/// What reading events gave, beside the events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LinuxEventsRead {
    /// Events that were read, all of one device.
    pub read: u32,
    /// Events that the queue had no room for.
    pub lost: u32,
    /// Events that wait still, of whatever device.
    pub remaining: u32,
}

fn fault(device: DeviceId, fault: &LinuxFaultUnrecoverable) -> LinuxFault {
    let has = |flag| fault.flags & flag != 0;
    LinuxFault {
        device,
        // One of a newer header: not known.
        reason: LinuxFaultReason::from_u32(fault.reason).unwrap_or(LinuxFaultReason::Unknown),
        pasid: has(LinuxFaultUnrecoverable::PASID_VALID).then_some(GuestPasid(fault.pasid)),
        address: has(LinuxFaultUnrecoverable::ADDR_VALID).then_some(fault.addr),
        read: fault.perm & READ != 0,
        write: fault.perm & WRITE != 0,
        privileged: fault.perm & PRIVILEGED != 0,
        entry: has(LinuxFaultUnrecoverable::FETCH_ADDR_VALID).then_some(fault.fetch_addr),
    }
}

fn page_request(device: DeviceId, request: &LinuxFaultPageRequest) -> LinuxPageRequest {
    let has = |flag| request.flags & flag != 0;
    let pasid = has(LinuxFaultPageRequest::PASID_VALID).then_some(GuestPasid(request.pasid));
    LinuxPageRequest {
        device,
        pasid,
        address: request.addr,
        read: request.perm & READ != 0,
        write: request.perm & WRITE != 0,
        privileged: request.perm & PRIVILEGED != 0,
        group: has(LinuxFaultPageRequest::LAST_PAGE).then_some(LinuxPageGroup {
            device,
            // The response names the PASID only where the request says that it must.
            pasid: pasid.filter(|_| has(LinuxFaultPageRequest::RESPONSE_NEEDS_PASID)),
            index: request.grpid,
        }),
    }
}

impl<H: Hypercall> Iommu<'_, H> {
    /// Tells the events that wait, by `struct iommu_fault`: the oldest and those behind it, as
    /// far as they are of one device and the argument memory has room for them.
    pub fn linux_read_events(
        &mut self,
        mut each: impl FnMut(LinuxEvent),
    ) -> Result<LinuxEventsRead, Error> {
        let nonsense = Error::Nonsense(Op::LinuxFaultRead);
        let capacity = self.memory.room_for::<LinuxFaultUnrecoverable>();
        let answer = self.call(&LinuxFaultRead {
            buffer: self.memory.array_address(),
            capacity: capacity as u32,
            ..LinuxFaultRead::new()
        })?;
        let device = DeviceId(answer.device_id);
        for index in 0..capacity.min(answer.count as usize) {
            let unrecoverable: Option<LinuxFaultUnrecoverable> = self.memory.read_element(index);
            let unrecoverable = unrecoverable.ok_or(nonsense)?;
            let event = match LinuxFaultType::from_u32(unrecoverable.kind) {
                Some(LinuxFaultType::DmaUnrecov) => {
                    LinuxEvent::Fault(fault(device, &unrecoverable))
                }
                Some(LinuxFaultType::PageReq) => {
                    let request: Option<LinuxFaultPageRequest> = self.memory.read_element(index);
                    let request = request.ok_or(nonsense)?;
                    LinuxEvent::PageRequest(page_request(device, &request))
                }
                None => return Err(nonsense),
            };
            each(event);
        }
        Ok(LinuxEventsRead {
            read: answer.count,
            lost: answer.lost,
            remaining: answer.remaining,
        })
    }

    /// Answers a group of page requests, by `struct iommu_page_response`. On error the answer
    /// comes back; it can be given again unless its group waits no more (`ENOENT`).
    pub fn linux_answer(&mut self, answer: LinuxAnswer) -> Result<(), (Error, LinuxAnswer)> {
        let too_small = Error::MemoryTooSmall(Op::LinuxPageResponse);
        let given = match self.memory.write_element(0, &answer.to_wire()) {
            None => Err(too_small),
            Some(()) => self.call(&LinuxPageResponse {
                device_id: answer.0.device.0,
                structure: self.memory.array_address(),
                ..LinuxPageResponse::new()
            }),
        };
        match given {
            Ok(_) => Ok(()),
            Err(error) => Err((error, answer)),
        }
    }
}
