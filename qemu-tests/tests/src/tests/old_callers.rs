//! Guests that were built when an older version of the interface was the newest: they start,
//! bind their tables, let their device copy through them, and are served as they were then.
//!
//! Their images are kept as bytes (`qemu-tests/callers`, with their hashes in the runner), and
//! never built again.

use crate::bench::Bench;
use crate::check::{Deviation, Outcome, check, check_eq};
use crate::registry::boot_test;
use iommu_core::Nanoseconds;
use kernel::guest::Order;
use kernel::vcpu::Ending;

/// Longer than any of these guests needs.
const LONG: Nanoseconds = Nanoseconds::from_millis(600_000);

boot_test!(
    guests_built_for_every_version_run_as_they_did,
    widths = "48",
    caching = "off",
    cpus = "1",
    provokes = "refused-dma absent-interrupt",
    seconds = "60",
);
fn guests_built_for_every_version_run_as_they_did(bench: &mut Bench) -> Outcome {
    for program in ["caller-1", "caller-2", "caller-3"] {
        let device = bench.copier()?.id();
        let mut guest = bench.guest(&Order::new(program, bench.seed(), device))?;
        let ending = guest.run(LONG);
        let passed = Ending::Finished(hypervisor_abi::Outcome::Pass);
        check_eq!(ending, passed, "how it ended");
        // Not its own word: what the hypervisor saw of it.
        let trials = guest.trials();
        check!(
            trials.all > 50 && trials.failed == 0,
            "{program}: {} of {} trials failed",
            trials.failed,
            trials.all
        );
        let ended = guest.end();
        ended.map_err(|error| {
            Deviation::failed(format_args!("{program} cannot be ended: {error}"))
        })?;
    }
    Ok(())
}
