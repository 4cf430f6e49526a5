//! A guest's objects, by handle.
//!
//! Handles are small numbers, the lowest free one first, and mean something only together
//! with the guest. A handle of another kind, or of nobody, is `ENOENT`.

use crate::nesting::ParentId;
use crate::ring::Ring;
use crate::service::Service;
use alloc::vec::Vec;
use iommu_abi::Errno;
use iommu_core::{
    AddressRange, AtsCapability, DeviceCapabilities, DeviceId, DomainHandle, Gpa, Iova, Pasid,
};

/// A device of the guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    pub(crate) device: DeviceId,
    /// Where the guest finds it.
    pub(crate) virtual_id: u32,
    pub(crate) capabilities: DeviceCapabilities,
    /// The second stage that its guest's tables stand on, where hardware nests them.
    pub(crate) parent: Option<ParentId>,
    /// The tables of the guest's CPUs can be shared with it.
    pub(crate) shares: bool,
    /// Only a part of it is the guest's: PASIDs of its own.
    pub(crate) slice: bool,
    /// It may ask for pages, and has this TLB.
    pub(crate) asks: Option<AtsCapability>,
}

/// A page table that the guest keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserTable {
    pub(crate) root: Gpa,
    pub(crate) levels: u8,
    /// How the device is served that it was allocated for.
    pub(crate) service: Service,
    /// As the guest asked for it.
    pub(crate) format_flags: u64,
    pub(crate) enforce_snoop: bool,
    /// The address space that its addresses are of; the guest's physical memory if none.
    pub(crate) parent: Option<u32>,
    pub(crate) origin: Origin,
}

/// How a table of the guest's came to be known, and so when it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// By a call of its own; it goes by another.
    Allocated,
    /// With a binding that a structure of `linux/iommu.h` asked for.
    LinuxBind,
    /// With an entry of a PASID table of the guest's.
    PasidTable {
        /// The PASID, if the guest has it for this alone.
        pasid: Option<Pasid>,
    },
}

impl Origin {
    /// It goes with its last binding.
    pub(crate) fn comes_with_binding(&self) -> bool {
        !matches!(self, Self::Allocated)
    }

    /// The PASID that goes with it.
    pub(crate) fn taken_pasid(&self) -> Option<Pasid> {
        match *self {
            Self::PasidTable { pasid } => pasid,
            Self::Allocated | Self::LinuxBind => None,
        }
    }

    /// The same, with the PASID left to somebody else.
    pub(crate) fn without_pasid(self) -> Self {
        match self {
            Self::PasidTable { .. } => Self::PasidTable { pasid: None },
            other => other,
        }
    }
}

/// A mapping in an address space that the hypervisor keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    pub(crate) ioas_id: u32,
    pub(crate) iova: AddressRange<Iova>,
    pub(crate) gpa: Gpa,
}

/// An address space that the hypervisor keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Managed {
    pub(crate) domain: DomainHandle,
    /// The lowest and the highest address that are given out.
    pub(crate) window: AddressRange<Iova>,
    /// Requests snoop whatever they ask for.
    pub(crate) snoops: bool,
}

/// The guest's memory, by the tables that its CPUs use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    pub(crate) domain: DomainHandle,
    /// Bits of guest-physical address that the device's unit translates.
    pub(crate) bits: u8,
}

/// An object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Object {
    Device(Device),
    UserTable(UserTable),
    Managed(Managed),
    Shared(Shared),
    /// Operations that wait in the guest's memory.
    Ring(Ring),
    /// A queue of events, which is kept in the inbox.
    Queue,
}

/// All objects of a guest.
#[derive(Debug)]
pub(crate) struct Objects {
    objects: Vec<Option<Object>>,
    /// Of all managed address spaces together, in no order.
    pub(crate) mappings: Vec<Mapping>,
}

impl Objects {
    /// Room for so many; `None` without memory.
    pub(crate) fn new(objects: usize, mappings: usize) -> Option<Self> {
        let mut room = Vec::new();
        room.try_reserve_exact(objects).ok()?;
        room.resize_with(objects, || None);
        let mut mapping_room = Vec::new();
        mapping_room.try_reserve_exact(mappings).ok()?;
        Some(Self {
            objects: room,
            mappings: mapping_room,
        })
    }

    /// Takes the lowest free handle.
    pub(crate) fn insert(&mut self, object: Object) -> Result<u32, Errno> {
        let place = self.free_place()?;
        let slot = self.objects.get_mut(place).ok_or(Errno::EDQUOT)?;
        *slot = Some(object);
        handle_of(place)
    }

    /// `EDQUOT` if there is no room for another object.
    pub(crate) fn check_room(&self) -> Result<(), Errno> {
        self.free_place().map(drop)
    }

    fn free_place(&self) -> Result<usize, Errno> {
        self.objects
            .iter()
            .position(Option::is_none)
            .ok_or(Errno::EDQUOT)
    }

    pub(crate) fn remove(&mut self, handle: u32) -> Option<Object> {
        self.objects.get_mut(place_of(handle)?)?.take()
    }

    /// Notes the second stage that a device's tables stand on.
    pub(crate) fn set_parent(&mut self, handle: u32, parent: Option<ParentId>) {
        let place = place_of(handle).and_then(|place| self.objects.get_mut(place));
        if let Some(Some(Object::Device(device))) = place {
            device.parent = parent;
        }
    }

