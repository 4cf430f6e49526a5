//! The structures of `linux/iommu.h` (v5.10), and whole PASID tables, by a guest's calls, with
//! real DMA through what they bind.
//!
//! No device of QEMU's tags requests with a PASID. QEMU 10.0 honours RID_PASID, so that the
//! driver's test hooks make a device's plain requests walk the entry of any PASID; and the
//! entry of PASID 0 in a guest's own table is that of plain requests on every QEMU.

mod entries;
mod structures;

use super::pasid::PASID_BITS;
use iommu_core::Nanoseconds;
use kernel::guest::{BackEnd, Order};
use kernel::time;
use kernel::vcpu::direct::{DirectVcpu, Program};
use kernel::vcpu::{Ending, Turn, Vcpu};

use crate::bench::Bench;
use crate::check::{Deviation, Outcome, check_eq};
use crate::registry::boot_test;

boot_test!(
    a_guest_binds_invalidates_and_reads_faults_by_linux_structures,
    qemu = "10.0 10.0.2",
    modes = "second-stage first-stage",
    provokes = "refused-dma"
);
fn a_guest_binds_invalidates_and_reads_faults_by_linux_structures(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    bench.driver().pretend_pasid_bits(copier.id(), PASID_BITS)?;
    run(bench, structures::program)
}

boot_test!(
    a_guest_says_in_a_pasid_table_of_its_own_what_plain_requests_use,
    provokes = "refused-dma"
);
fn a_guest_says_in_a_pasid_table_of_its_own_what_plain_requests_use(bench: &mut Bench) -> Outcome {
    run(bench, entries::program)
}

/// Runs a program as a guest with the `edu` device.
fn run(bench: &mut Bench, program: Program) -> Outcome {
    /// In the machine's time.
    const LIMIT: Nanoseconds = Nanoseconds::from_millis(600_000);
    let copier = bench.copier()?;
    let order = Order {
        // What is run is another program; the one that is named has the log.
        back_end: BackEnd::Direct,
        ..Order::new("nested-bind", bench.seed(), copier.id())
    };
    let guest = bench.guest(&order)?;
    let end = Nanoseconds(time::now().0.saturating_add(LIMIT.0));
    let turn = DirectVcpu::new(program).turn(guest.vm(), end);
    let passed = Turn::End(Ending::Finished(hypervisor_abi::Outcome::Pass));
    check_eq!(turn, passed, "how the guest ended");
    guest
        .end()
        .map_err(|error| Deviation::failed(format_args!("the guest cannot be ended: {error}")))
}
