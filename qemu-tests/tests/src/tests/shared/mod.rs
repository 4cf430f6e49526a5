//! Shared tables: a guest's device goes through the tables by which the guest's CPU sees its
//! memory.

mod guest;

use alloc::format;

use iommu_core::{DeviceId, Nanoseconds};
use kernel::guest::{Access, Guest, Order};
use kernel::inspect;
use kernel::time;
use kernel::vcpu::direct::{DirectVcpu, Program};
use kernel::vcpu::{Ending, Turn, Vcpu};
use limits::deed;

use crate::bench::Bench;
use crate::check::{Deviation, Outcome, check, check_eq};
use crate::registry::boot_test;

/// In the machine's time.
const LIMIT: Nanoseconds = Nanoseconds::from_millis(600_000);
/// How long its CPU runs, on the same tables.
const WALK: Nanoseconds = Nanoseconds::from_millis(20);

/// A guest whose CPU loops, and whose device's registers stay with the hypervisor.
fn order(device: DeviceId, seed: u64, shares: bool) -> Order<'static> {
    Order {
        parameter: deed::LOOP,
        access: Access::Mediated,
        shares,
        ..Order::new("limits", seed, device)
    }
}

/// What the guest does besides, through the same hypercalls.
fn run(guest: &Guest, program: Program) -> Outcome {
    let end = Nanoseconds(time::now().0.saturating_add(LIMIT.0));
    let turn = DirectVcpu::new(program).turn(guest.vm(), end);
    let wanted = Turn::End(Ending::Finished(guest::PASSED));
    check_eq!(turn, wanted, "how the guest's program ended");
    Ok(())
}

fn end(guest: Guest) -> Outcome {
    guest
        .end()
        .map_err(|error| Deviation::failed(format_args!("the guest cannot be ended: {error}")))
}

boot_test!(
    a_device_goes_through_the_tables_of_its_guests_cpu,
    modes = "first-stage",
    cpus = "1 2",
    provokes = "refused-dma",
);
fn a_device_goes_through_the_tables_of_its_guests_cpu(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?.id();
    let mut guest = bench.guest(&order(copier, bench.seed(), true))?;
    check_eq!(guest.run(WALK), Ending::TimedOut, "how its CPU ended");
    run(&guest, guest::share_and_copy)?;
    // It is bound still: what the unit has is what the CPU has, root and leaves.
    let nested = guest.vm().nested();
    let root = nested.root().ok_or(Deviation::no_memory())?;
    let text = inspect::text(bench.host().remapping);
    let wanted = format!("first stage at {:#x}", root.as_u64());
    check!(text.contains(&wanted), "no device has a {wanted}");
    run(&guest, guest::stop_sharing)?;
    let text = inspect::text(bench.host().remapping);
    check!(!text.contains(&wanted), "a device has a {wanted} still");
    end(guest)
}

boot_test!(
    tables_that_a_unit_cannot_walk_are_not_shared,
    modes = "legacy second-stage",
    widths = "48",
    cpus = "1",
    logs = "the unit cannot walk FirstStage4 tables",
);
fn tables_that_a_unit_cannot_walk_are_not_shared(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?.id();
    let guest = bench.guest(&order(copier, bench.seed(), true))?;
    run(&guest, guest::is_refused)?;
    end(guest)
}

boot_test!(
    tables_that_are_not_kept_for_devices_are_not_shared,
    modes = "first-stage",
    cpus = "1",
);
fn tables_that_are_not_kept_for_devices_are_not_shared(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?.id();
    let guest = bench.guest(&order(copier, bench.seed(), false))?;
    run(&guest, guest::is_refused)?;
    end(guest)
}