    /// Notes that the tables of the guest's CPUs can be shared with a device.
    pub(crate) fn set_shares(&mut self, handle: u32, shares: bool) {
        let place = place_of(handle).and_then(|place| self.objects.get_mut(place));
        if let Some(Some(Object::Device(device))) = place {
            device.shares = shares;
        }
    }

    /// Notes whether a device may ask for pages.
    pub(crate) fn set_asks(&mut self, handle: u32, asks: Option<AtsCapability>) {
        let place = place_of(handle).and_then(|place| self.objects.get_mut(place));
        if let Some(Some(Object::Device(device))) = place {
            device.asks = asks;
        }
    }

    /// Notes how a table came to be known.
    pub(crate) fn set_origin(&mut self, handle: u32, origin: Origin) {
        let place = place_of(handle).and_then(|place| self.objects.get_mut(place));
        if let Some(Some(Object::UserTable(table))) = place {
            table.origin = origin;
        }
    }

    /// The handle of a device.
    pub(crate) fn handle_of_device(&self, device: DeviceId) -> Option<u32> {
        self.devices()
            .find(|(_, object)| object.device == device)
            .map(|(handle, _)| handle)
    }

    /// One of the devices, if there are any.
    pub(crate) fn any_device(&self) -> Option<(u32, Device)> {
        let (handle, device) = self.devices().next()?;
        Some((handle, *device))
    }

    pub(crate) fn get(&self, handle: u32) -> Result<&Object, Errno> {
        place_of(handle)
            .and_then(|place| self.objects.get(place))
            .and_then(Option::as_ref)
            .ok_or(Errno::ENOENT)
    }

    pub(crate) fn device(&self, handle: u32) -> Result<&Device, Errno> {
        match self.get(handle)? {
            Object::Device(device) => Ok(device),
            _ => Err(Errno::ENOENT),
        }
    }

    pub(crate) fn user_table(&self, handle: u32) -> Result<&UserTable, Errno> {
        match self.get(handle)? {
            Object::UserTable(table) => Ok(table),
            _ => Err(Errno::ENOENT),
        }
    }

    pub(crate) fn managed(&self, handle: u32) -> Result<&Managed, Errno> {
        match self.get(handle)? {
            Object::Managed(managed) => Ok(managed),
            _ => Err(Errno::ENOENT),
        }
    }

    /// Whether a table of the guest's stands on this address space.
    pub(crate) fn is_parent(&self, handle: u32) -> bool {
        self.iter().any(
            |(_, object)| matches!(object, Object::UserTable(table) if table.parent == Some(handle)),
        )
    }

    /// Whether an address space that the hypervisor keeps maps an address.
    pub(crate) fn is_mapped(&self, handle: u32, at: Iova) -> bool {
        self.mappings
            .iter()
            .any(|mapping| mapping.ioas_id == handle && mapping.iova.contains(at))
    }

    pub(crate) fn ring(&self, handle: u32) -> Result<&Ring, Errno> {
        match self.get(handle)? {
            Object::Ring(ring) => Ok(ring),
            _ => Err(Errno::ENOENT),
        }
    }

    pub(crate) fn queue(&self, handle: u32) -> Result<(), Errno> {
        match self.get(handle)? {
            Object::Queue => Ok(()),
            _ => Err(Errno::ENOENT),
        }
    }

    /// Refuses what no queue tells of: only address spaces and devices have events.
    pub(crate) fn told_by_queues(&self, handle: u32) -> Result<(), Errno> {
        match self.get(handle)? {
            Object::Device(_) | Object::UserTable(_) | Object::Managed(_) | Object::Shared(_) => {
                Ok(())
            }
            Object::Ring(_) | Object::Queue => Err(Errno::ENOENT),
        }
    }

    /// Notes how far a ring is.
    pub(crate) fn set_ring(&mut self, handle: u32, ring: Ring) {
        let place = place_of(handle).and_then(|place| self.objects.get_mut(place));
        if let Some(Some(Object::Ring(known))) = place {
            *known = ring;
        }
    }

    /// The first ring whose handle is above this one.
    pub(crate) fn ring_after(&self, handle: Option<u32>) -> Option<(u32, Ring)> {
        self.iter()
            .skip_while(|(known, _)| handle.is_some_and(|handle| *known <= handle))
            .find_map(|(known, object)| match object {
                Object::Ring(ring) => Some((known, *ring)),
                _ => None,
            })
    }

    /// All objects with their handles, in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Object)> {
        self.objects
            .iter()
            .enumerate()
            .filter_map(|(place, object)| Some((handle_of(place).ok()?, object.as_ref()?)))
    }

    /// The devices with their handles, in ascending order.
    pub(crate) fn devices(&self) -> impl Iterator<Item = (u32, &Device)> {
        self.iter().filter_map(|(handle, object)| match object {
            Object::Device(device) => Some((handle, device)),
            _ => None,
        })
    }
}

/// Handle 0 names nothing.
fn place_of(handle: u32) -> Option<usize> {
    usize::try_from(handle.checked_sub(1)?).ok()
}

fn handle_of(place: usize) -> Result<u32, Errno> {
    u32::try_from(place)
        .ok()
        .and_then(|place| place.checked_add(1))
        .ok_or(Errno::ENOSPC)
}
