//! What happened to the guest's devices: requests that were refused, and pages asked for.

use crate::{DeviceId, GuestPasid, PageRequest};
use iommu_abi::{Errno, FaultEvent, FaultEventKind};

/// What happened to a device.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event {
    /// A request of it was refused.
    Fault(Fault),
    /// It asks for a page, and waits.
    PageRequest(PageRequest),
    /// Hardware did not confirm an invalidation of a table.
    Invalidation {
        /// The table, by its handle.
        ioas_id: u32,
        /// What the call returned.
        errno: Errno,
    },
}

impl From<FaultEvent> for Event {
    fn from(event: FaultEvent) -> Self {
        match FaultEventKind::from_u32(event.kind) {
            Some(FaultEventKind::PageRequest) => Self::PageRequest(event.into()),
            Some(FaultEventKind::Invalidation) => Self::Invalidation {
                ioas_id: event.ioas_id,
                errno: Errno::from_u32(event.reason).unwrap_or(Errno::EIO),
            },
            _ => Self::Fault(event.into()),
        }
    }
}

/// A refused request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Fault {
    /// What was refused; `None` for a kind that this library does not know.
    pub kind: Option<FaultEventKind>,
    /// Who asked.
    pub device: DeviceId,
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
    /// VT-d's number of the reason (§7.1.3).
    pub reason: u8,
    /// The entry of the guest's table that ended the walk.
    pub entry: Option<FaultEntry>,
    /// Handle of the address space that was bound, if any was.
    pub ioas_id: Option<u32>,
    /// Counts faults, lost ones included.
    pub sequence: u64,
    /// Faults were lost just before this one.
    pub lost_before: bool,
}

/// Where the walk through the guest's table ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FaultEntry {
    /// 1 for a 4 KiB leaf.
    pub level: u8,
    /// Guest-physical address of the entry.
    pub address: u64,
    /// What it held.
    pub value: u64,
}

/// What reading events gave, beside the events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FaultsRead {
    /// Events that were read.
    pub read: u32,
    /// Events that the queue had no room for.
    pub lost: u32,
    /// Events that wait still.
    pub remaining: u32,
}

impl From<FaultEvent> for Fault {
    fn from(event: FaultEvent) -> Self {
        let has = |flag| event.flags & flag != 0;
        Self {
            kind: FaultEventKind::from_u32(event.kind),
            device: DeviceId(event.device_id),
            pasid: has(FaultEvent::PASID).then_some(GuestPasid(event.pasid)),
            address: has(FaultEvent::ADDRESS).then_some(event.address),
            read: event.access & FaultEvent::READ != 0,
            write: event.access & FaultEvent::WRITE != 0,
            privileged: has(FaultEvent::PRIVILEGED),
            reason: event.reason as u8,
            entry: has(FaultEvent::ENTRY).then_some(FaultEntry {
                level: event.level as u8,
                address: event.entry_address,
                value: event.entry,
            }),
            ioas_id: has(FaultEvent::IOAS).then_some(event.ioas_id),
            sequence: event.sequence,
            lost_before: has(FaultEvent::LOST_BEFORE),
        }
    }
}
