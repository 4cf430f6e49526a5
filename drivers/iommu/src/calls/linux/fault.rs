//! `struct iommu_fault`: events, as far as that structure can tell them.

use crate::argument::{check_array_writable, element, write_entry};
use crate::dispatch::Answer;
use crate::vm::Vm;
use crate::{Iommu, PasidAllocator};
use iommu_abi::{
    Errno, FaultEvent, FaultEventKind, LinuxFaultPageRequest, LinuxFaultRead, LinuxFaultReason,
    LinuxFaultType, LinuxFaultUnrecoverable,
};
use iommu_core::{Backend, FaultReason, Platform, VmHost};

/// Size of `struct iommu_fault`.
const ELEMENT: u32 = 64;

/// IOMMU_FAULT_PERM_*.
const PERM_READ: u32 = 1;
const PERM_WRITE: u32 = 2;
const PERM_PRIVILEGED: u32 = 8;

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn linux_fault_read(&self, guest: &mut Vm, ask: &mut LinuxFaultRead) -> Answer {
        let inbox = &self.slot(guest.id).ok_or(Errno::EIO)?.inbox;
        let memory = &*guest.memory;
        // Events stay on the queue until all have been written. Only this guest's calls take
        // them off, and those take turns, so they are still the same ones.
        let (count, device_id) = {
            let events = &inbox.lock(&self.platform).events;
            let oldest = events.peek(0).map_or(0, |event| event.device_id);
            let of_one = (0..ask.capacity)
                .map_while(|index| events.peek(index as usize))
                .take_while(|event| event.device_id == oldest)
                .count();
            (u32::try_from(of_one).unwrap_or(0), oldest)
        };
        check_array_writable(memory, ask.buffer, ELEMENT, count)?;
        for index in 0..count {
            let event = inbox.lock(&self.platform).events.peek(index as usize);
            let event = event.ok_or(Errno::EIO)?;
            let at = element(ask.buffer, ELEMENT, index)?;
            if event.kind == FaultEventKind::PageRequest.as_u32() {
                write_entry(memory, at, ELEMENT, &page_request(&event))?;
            } else {
                write_entry(memory, at, ELEMENT, &unrecoverable(&event))?;
            }
        }
        let events = &mut inbox.lock(&self.platform).events;
        events.drop_oldest(count as usize);
        ask.device_id = if count == 0 { 0 } else { device_id };
        ask.count = count;
        ask.lost = events.take_lost();
        ask.remaining = u32::try_from(events.len()).unwrap_or(u32::MAX);
        Ok(count.into())
    }
}

fn flag(event: &FaultEvent, from: u32, to: u32) -> u32 {
    if event.flags & from != 0 { to } else { 0 }
}

fn permissions(event: &FaultEvent) -> u32 {
    let asked = |right: u32, bit: u32| if event.access & right != 0 { bit } else { 0 };
    asked(FaultEvent::READ, PERM_READ)
        | asked(FaultEvent::WRITE, PERM_WRITE)
        | flag(event, FaultEvent::PRIVILEGED, PERM_PRIVILEGED)
}

fn page_request(event: &FaultEvent) -> LinuxFaultPageRequest {
    LinuxFaultPageRequest {
        kind: LinuxFaultType::PageReq.as_u32(),
        flags: flag(
            event,
            FaultEvent::PASID,
            LinuxFaultPageRequest::PASID_VALID | LinuxFaultPageRequest::RESPONSE_NEEDS_PASID,
        ) | flag(event, FaultEvent::LAST, LinuxFaultPageRequest::LAST_PAGE),
        pasid: event.pasid,
        grpid: event.group,
        perm: permissions(event),
        addr: event.address,
        ..LinuxFaultPageRequest::default()
    }
}

fn unrecoverable(event: &FaultEvent) -> LinuxFaultUnrecoverable {
    type Fault = LinuxFaultUnrecoverable;
    LinuxFaultUnrecoverable {
        kind: LinuxFaultType::DmaUnrecov.as_u32(),
        reason: reason(event).as_u32(),
        flags: flag(event, FaultEvent::PASID, Fault::PASID_VALID)
            | flag(event, FaultEvent::ADDRESS, Fault::ADDR_VALID)
            | flag(event, FaultEvent::ENTRY, Fault::FETCH_ADDR_VALID),
        pasid: event.pasid,
        perm: permissions(event),
        addr: event.address,
        fetch_addr: event.entry_address,
        ..Fault::default()
    }
}

/// VT-d's reason in the words of the header.
fn reason(event: &FaultEvent) -> LinuxFaultReason {
    if event.kind != FaultEventKind::Dma.as_u32() {
        return LinuxFaultReason::Unknown;
    }
    let Ok(code) = u8::try_from(event.reason) else {
        return LinuxFaultReason::Unknown;
    };
    match FaultReason(code) {
        FaultReason::PASID_DIRECTORY_ERROR | FaultReason::PASID_TABLE_ERROR => {
            LinuxFaultReason::PasidFetch
        }
        FaultReason::PASID_DIRECTORY_RESERVED
        | FaultReason::PASID_RESERVED
        | FaultReason::PASID_INVALID => LinuxFaultReason::BadPasidEntry,
        FaultReason::PASID_BLOCKED
        | FaultReason::PASID_BEYOND_DIRECTORY
        | FaultReason::PASID_IS_RID_PASID
        | FaultReason::PASID_DIRECTORY_NOT_PRESENT
        | FaultReason::PASID_NOT_PRESENT
        | FaultReason::PASID_TOO_WIDE => LinuxFaultReason::PasidInvalid,
        FaultReason::FIRST_STAGE_TABLE_ERROR
        | FaultReason::FIRST_STAGE_ROOT_ERROR
        | FaultReason::NESTED_UPDATE_DENIED
        | FaultReason::FIRST_STAGE_UPDATE_FAILED => LinuxFaultReason::WalkEabt,
        FaultReason::FIRST_STAGE_NOT_PRESENT
        | FaultReason::FIRST_STAGE_RESERVED
        | FaultReason::NOT_CANONICAL
        | FaultReason::SCALABLE_BEYOND_WIDTH
        | FaultReason::BEYOND_WIDTH => LinuxFaultReason::PteFetch,
        FaultReason::USER_DENIED
        | FaultReason::SUPERVISOR_DISABLED
        | FaultReason::SCALABLE_WRITE_DENIED
        | FaultReason::SCALABLE_READ_DENIED
        | FaultReason::WRITE_DENIED
        | FaultReason::READ_DENIED => LinuxFaultReason::Permission,
        FaultReason::SECOND_STAGE_NOT_PRESENT
        | FaultReason::NESTED_BEYOND_WIDTH
        | FaultReason::NESTED_ROOT_DENIED
        | FaultReason::NESTED_TABLE_DENIED
        | FaultReason::SCALABLE_INTO_INTERRUPT_RANGE
        | FaultReason::INTO_INTERRUPT_RANGE => LinuxFaultReason::OorAddress,
        _ => LinuxFaultReason::Unknown,
    }
}
