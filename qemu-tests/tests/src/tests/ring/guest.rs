//! The guest's side: changes many pages of its table, and tells all of them by one call.

use crate::bench::verdict;
use edu::{Direction, Edu, Transfer};
use guest_machine::iommu_guest::Format;
use guest_machine::pci::Function;
use guest_machine::ring::Ring;
use guest_machine::{AddressSpace, Calls, Machine, Outcome, Pages, Trouble, Window, iommu};
use iommu_core::{Gva, Iova, PAGE_SIZE};
use kernel::remapping::remapping;

/// Pages that are changed, each told by an operation of its own.
const PAGES: usize = 24;
/// Times that they are.
const ROUNDS: u64 = 3;
/// Hypercalls that the program makes: for the device, the table, the binding, the ring, each
/// round, and the three that undo.
pub(super) const CALLS: u64 = 4 + ROUNDS + 3;
/// Bytes that are copied.
const BYTES: u16 = 256;

/// The program.
pub(super) fn program(machine: &dyn Machine) -> Outcome {
    verdict(change_many(machine))
}

fn change_many(machine: &dyn Machine) -> Result<(), Trouble> {
    let mut random = fastrand::Rng::with_seed(machine.start().seed);
    let mut pages = Pages::new(machine, &mut random);
    let calls = Calls::new(machine, &mut pages)?;
    let space = AddressSpace::new(machine, &mut pages)?;
    let function = Function::find(machine, edu::VENDOR, edu::DEVICE)?;
    function.enable(true);
    let bytes = Edu::<Window>::REGISTER_BYTES;
    let edu = Edu::new(Window::new(machine, function.registers()?, bytes))?;
    let dma = |direction, at: Gva| -> Result<(), Trouble> {
        let transfer = Transfer::new(direction, Iova::new(at.as_u64()), 0, BYTES)?;
        Ok(edu.copy(&transfer, &machine, Edu::<Window>::PATIENCE)?)
    };

    // Every third page, so that no two changes are neighbours; within 39 bits.
    let begin = random.u64(1..1 << 16) << 9;
    let at = |place: usize| Gva::new((begin + 3 * place as u64) * PAGE_SIZE);
    let backing = [pages.take(machine)?, pages.take(machine)?];
    for (page, byte) in backing.into_iter().zip([0x5a, 0xa5]) {
        machine.write(page, &[byte; BYTES as usize])?;
    }
    let target = pages.take(machine)?;
    let rights = AddressSpace::READ_WRITE;
    for place in 0..PAGES {
        space.map(machine, &mut pages, at(place), backing[0], rights)?;
    }
    let end = at(PAGES);
    space.map(machine, &mut pages, end, target, rights)?;

    let mut room = iommu::ROOM;
    let mut iommu = iommu::iommu(machine, &mut pages, &mut room)?;
    let device = iommu::device(&mut iommu, function.id())?;
    let root = iommu::root(space.root())?;
    let table = iommu.allocate_user_table(device, Format::X86_64Level4, root)?;
    iommu.bind(device, &table)?;
    let mut ring = Ring::new(&calls, &mut pages)?;
    for round in 1..=ROUNDS {
        let which = (round % 2) as usize;
        for place in 0..PAGES {
            space.map(machine, &mut pages, at(place), backing[which], rights)?;
            ring.submit(&calls, table.id(), at(place))?;
        }
        let before = told()?;
        let done = ring.enter(&calls)?;
        let after = told()?;
        Trouble::unless_equal("operations by one call", PAGES as u64, done)?;
        Trouble::unless_equal("doorbells for them", 1, after.0 - before.0)?;
        Trouble::unless_equal("waits for them", 1, after.1 - before.1)?;
        // The device sees what the table says now, at both ends and in between.
        for place in [0, PAGES / 2, PAGES - 1] {
            dma(Direction::FromMemory, at(place))?;
            dma(Direction::ToMemory, end)?;
            let mut byte = [0];
            machine.read(target, &mut byte)?;
            let wanted = [0x5a, 0xa5][which];
            Trouble::unless_equal("a copied byte", wanted, byte[0].into())?;
        }
    }
    ring.destroy(&calls)?;
    iommu.unbind(device)?;
    let destroyed = iommu.destroy_table(table);
    destroyed.map_err(|(error, _)| error.into())
}

/// Doorbells and waits of all units so far, as the driver counts them. The runner holds the
/// sum against QEMU's trace.
fn told() -> Result<(u64, u64), Trouble> {
    let remapping = remapping().ok_or(Trouble::Unsuitable("remapping"))?;
    // The one unit of the machine.
    let statistics = remapping.driver.statistics(0);
    let statistics = statistics.ok_or(Trouble::Unsuitable("a unit"))?;
    Ok((statistics.doorbells, statistics.waits))
}
