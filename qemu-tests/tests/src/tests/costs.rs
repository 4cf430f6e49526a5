//! What a guest's calls cost hardware: descriptors, doorbells and waits, operation by operation,
//! printed as figures for the table of `docs/guest-interface.md`.
//!
//! Each operation is one hypercall, and so one exit. QEMU's trace counts the same descriptors,
//! doorbells and waits in all, which the runner compares.

use crate::bench::{Bench, verdict};
use crate::check::Outcome;
use crate::registry::boot_test;
use arrayvec::ArrayString;
use core::fmt::Write;
use guest_machine::iommu::Iommu;
use guest_machine::iommu_guest::{self, DeviceId, Format, Rights, Wishes};
use guest_machine::pci::Function;
use guest_machine::{AddressSpace, Machine, Outcome as Word, Pages, Trouble, iommu};
use iommu_core::{Gva, PAGE_SIZE};
use kernel::log::report;
use kernel::remapping::remapping;

boot_test!(
    every_call_costs_one_doorbell_and_one_wait_at_most,
    qemu = "11.1",
    widths = "48",
    caching = "off",
    cpus = "1",
);
fn every_call_costs_one_doorbell_and_one_wait_at_most(bench: &mut Bench) -> Outcome {
    bench.run_as_guest(program)
}

/// Descriptors, doorbells, waits.
type Work = [u64; 3];
const NAMES: [&str; 3] = ["descriptors", "doorbells", "waits"];

fn work() -> Work {
    let Some(remapping) = remapping() else {
        return [0; 3];
    };
    let driver = &remapping.driver;
    let units = driver.units().filter_map(|unit| driver.statistics(unit));
    units.fold([0; 3], |[descriptors, doorbells, waits], unit| {
        [
            descriptors + unit.descriptors,
            doorbells + unit.doorbells,
            waits + unit.waits,
        ]
    })
}

/// Makes one call, prints what it cost, and holds that against the most that it may.
fn costs<T, E: Into<Trouble>>(
    name: &str,
    most: Work,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, Trouble> {
    let before = work();
    let result = call().map_err(Into::into)?;
    let after = work();
    for (((what, before), after), most) in NAMES.iter().zip(before).zip(after).zip(most) {
        let mut figure = ArrayString::<64>::new();
        let fits = write!(figure, "cost.{name}.{what}");
        let cost = after - before;
        if fits.is_ok() {
            report::figure(&figure, cost);
        }
        if cost > most {
            return Err(Trouble::Unexpected {
                what,
                wanted: most,
                found: cost,
            });
        }
    }
    Ok(result)
}

/// Nothing at all.
const FREE: Work = [0; 3];

/// So many descriptors and a wait, made known once.
const fn once(descriptors: u64) -> Work {
    [descriptors + 1, 1, 1]
}

fn program(machine: &dyn Machine) -> Word {
    verdict(measure(machine))
}

fn measure(machine: &dyn Machine) -> Result<(), Trouble> {
    let mut random = guest_machine::Random::with_seed(machine.start().seed);
    let mut pages = Pages::new(machine, &mut random);
    let mut room = iommu::ROOM;
    let mut iommu = iommu::iommu(machine, &mut pages, &mut room)?;
    let function = Function::find(machine, edu::VENDOR, edu::DEVICE)?;
    function.enable(true);
    let device = iommu::device(&mut iommu, function.id())?;
    own_table(machine, &mut iommu, &mut pages, device)?;
    managed(machine, &mut iommu, device)
}

/// A table of the guest's own: bound, changed, unbound.
fn own_table(
    machine: &dyn Machine,
    iommu: &mut Iommu,
    pages: &mut Pages,
    device: DeviceId,
) -> Result<(), Trouble> {
    const MANY: usize = 64;
    let space = AddressSpace::new(machine, pages)?;
    // Pages that lie apart, so that no two ranges are one.
    let page = |number: usize| Gva::new(0x40_0000 + 3 * PAGE_SIZE * number as u64);
    let all: [Gva; MANY] = core::array::from_fn(page);
    let map = |pages: &mut Pages, at: &[Gva]| {
        at.iter().try_for_each(|&at| {
            let to = pages.take(machine)?;
            space.map(machine, pages, at, to, AddressSpace::READ_WRITE)
        })
    };
    map(pages, &all)?;
    let (root, format) = (iommu::root(space.root())?, Format::X86_64Level4);
    let table = costs("allocate", FREE, || {
        iommu.allocate_user_table(device, format, root)
    })?;
    costs("bind", once(6), || iommu.bind(device, &table))?;
    let again = iommu.allocate_user_table(device, format, root)?;
    costs("rebind", once(6), || iommu.replace(device, None, &again))?;
    // New pages: nothing that hardware could have remembered.
    let fresh = Gva::new(0x80_0000);
    map(pages, &[fresh])?;
    costs("map-1", once(1), || {
        iommu::invalidate(iommu, &again, &[fresh])
    })?;
    map(pages, &all[..1])?;
    costs("invalidate-1", once(1), || {
        iommu::invalidate(iommu, &again, &all[..1])
    })?;
    map(pages, &all)?;
    costs("invalidate-64", once(MANY as u64), || {
        iommu::invalidate(iommu, &again, &all)
    })?;
    costs("invalidate-everything", once(MANY as u64), || {
        iommu.flush_everything(&again)
    })?;
    costs("unbind", once(6), || iommu.unbind(device))?;
    destroy(iommu, again)?;
    destroy(iommu, table)
}

fn destroy(iommu: &mut Iommu, space: impl iommu_guest::AddressSpace) -> Result<(), Trouble> {
    let destroyed = iommu.destroy_space(space);
    destroyed.map_err(|(error, _)| error.into())
}

/// An address space that the hypervisor keeps.
fn managed(machine: &dyn Machine, iommu: &mut Iommu, device: DeviceId) -> Result<(), Trouble> {
    let space = iommu.allocate_managed(device, &Wishes::default())?;
    costs("managed.bind", once(6), || iommu.bind(device, &space))?;
    let memory = x86_64::PhysAddr::new(machine.start().memory_base);
    // A range is told exactly, in pieces that are powers of two, aligned.
    for (pages, map, unmap, pieces) in [
        (1, "managed.map-1", "managed.unmap-1", 1),
        (256, "managed.map-256", "managed.unmap-256", 16),
    ] {
        let bytes = pages * PAGE_SIZE;
        let at = costs(map, FREE, || {
            iommu.map(&space, memory, bytes, Rights::ReadWrite)
        })?;
        costs(unmap, once(pieces), || iommu.unmap(&space, at, bytes))?;
    }
    costs("managed.unbind", once(6), || iommu.unbind(device))?;
    destroy(iommu, space)
}
