//! Address spaces whose tables are not the guest's to keep.

use crate::{Capabilities, DeviceId, Error, Hypercall, Iommu};
use iommu_abi::{IoasAllocate, IoasMap, IoasUnmap};
use x86_64::PhysAddr;

/// An address space that the hypervisor keeps: the guest maps and unmaps by calls, and owes
/// no flush. Not one for another, and gone when it is destroyed.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ManagedSpace {
    id: u32,
    capabilities: Capabilities,
}

impl ManagedSpace {
    /// The handle on the wire.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What holds for this address space.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}

/// The guest's physical memory as a device's address space, by the tables that the guest's
/// CPUs use. There is nothing to map.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SharedSpace {
    id: u32,
    capabilities: Capabilities,
}

impl SharedSpace {
    /// The handle on the wire.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What holds for this address space.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}

/// What a guest wishes of an address space that the hypervisor keeps.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Wishes {
    /// The lowest address that it will use.
    pub lowest: Option<u64>,
    /// The highest address that it will use; those above are not given out.
    pub highest: Option<u64>,
    /// The devices' requests snoop the CPU's caches whatever they ask for.
    pub enforce_snoop: bool,
}

impl Wishes {
    fn flags(&self) -> u32 {
        let hint = self.lowest.map_or(0, |_| IoasAllocate::HINT_BASE_IOVA);
        match self.enforce_snoop {
            true => hint | IoasAllocate::ENFORCE_SNOOP,
            false => hint,
        }
    }
}

/// What a device may do with a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Rights {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Both.
    ReadWrite,
}

impl Rights {
    fn flags(self) -> u32 {
        match self {
            Self::Read => IoasMap::READABLE,
            Self::Write => IoasMap::WRITEABLE,
            Self::ReadWrite => IoasMap::READABLE | IoasMap::WRITEABLE,
        }
    }
}

impl<H: Hypercall> Iommu<'_, H> {
    /// Makes an address space that the hypervisor keeps, for `device` and its like.
    pub fn allocate_managed(
        &mut self,
        device: DeviceId,
        wishes: &Wishes,
    ) -> Result<ManagedSpace, Error> {
        let answer = self.call(&IoasAllocate {
            flags: wishes.flags(),
            max_iova_hint: wishes.highest.unwrap_or(0),
            base_iova_hint: wishes.lowest.unwrap_or(0),
            device_id: device.0,
            ..IoasAllocate::new()
        })?;
        Ok(ManagedSpace {
            id: answer.ioas_id,
            capabilities: Capabilities::from_bits_retain(answer.capabilities),
        })
    }

    /// Makes the guest's physical memory an address space of devices, by the tables that its
    /// CPUs use. Needs [`Capabilities::SHARED`].
    pub fn allocate_shared(&mut self, device: DeviceId) -> Result<SharedSpace, Error> {
        let answer = self.call(&IoasAllocate {
            flags: IoasAllocate::SHARED,
            device_id: device.0,
            ..IoasAllocate::new()
        })?;
        Ok(SharedSpace {
            id: answer.ioas_id,
            capabilities: Capabilities::from_bits_retain(answer.capabilities),
        })
    }

    /// Maps `bytes` of the guest's memory from `memory` on, at an address that the hypervisor
    /// chooses and returns. Both are multiples of the page size.
    pub fn map(
        &mut self,
        space: &ManagedSpace,
        memory: PhysAddr,
        bytes: u64,
        rights: Rights,
    ) -> Result<u64, Error> {
        let answer = self.call(&IoasMap {
            flags: rights.flags(),
            ioas_id: space.id,
            gpa: memory.as_u64(),
            length: bytes,
            ..IoasMap::new()
        })?;
        Ok(answer.iova)
    }

    /// The same at `address`, and nowhere else.
    pub fn map_at(
        &mut self,
        space: &ManagedSpace,
        address: u64,
        memory: PhysAddr,
        bytes: u64,
        rights: Rights,
    ) -> Result<(), Error> {
        self.call(&IoasMap {
            flags: rights.flags() | IoasMap::FIXED_IOVA,
            ioas_id: space.id,
            gpa: memory.as_u64(),
            length: bytes,
            iova: address,
            ..IoasMap::new()
        })
        .map(drop)
    }

    /// Takes out all mappings that lie in a range, whole. When this returns, hardware has
    /// forgotten them and the memory may be reused. Returns their bytes.
    pub fn unmap(&mut self, space: &ManagedSpace, address: u64, bytes: u64) -> Result<u64, Error> {
        let answer = self.call(&IoasUnmap {
            ioas_id: space.id,
            iova: address,
            length: bytes,
            ..IoasUnmap::new()
        })?;
        Ok(answer.length)
    }

    /// The same for everything that is mapped.
    pub fn unmap_everything(&mut self, space: &ManagedSpace) -> Result<u64, Error> {
        self.unmap(space, 0, u64::MAX)
    }
}
