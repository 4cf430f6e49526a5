//! A guest that speaks by the structures of `linux/iommu.h` alone, as the bytes that a C
//! program has.

use crate::bench::verdict;
use crate::tests::pasid::guest::{Guest, NUMBER, walk_the_entry_of_the_guest};
use edu::Direction;
use guest_machine::iommu_guest::{Errno, GuestPasid};
use guest_machine::{AddressSpace, Calls, Machine, Outcome, Trouble, iommu};
use iommu_abi::{
    LinuxBindGpasid, LinuxCacheInvalidate, LinuxFaultRead, LinuxPageResponse, LinuxUnbindGpasid,
};
use iommu_core::{Gpa, Gva, Nanoseconds};

/// Longer than a fault event takes.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(500);

/// `IOMMU_CACHE_INV_TYPE_IOTLB`, and granularities of `enum iommu_inv_granularity`.
const IOTLB: u8 = 1;
const BY_PASID: u8 = 1;
const BY_ADDRESS: u8 = 2;
/// `IOMMU_FAULT_DMA_UNRECOV`, `IOMMU_FAULT_REASON_PTE_FETCH`, `IOMMU_FAULT_PERM_WRITE`.
const UNRECOVERABLE: u32 = 1;
const PTE_FETCH: u32 = 5;
const WRITE: u32 = 2;
/// `IOMMU_FAULT_UNRECOV_PASID_VALID` and `IOMMU_FAULT_UNRECOV_ADDR_VALID`.
const PASID_AND_ADDRESS: u32 = 3;

/// A structure as a C program lays it out: fields at offsets.
#[derive(Clone, Copy)]
struct C {
    bytes: [u8; 72],
    size: usize,
}

impl C {
    /// `argsz` and `version`, which all of them begin with.
    fn new(size: usize) -> Self {
        let empty = Self {
            bytes: [0; 72],
            size,
        };
        empty.u32(0, size as u32).u32(4, 1)
    }

    fn u8(mut self, at: usize, value: u8) -> Self {
        self.bytes[at] = value;
        self
    }

    fn u32(mut self, at: usize, value: u32) -> Self {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(mut self, at: usize, value: u64) -> Self {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// `struct iommu_gpasid_bind_data`: VT-d, 48 bits.
    fn bind_data(root: Gpa) -> Self {
        let sized = Self::new(72).u32(8, 1).u32(12, 48);
        sized.u64(24, root.as_u64()).u64(32, NUMBER.into())
    }

    /// `struct iommu_cache_invalidate_info`: some pages of the PASID.
    fn addresses(page: Gva, count: u64) -> Self {
        let info = Self::new(56).u8(8, IOTLB).u8(9, BY_ADDRESS);
        let extent = info.u32(16, 1).u64(24, NUMBER.into());
        extent.u64(32, page.as_u64()).u64(40, 4096).u64(48, count)
    }

    /// The same structure: all of the PASID.
    fn whole_pasid() -> Self {
        let info = Self::new(56).u8(8, IOTLB).u8(9, BY_PASID);
        info.u32(16, 1).u64(24, NUMBER.into())
    }

    /// `struct iommu_page_response`.
    fn response(code: u32) -> Self {
        let with_pasid = Self::new(24).u32(8, 1).u32(12, NUMBER);
        with_pasid.u32(16, 7).u32(20, code)
    }
}

/// The calls, each with a structure that it points to.
struct Linux<'m> {
    calls: Calls<'m>,
    device: u32,
}

impl Linux<'_> {
    fn put(&self, structure: &C) -> Result<u64, Trouble> {
        let at = self.calls.array();
        let bytes = &structure.bytes[..structure.size];
        self.calls.machine().write(at, bytes)?;
        Ok(at.as_u64())
    }

    fn bind(&self, data: &C) -> Result<u64, Trouble> {
        let mut argument = LinuxBindGpasid {
            device_id: self.device,
            structure: self.put(data)?,
            ..LinuxBindGpasid::new()
        };
        iommu::call(&self.calls, &mut argument)
    }

    fn unbind(&self, data: &C) -> Result<u64, Trouble> {
        let mut argument = LinuxUnbindGpasid {
            device_id: self.device,
            structure: self.put(data)?,
            ..LinuxUnbindGpasid::new()
        };
        iommu::call(&self.calls, &mut argument)
    }

    fn invalidate(&self, info: &C) -> Result<u64, Trouble> {
        let mut argument = LinuxCacheInvalidate {
            device_id: self.device,
            structure: self.put(info)?,
            ..LinuxCacheInvalidate::new()
        };
        iommu::call(&self.calls, &mut argument)
    }

    fn respond(&self, response: &C) -> Result<u64, Trouble> {
        let mut argument = LinuxPageResponse {
            device_id: self.device,
            structure: self.put(response)?,
            ..LinuxPageResponse::new()
        };
        iommu::call(&self.calls, &mut argument)
    }

    /// Takes the oldest event: `struct iommu_fault`, and the device that it is of.
    fn fault(&self) -> Result<Option<([u8; 64], u32)>, Trouble> {
        let mut argument = LinuxFaultRead {
            buffer: self.calls.array().as_u64(),
            capacity: 1,
            ..LinuxFaultRead::new()
        };
        let count = iommu::call(&self.calls, &mut argument)?;
        let mut bytes = [0; 64];
        self.calls.machine().read(self.calls.array(), &mut bytes)?;
        Ok((count == 1).then_some((bytes, argument.device_id)))
    }

