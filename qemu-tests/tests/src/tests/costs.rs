//! What a guest's calls cost hardware: descriptors, doorbells and waits, operation by operation,
//! printed as figures for the table of `docs/guest-interface.md`.
//!
//! Each operation is one hypercall, and so one exit. QEMU's trace counts the same descriptors,
//! doorbells and waits in all, which the runner compares.

use crate::bench::Bench;
use crate::check::{Deviation, Outcome, check_eq};
use crate::registry::boot_test;
use arrayvec::ArrayString;
use core::fmt::Write;
use guest_machine::pci::Function;
use guest_machine::{AddressSpace, Calls, Machine, Outcome as Word, Pages, Trouble, error, iommu};
use iommu_abi::{Bind, IoasAllocate, IoasMap, IoasUnmap};
use iommu_core::{Gpa, Gva, Nanoseconds, PAGE_SIZE};
use kernel::guest::{BackEnd, Order};
use kernel::log::report;
use kernel::remapping::remapping;
use kernel::time;
use kernel::vcpu::direct::DirectVcpu;
use kernel::vcpu::{Ending, Turn, Vcpu};

/// Longer than the program needs, in the machine's time.
const LIMIT: Nanoseconds = Nanoseconds::from_millis(600_000);

boot_test!(
    every_call_costs_one_doorbell_and_one_wait_at_most,
    qemu = "11.1",
    widths = "48",
    caching = "off",
    cpus = "1",
);
fn every_call_costs_one_doorbell_and_one_wait_at_most(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    let order = Order {
        // What is run is the program below; the one that is named has the log.
        back_end: BackEnd::Direct,
        ..Order::new("nested-bind", bench.seed(), copier.id())
    };
    let guest = bench.guest(&order)?;
    let end = Nanoseconds(time::now().0.saturating_add(LIMIT.0));
    let turn = DirectVcpu::new(program).turn(guest.vm(), end);
    let passed = Turn::End(Ending::Finished(Word::Pass));
    check_eq!(turn, passed, "how the guest ended");
    let ended = guest.end();
    ended.map_err(|error| Deviation::failed(format_args!("the guest cannot be ended: {error}")))
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
fn costs<T>(
    name: &str,
    most: Work,
    call: impl FnOnce() -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let before = work();
    let result = call()?;
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
    match measure(machine) {
        Ok(()) => Word::Pass,
        Err(trouble) => {
            error!("{}", trouble);
            Word::Fail
        }
    }
}

fn measure(machine: &dyn Machine) -> Result<(), Trouble> {
    let mut random = guest_machine::Random::with_seed(machine.start().seed);
    let mut pages = Pages::new(machine, &mut random);
    let calls = Calls::new(machine, &mut pages)?;
    let function = Function::find(machine, edu::VENDOR, edu::DEVICE)?;
    function.enable(true);
    let device = iommu::device(&calls, function.id())?;
    own_table(&calls, &mut pages, device)?;
    managed(&calls, device)
}

/// A table of the guest's own: bound, changed, unbound.
fn own_table(calls: &Calls, pages: &mut Pages, device: u32) -> Result<(), Trouble> {
    const MANY: usize = 64;
    let machine = calls.machine();
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
    let root = space.root();
    let table = costs("allocate", FREE, || iommu::user_table(calls, device, root))?;
    costs("bind", once(6), || {
        iommu::bind(calls, device, table.id, None)
    })?;
    let again = iommu::user_table(calls, device, root)?;
    costs("rebind", once(6), || {
        let mut argument = Bind {
            flags: Bind::REPLACE,
            device_id: device,
            ioas_id: again.id,
            ..Bind::new()
        };
        iommu::call(calls, &mut argument)
    })?;
    // New pages: nothing that hardware could have remembered.
    let fresh = Gva::new(0x80_0000);
    map(pages, &[fresh])?;
    costs("map-1", once(1), || {
        iommu::invalidate(calls, again.id, &[fresh])
    })?;
    map(pages, &all[..1])?;
    costs("invalidate-1", once(1), || {
        iommu::invalidate(calls, again.id, &all[..1])
    })?;
    map(pages, &all)?;
    costs("invalidate-64", once(MANY as u64), || {
        iommu::invalidate(calls, again.id, &all)
    })?;
    costs("invalidate-everything", once(MANY as u64), || {
        iommu::invalidate_everything(calls, again.id)
    })?;
    costs("unbind", once(6), || iommu::unbind(calls, device, None))?;
    iommu::destroy(calls, again.id)?;
    iommu::destroy(calls, table.id)
}

/// An address space that the hypervisor keeps.
fn managed(calls: &Calls, device: u32) -> Result<(), Trouble> {
    let mut space = IoasAllocate {
        device_id: device,
        ..IoasAllocate::new()
    };
    iommu::call(calls, &mut space)?;
    let ioas_id = space.ioas_id;
    costs("managed.bind", once(6), || {
        iommu::bind(calls, device, ioas_id, None)
    })?;
    let memory = Gpa::new(calls.machine().start().memory_base);
    // A range is told exactly, in pieces that are powers of two, aligned.
    for (pages, map, unmap, pieces) in [
        (1, "managed.map-1", "managed.unmap-1", 1),
        (256, "managed.map-256", "managed.unmap-256", 16),
    ] {
        let mut argument = IoasMap {
            flags: IoasMap::READABLE | IoasMap::WRITEABLE,
            ioas_id,
            gpa: memory.as_u64(),
            length: pages * PAGE_SIZE,
            ..IoasMap::new()
        };
        costs(map, FREE, || iommu::call(calls, &mut argument))?;
        costs(unmap, once(pieces), || {
            let mut gone = IoasUnmap {
                ioas_id,
                iova: argument.iova,
                length: pages * PAGE_SIZE,
                ..IoasUnmap::new()
            };
            iommu::call(calls, &mut gone)
        })?;
    }
    costs("managed.unbind", once(6), || {
        iommu::unbind(calls, device, None)
    })?;
    iommu::destroy(calls, ioas_id)
}
