//! Shared tables: a guest's device goes through the tables by which the guest's CPU sees its
//! memory.

mod guest;

use alloc::format;

use iommu_core::{DeviceId, Nanoseconds};
use kernel::guest::{Access, Order};
use kernel::inspect;
use kernel::vcpu::Ending;
use limits::deed;

use crate::bench::{Bench, end, run_in};
use crate::check::{Deviation, Outcome, check, check_eq};
use crate::registry::boot_test;

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
    run_in(&guest, guest::share_and_copy)?;
    // It is bound still: what the unit has is what the CPU has, root and leaves.
    let nested = guest.vm().nested();
    let root = nested.root().ok_or(Deviation::no_memory())?;
    let text = inspect::text(bench.host().remapping);
    let wanted = format!("first stage at {:#x}", root.as_u64());
    check!(text.contains(&wanted), "no device has a {wanted}");
    run_in(&guest, guest::stop_sharing)?;
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
    run_in(&guest, guest::is_refused)?;
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
    run_in(&guest, guest::is_refused)?;
    end(guest)
}