    fn no_fault(&self) -> Result<(), Trouble> {
        Trouble::unless_equal("faults", 0, self.fault()?.is_some().into())
    }

    /// The fault that comes in a moment: a write of the PASID at this page, refused because
    /// its entry is not present.
    fn refused_write(&self, page: Gva) -> Result<(), Trouble> {
        let (bytes, device) = self.next_fault()?;
        let field = |at| u64::from(u32_at(&bytes, at));
        Trouble::unless_equal("the fault's device", self.device.into(), device.into())?;
        Trouble::unless_equal("its type", UNRECOVERABLE.into(), field(0))?;
        Trouble::unless_equal("its reason", PTE_FETCH.into(), field(8))?;
        let valid = field(12) & u64::from(PASID_AND_ADDRESS);
        Trouble::unless_equal("what is valid in it", PASID_AND_ADDRESS.into(), valid)?;
        Trouble::unless_equal("its PASID", NUMBER.into(), field(16))?;
        Trouble::unless_equal("its access", WRITE.into(), field(20))?;
        let address = field(24) | field(28) << 32;
        Trouble::unless_equal("its address", page.as_u64(), address)?;
        Trouble::unless_equal("what follows its union", 0, field(60))
    }

    fn next_fault(&self) -> Result<([u8; 64], u32), Trouble> {
        let machine = self.calls.machine();
        let begin = machine.now();
        while machine.now().since(begin) < PATIENCE {
            if let Some(fault) = self.fault()? {
                return Ok(fault);
            }
            machine.relax();
        }
        Err(Trouble::Unsuitable("a fault"))
    }
}

fn u32_at(bytes: &[u8; 64], at: usize) -> u32 {
    let field = bytes
        .get(at..at + 4)
        .and_then(|field| field.try_into().ok());
    field.map_or(0, u32::from_le_bytes)
}

/// The program.
pub(super) fn program(machine: &dyn Machine) -> Outcome {
    verdict(bind_change_and_unbind(machine))
}

fn bind_change_and_unbind(machine: &dyn Machine) -> Result<(), Trouble> {
    let mut room = iommu::ROOM;
    let mut guest = Guest::new(machine, &mut room)?;
    let linux = Linux {
        calls: Calls::new(machine, &mut guest.pages)?,
        device: guest.device.as_u32(),
    };
    let (source, target) = (guest.map_page(0x5a)?, guest.map_page(0xa5)?);
    let data = C::bind_data(guest.space.root());

    // A PASID that the guest has not taken names nothing.
    let strange = linux.bind(&data);
    Trouble::unless_refused("a PASID never allocated", Errno::ENOENT, strange)?;
    guest.iommu.allocate_pasid(NUMBER, NUMBER)?;
    let other_version = linux.bind(&data.u32(4, 2));
    Trouble::unless_refused("version 2", Errno::EINVAL, other_version)?;
    linux.bind(&data)?;
    let twice = linux.bind(&data);
    Trouble::unless_refused("binding twice", Errno::EBUSY, twice)?;
    walk_the_entry_of_the_guest()?;

    copies(&guest, source, target)?;
    linux.no_fault()?;
    change(&mut guest, &linux, source, target)?;
    no_request_waits(&linux)?;

    linux.unbind(&data)?;
    let again = linux.unbind(&data);
    Trouble::unless_refused("unbinding twice", Errno::ENOENT, again)?;
    guest.dma(Direction::FromMemory, source)?;
    linux.next_fault()?;
    Ok(guest.iommu.free_pasid(GuestPasid::from_u32(NUMBER))?)
}

/// The device copies from one page to the other.
fn copies(guest: &Guest, source: Gva, target: Gva) -> Result<(), Trouble> {
    guest.dma(Direction::FromMemory, source)?;
    guest.dma(Direction::ToMemory, target)?;
    let (wanted, found) = (guest.byte_at(source)?, guest.byte_at(target)?);
    Trouble::unless_equal("a copied byte", wanted.into(), found.into())
}

/// A page goes away and comes back elsewhere, and the device sees it when it is told.
fn change(guest: &mut Guest, linux: &Linux, source: Gva, target: Gva) -> Result<(), Trouble> {
    let machine = linux.calls.machine();
    guest.space.unmap(machine, target)?;
    // What is not done is said, and not taken for done.
    let nothing = linux.invalidate(&C::addresses(target, 0));
    Trouble::unless_refused("no granules", Errno::EINVAL, nothing)?;
    guest.dma(Direction::ToMemory, target)?;
    linux.no_fault()?;

    linux.invalidate(&C::addresses(target, 1))?;
    guest.dma(Direction::ToMemory, target)?;
    linux.refused_write(target)?;
    guest.dma(Direction::FromMemory, source)?;
    linux.no_fault()?;

    let page = guest.pages.take(machine)?;
    let rights = AddressSpace::READ_WRITE;
    guest
        .space
        .map(machine, &mut guest.pages, target, page, rights)?;
    linux.invalidate(&C::whole_pasid())?;
    copies(guest, source, target)?;
    linux.no_fault()
}

/// No device here asks for pages, so no answer is right. That the answers themselves are
/// understood shows in what they are refused for.
fn no_request_waits(linux: &Linux) -> Result<(), Trouble> {
    let answer = linux.respond(&C::response(0));
    Trouble::unless_refused("an answer to nothing", Errno::ENOENT, answer)?;
    let meaningless = linux.respond(&C::response(9));
    Trouble::unless_refused("an answer of no meaning", Errno::EINVAL, meaningless)
}
