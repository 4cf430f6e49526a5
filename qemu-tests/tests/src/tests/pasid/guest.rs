//! The guest's side: binds a table to a PASID, lets the device copy, and looks at the faults.

use crate::bench::verdict;
use edu::{Direction, Edu, Transfer};
use guest_machine::iommu::{Iommu, Room};
use guest_machine::iommu_guest::{self, Fault, Format};
use guest_machine::pci::Function;
use guest_machine::{AddressSpace, Machine, Outcome, Pages, Trouble, Window, iommu};
use iommu_core::{
    Attachment, Backend, DeviceId, Gpa, Gva, Iova, Nanoseconds, PAGE_SIZE, Pasid, Slot,
};
use kernel::remapping::{Driver, remapping};

/// The guest's own number for the PASID.
pub(in crate::tests) const NUMBER: u32 = 0x2a;
/// Longer than a fault event takes.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(500);
/// Bytes that are copied.
const BYTES: u16 = 256;

/// The program.
pub(super) fn program(machine: &dyn Machine) -> Outcome {
    verdict(bind_copy_and_unbind(machine))
}

fn bind_copy_and_unbind(machine: &dyn Machine) -> Result<(), Trouble> {
    let mut room = iommu::ROOM;
    let mut guest = Guest::new(machine, &mut room)?;
    let (source, target) = (guest.map_page(0x5a)?, guest.map_page(0xa5)?);
    let (device, root) = (guest.device, iommu::root(guest.space.root())?);
    let format = Format::X86_64Level4;
    let table = guest.iommu.allocate_user_table(device, format, root)?;
    let pasid = guest.iommu.allocate_pasid(NUMBER, NUMBER)?;
    Trouble::unless_equal("the guest's PASID", NUMBER.into(), pasid.as_u32().into())?;
    guest.iommu.bind_pasid(device, pasid, &table)?;
    walk_the_entry_of_the_guest()?;

    guest.dma(Direction::FromMemory, source)?;
    guest.dma(Direction::ToMemory, target)?;
    Trouble::unless_equal("a copied byte", 0x5a, guest.byte_at(target)?.into())?;
    guest.no_fault()?;

    guest.space.unmap(machine, target)?;
    iommu::invalidate(&mut guest.iommu, &table, &[target])?;
    guest.dma(Direction::ToMemory, target)?;
    let fault = guest.next_fault()?;
    let address = fault.address.unwrap_or(0);
    Trouble::unless_equal("the fault's address", target.as_u64(), address)?;
    let tagged = fault.pasid.map_or(0, |pasid| pasid.as_u32());
    Trouble::unless_equal("the fault's PASID", NUMBER.into(), tagged.into())?;

    guest.dma(Direction::FromMemory, source)?;
    guest.no_fault()?;
    guest.iommu.unbind_pasid(device, pasid)?;
    guest.dma(Direction::FromMemory, source)?;
    guest.next_fault().map(drop)
}

/// Makes the device's plain requests walk the entry of the host PASID that the guest's PASID
/// became. What a guest cannot do: it is never told.
pub(in crate::tests) fn walk_the_entry_of_the_guest() -> Result<(), Trouble> {
    let missing = |what| Trouble::Unsuitable(what);
    let remapping = remapping().ok_or(missing("remapping"))?;
    let bus = kernel::pci::bus().ok_or(missing("PCI"))?;
    let edu = bus.topology.find(edu::VENDOR, edu::DEVICE);
    let device = edu.ok_or(Trouble::NoDevice)?.id;
    let host = attached_pasid(&remapping.driver, device).ok_or(missing("a host PASID"))?;
    if host.as_u32() == NUMBER {
        return Err(missing(
            "a host PASID that is another number than the guest's",
        ));
    }
    let hooked = remapping.driver.set_rid_pasid(device, host);
    hooked.map_err(|_| missing("the hook"))
}

fn attached_pasid(driver: &Driver, device: DeviceId) -> Option<Pasid> {
    let leads_somewhere = |pasid: &Pasid| {
        let slot = Slot {
            device,
            pasid: Some(*pasid),
        };
        matches!(driver.attachment(slot), Ok(to) if to != Attachment::Blocked)
    };
    (1..1 << super::PASID_BITS)
        .filter_map(Pasid::new)
        .find(leads_somewhere)
}

pub(in crate::tests) struct Guest<'m> {
    pub(in crate::tests) machine: &'m dyn Machine,
    pub(in crate::tests) iommu: Iommu<'m>,
    pub(in crate::tests) pages: Pages,
    random: fastrand::Rng,
    pub(in crate::tests) space: AddressSpace,
    edu: Edu<Window<'m>>,
    pub(in crate::tests) device: iommu_guest::DeviceId,
}

impl<'m> Guest<'m> {
    pub(in crate::tests) fn new(
        machine: &'m dyn Machine,
        room: &'m mut Room,
    ) -> Result<Self, Trouble> {
        let mut random = fastrand::Rng::with_seed(machine.start().seed);
        let mut pages = Pages::new(machine, &mut random);
        let mut iommu = iommu::iommu(machine, &mut pages, room)?;
        let space = AddressSpace::new(machine, &mut pages)?;
        let function = Function::find(machine, edu::VENDOR, edu::DEVICE)?;
        function.enable(true);
        let bytes = Edu::<Window>::REGISTER_BYTES;
        let window = Window::new(machine, function.registers()?, bytes);
        Ok(Self {
            device: iommu::device(&mut iommu, function.id())?,
            edu: Edu::new(window)?,
            machine,
            iommu,
            pages,
            random,
            space,
        })
    }

    /// A page of one byte, mapped somewhere in the lower half of 39 bits.
    pub(in crate::tests) fn map_page(&mut self, byte: u8) -> Result<Gva, Trouble> {
        let machine = self.machine;
        let at = Gva::new(self.random.u64(1..1 << 26) * PAGE_SIZE);
        let page = self.pages.take(machine)?;
        machine.write(page, &[byte; BYTES as usize])?;
        let rights = AddressSpace::READ_WRITE;
        self.space.map(machine, &mut self.pages, at, page, rights)?;
        Ok(at)
    }

    pub(in crate::tests) fn byte_at(&self, address: Gva) -> Result<u8, Trouble> {
        let machine = self.machine;
        let page: Option<Gpa> = self.space.translate(machine, address)?;
        let mut byte = [0];
        machine.read(page.ok_or(Trouble::Unsuitable("a mapping"))?, &mut byte)?;
        Ok(byte[0])
    }

    pub(in crate::tests) fn dma(&self, direction: Direction, at: Gva) -> Result<(), Trouble> {
        let transfer = Transfer::new(direction, Iova::new(at.as_u64()), 0, BYTES)?;
        let limit = Edu::<Window>::PATIENCE;
        Ok(self.edu.copy(&transfer, &self.machine, limit)?)
    }

    pub(in crate::tests) fn no_fault(&mut self) -> Result<(), Trouble> {
        let waits = iommu::read_fault(&mut self.iommu)?.is_some();
        Trouble::unless_equal("faults", 0, waits.into())
    }

    pub(in crate::tests) fn next_fault(&mut self) -> Result<Fault, Trouble> {
        let machine = self.machine;
        let begin = machine.now();
        while machine.now().since(begin) < PATIENCE {
            if let Some(fault) = iommu::read_fault(&mut self.iommu)? {
                return Ok(fault);
            }
            machine.relax();
        }
        Err(Trouble::Unsuitable("a fault"))
    }
}
