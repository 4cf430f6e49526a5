//! The structures of `linux/iommu.h` (v5.10), and whole PASID tables, by a guest's calls, with
//! real DMA through what they bind.
//!
//! No device of QEMU's tags requests with a PASID. QEMU 10.0 honours RID_PASID, so that the
//! driver's test hooks make a device's plain requests walk the entry of any PASID; and the
//! entry of PASID 0 in a guest's own table is that of plain requests on every QEMU.

mod entries;
mod structures;

use super::pasid::PASID_BITS;

use crate::bench::Bench;
use crate::check::Outcome;
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
    bench.run_as_guest(structures::program)
}

boot_test!(
    a_guest_says_in_a_pasid_table_of_its_own_what_plain_requests_use,
    provokes = "refused-dma"
);
fn a_guest_says_in_a_pasid_table_of_its_own_what_plain_requests_use(bench: &mut Bench) -> Outcome {
    bench.run_as_guest(entries::program)
}
