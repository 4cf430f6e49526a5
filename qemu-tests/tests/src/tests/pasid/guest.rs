//! The guest's side: binds a table to a PASID, lets the device copy, and looks at the faults.

use edu::{Direction, Edu, Transfer};
use guest_machine::pci::Function;
use guest_machine::{AddressSpace, Calls, Machine, Outcome, Pages, Trouble, Window, iommu};
use iommu_abi::FaultEvent;
use iommu_core::{
    Attachment, Backend, DeviceId, Gpa, Gva, Iova, Nanoseconds, PAGE_SIZE, Pasid, Slot,
};
use kernel::remapping::{Driver, remapping};

use super::PASID_BITS;

/// What the guest says if all held.
pub(super) const PASSED: Outcome = Outcome::Pass;
/// The guest's own number for the PASID.
const NUMBER: u32 = 0x2a;
/// Longer than a fault event takes.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(500);
/// Bytes that are copied.
const BYTES: u16 = 256;

/// The program.
pub(super) fn program(machine: &dyn Machine) -> Outcome {
    match bind_copy_and_unbind(machine) {
        Ok(()) => PASSED,
        Err(trouble) => {
            defmt::error!("{}", trouble);
            Outcome::Fail
        }
    }
}

fn bind_copy_and_unbind(machine: &dyn Machine) -> Result<(), Trouble> {
    let mut guest = Guest::new(machine)?;
    let (source, target) = (guest.map_page(0x5a)?, guest.map_page(0xa5)?);
    let root = guest.space.root();
    let table = iommu::user_table(&guest.calls, guest.device, root)?;
    let pasid = iommu::allocate_pasid(&guest.calls, NUMBER, NUMBER)?;
    Trouble::unless_equal("the guest's PASID", NUMBER.into(), pasid.into())?;
    iommu::bind(&guest.calls, guest.device, table.id, Some(pasid))?;
    walk_the_entry_of_the_guest()?;

    guest.dma(Direction::FromMemory, source)?;
    guest.dma(Direction::ToMemory, target)?;
    Trouble::unless_equal("a copied byte", 0x5a, guest.byte_at(target)?.into())?;
    guest.no_fault()?;

    guest.space.unmap(machine, target)?;
    iommu::invalidate(&guest.calls, table.id, &[target])?;
    guest.dma(Direction::ToMemory, target)?;
    let event = guest.next_fault()?;
    Trouble::unless_equal("the fault's address", target.as_u64(), event.address)?;
    let tagged = event.flags & FaultEvent::PASID;
    Trouble::unless_equal(
        "the fault has a PASID",
        FaultEvent::PASID.into(),
        tagged.into(),
    )?;
    Trouble::unless_equal("the fault's PASID", NUMBER.into(), event.pasid.into())?;

    guest.dma(Direction::FromMemory, source)?;
    guest.no_fault()?;
    iommu::unbind(&guest.calls, guest.device, Some(pasid))?;
    guest.dma(Direction::FromMemory, source)?;
    guest.next_fault().map(drop)
}

/// Makes the device's plain requests walk the entry of the host PASID that the guest's PASID
/// became. What a guest cannot do: it is never told.
fn walk_the_entry_of_the_guest() -> Result<(), Trouble> {
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
    (1..1 << PASID_BITS)
        .filter_map(Pasid::new)
        .find(leads_somewhere)
}

struct Guest<'m> {
    calls: Calls<'m>,
    pages: Pages,
    random: fastrand::Rng,
    space: AddressSpace,
    edu: Edu<Window<'m>>,
    device: u32,
}

impl<'m> Guest<'m> {
    fn new(machine: &'m dyn Machine) -> Result<Self, Trouble> {
        let mut random = fastrand::Rng::with_seed(machine.start().seed);
        let mut pages = Pages::new(machine, &mut random);
        let calls = Calls::new(machine, &mut pages)?;
        let space = AddressSpace::new(machine, &mut pages)?;
        let function = Function::find(machine, edu::VENDOR, edu::DEVICE)?;
        function.enable(true);
        let bytes = Edu::<Window>::REGISTER_BYTES;
        let window = Window::new(machine, function.registers()?, bytes);
        Ok(Self {
            device: iommu::device(&calls, function.id())?,
            edu: Edu::new(window)?,
            calls,
            pages,
            random,
            space,
        })
    }

    /// A page of one byte, mapped somewhere in the lower half of 39 bits.
    fn map_page(&mut self, byte: u8) -> Result<Gva, Trouble> {
        let machine = self.calls.machine();
        let at = Gva::new(self.random.u64(1..1 << 26) * PAGE_SIZE);
        let page = self.pages.take(machine)?;
        machine.write(page, &[byte; BYTES as usize])?;
        let rights = AddressSpace::READ_WRITE;
        self.space.map(machine, &mut self.pages, at, page, rights)?;
        Ok(at)
    }

    fn byte_at(&self, address: Gva) -> Result<u8, Trouble> {
        let machine = self.calls.machine();
        let page: Option<Gpa> = self.space.translate(machine, address)?;
        let mut byte = [0];
        machine.read(page.ok_or(Trouble::Unsuitable("a mapping"))?, &mut byte)?;
        Ok(byte[0])
    }

    fn dma(&self, direction: Direction, at: Gva) -> Result<(), Trouble> {
        let transfer = Transfer::new(direction, Iova::new(at.as_u64()), 0, BYTES)?;
        let limit = Edu::<Window>::PATIENCE;
        Ok(self.edu.copy(&transfer, &self.calls.machine(), limit)?)
    }

    fn no_fault(&self) -> Result<(), Trouble> {
        let waits = iommu::read_fault(&self.calls)?.is_some();
        Trouble::unless_equal("faults", 0, waits.into())
    }

    fn next_fault(&self) -> Result<FaultEvent, Trouble> {
        let machine = self.calls.machine();
        let begin = machine.now();
        while machine.now().since(begin) < PATIENCE {
            if let Some(event) = iommu::read_fault(&self.calls)? {
                return Ok(event);
            }
            machine.relax();
        }
        Err(Trouble::Unsuitable("a fault"))
    }
}
