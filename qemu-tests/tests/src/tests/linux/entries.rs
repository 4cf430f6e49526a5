//! A guest that keeps a PASID table of its own, whose entry of PASID 0 is that of requests
//! without one.

use crate::bench::verdict;
use crate::tests::pasid::guest::Guest;
use edu::Direction;
use guest_machine::iommu_guest::{DirectorySize, Errno};
use guest_machine::{AddressSpace, Machine, Outcome, Trouble, iommu};
use iommu_core::{Gpa, Gva};

/// An entry of a PASID directory, or word 0 of one of a PASID table: present (§9.5, §9.6).
const PRESENT: u64 = 1 << 0;
/// Word 0 of an entry of a PASID table: translation by a first stage (PGTT 001).
const FIRST_STAGE: u64 = 1 << 6;
/// And by a second stage, which is not the guest's to ask for.
const SECOND_STAGE: u64 = 2 << 6;

/// The program.
pub(super) fn program(machine: &dyn Machine) -> Outcome {
    verdict(keep_a_table(machine))
}

/// The entry of PASID 0.
struct Entry<'m> {
    machine: &'m dyn Machine,
    table: Gpa,
}

impl Entry<'_> {
    fn set(&self, word0: u64, root: Gpa) -> Result<(), Trouble> {
        let root_at = Gpa::new(self.table.as_u64().saturating_add(16));
        self.machine.store(root_at, root.as_u64())?;
        Ok(self.machine.store(self.table, word0)?)
    }
}

fn keep_a_table(machine: &dyn Machine) -> Result<(), Trouble> {
    let mut room = iommu::ROOM;
    let mut guest = Guest::new(machine, &mut room)?;
    let (source, target) = (guest.map_page(0x5a)?, guest.map_page(0xa5)?);
    let root = guest.space.root();
    let directory = guest.pages.take(machine)?;
    let entry = Entry {
        machine,
        table: guest.pages.take(machine)?,
    };
    machine.store(directory, entry.table.as_u64() | PRESENT)?;
    entry.set(PRESENT | FIRST_STAGE, root)?;

    let size = DirectorySize::from_pdts(0).ok_or(Trouble::Unsuitable("a size"))?;
    let (device, frame) = (guest.device, iommu::root(directory)?);
    let bound = guest.iommu.bind_pasid_table(device, frame, size, false)?;
    let (table, looked) = bound;
    Trouble::unless_equal("PASIDs that are bound", 1, looked.bound.into())?;
    let twice = guest.iommu.bind_pasid_table(device, frame, size, false);
    Trouble::unless_refused("binding twice", Errno::EBUSY, twice)?;
    copies(&guest, source, target)?;
    guest.no_fault()?;

    // Another root: the device goes on by the first until it is told.
    let other = AddressSpace::new(machine, &mut guest.pages)?;
    let page = guest.pages.take(machine)?;
    let rights = AddressSpace::READ_WRITE;
    other.map(machine, &mut guest.pages, target, page, rights)?;
    entry.set(PRESENT | FIRST_STAGE, other.root())?;
    guest.dma(Direction::FromMemory, source)?;
    guest.no_fault()?;
    let looked = guest.iommu.look_at_entries(table.changed(0..=0))?;
    Trouble::unless_equal("PASIDs that are bound", 1, looked.bound.into())?;
    guest.dma(Direction::ToMemory, target)?;
    let mut byte = [0];
    machine.read(page, &mut byte)?;
    Trouble::unless_equal("a byte by the other root", 0x5a, byte[0].into())?;
    guest.dma(Direction::FromMemory, source)?;
    guest.next_fault()?;

    // What hardware would refuse is blocked, and named.
    entry.set(PRESENT | SECOND_STAGE, other.root())?;
    let looked = guest.iommu.look_at_entries(table.changed(0..=0))?;
    let counts = (looked.bound, looked.refused);
    Trouble::unless_equal("PASIDs that are bound", 0, counts.0.into())?;
    Trouble::unless_equal("entries that are refused", 1, counts.1.into())?;
    guest.dma(Direction::ToMemory, target)?;
    guest.next_fault()?;

    entry.set(PRESENT | FIRST_STAGE, root)?;
    guest.iommu.look_at_entries(table.changed(0..=0))?;
    copies(&guest, source, target)?;
    guest.no_fault()?;
    let unbound = guest.iommu.unbind_pasid_table(table);
    unbound.map_err(|(error, _)| Trouble::from(error))?;
    guest.dma(Direction::FromMemory, source)?;
    guest.next_fault().map(drop)
}

/// The device copies from one page to the other.
fn copies(guest: &Guest, source: Gva, target: Gva) -> Result<(), Trouble> {
    guest.dma(Direction::FromMemory, source)?;
    guest.dma(Direction::ToMemory, target)?;
    let (wanted, found) = (guest.byte_at(source)?, guest.byte_at(target)?);
    Trouble::unless_equal("a copied byte", wanted.into(), found.into())
}
