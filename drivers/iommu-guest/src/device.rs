//! What the guest has.

use iommu_abi::{Capabilities, DeviceEntry, DeviceInfo, Format, Info};

/// A device of this guest, by its handle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DeviceId(pub(crate) u32);

impl DeviceId {
    /// The handle on the wire.
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// A handle that came from elsewhere. The hypervisor refuses one that does not exist.
    pub const fn from_u32(handle: u32) -> Self {
        Self(handle)
    }
}

/// A device, and where the guest finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Device {
    /// Its handle.
    pub id: DeviceId,
    /// PCI segment, as the guest sees it.
    pub segment: u16,
    /// Bus in bits 15:8, device in 7:3, function in 2:0, as the guest sees them.
    pub requester_id: u16,
}

impl From<DeviceEntry> for Device {
    fn from(entry: DeviceEntry) -> Self {
        Self {
            id: DeviceId(entry.device_id),
            segment: (entry.virtual_id >> 16) as u16,
            requester_id: entry.virtual_id as u16,
        }
    }
}

/// What a device can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DeviceAbilities {
    /// What can be used, and what must be done.
    pub capabilities: Capabilities,
    formats: u64,
    /// Bits of address that can be translated at most.
    pub iova_bits: u32,
    /// Bits of PASID; 0 if none.
    pub pasid_bits: u32,
    /// Slots that are bound now.
    pub bound: u32,
}

impl DeviceAbilities {
    /// Whether the guest's tables may have this format.
    pub fn supports(&self, format: Format) -> bool {
        self.formats
            .checked_shr(format.as_u32())
            .is_some_and(|formats| formats & 1 != 0)
    }
}

impl From<DeviceInfo> for DeviceAbilities {
    fn from(info: DeviceInfo) -> Self {
        Self {
            capabilities: Capabilities::from_bits_retain(info.capabilities),
            formats: info.formats,
            iova_bits: info.iova_bits,
            pasid_bits: info.pasid_bits,
            bound: info.bound,
        }
    }
}

/// The interface as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct InterfaceInfo {
    /// The hypervisor's version of the structure layouts.
    pub version: u32,
    /// Ranges that one invalidation call does at most.
    pub invalidate_entries: u32,
    /// Events that the fault queue holds.
    pub fault_events: u32,
    /// Objects that the guest may have at a time.
    pub objects: u32,
    /// Pages of shadow tables that the guest may use, and how many it uses now.
    pub shadow_pages: (u32, u32),
    /// PASIDs that the guest may have at a time.
    pub pasids: u32,
    /// The largest PASID of the guest's numbering.
    pub pasid_max: u32,
}

impl From<Info> for InterfaceInfo {
    fn from(info: Info) -> Self {
        Self {
            version: info.version,
            invalidate_entries: info.invalidate_entries,
            fault_events: info.fault_events,
            objects: info.objects,
            shadow_pages: (info.shadow_pages, info.shadow_pages_used),
            pasids: info.pasids,
            pasid_max: info.pasid_max,
        }
    }
}
