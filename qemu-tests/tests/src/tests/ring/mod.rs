//! Many hypercalls by one exit: a ring of operations of a guest's, on a real unit.

mod guest;

use iommu_core::Nanoseconds;
use kernel::guest::{BackEnd, Order};
use kernel::time;
use kernel::vcpu::direct::DirectVcpu;
use kernel::vcpu::{Ending, Turn, Vcpu};

use crate::bench::Bench;
use crate::check::{Deviation, Outcome, check_eq};
use crate::registry::boot_test;

boot_test!(a_ring_of_invalidations_is_one_exit_one_doorbell_and_one_wait);
fn a_ring_of_invalidations_is_one_exit_one_doorbell_and_one_wait(bench: &mut Bench) -> Outcome {
    /// In the machine's time.
    const LIMIT: Nanoseconds = Nanoseconds::from_millis(600_000);
    let copier = bench.copier()?;
    let order = Order {
        // What is run is another program, below; the one that is named has the log.
        back_end: BackEnd::Direct,
        ..Order::new("nested-bind", bench.seed(), copier.id())
    };
    let guest = bench.guest(&order)?;
    let end = Nanoseconds(time::now().0.saturating_add(LIMIT.0));
    let turn = DirectVcpu::new(guest::program).turn(guest.vm(), end);
    check_eq!(
        turn,
        Turn::End(Ending::Finished(guest::PASSED)),
        "how the guest ended"
    );
    // Not the guest's word: what the hypervisor was called for. By single calls it would
    // have been one for each change.
    let calls = guest.vm().hypercalls();
    check_eq!(calls, guest::CALLS, "hypercalls");
    guest
        .end()
        .map_err(|error| Deviation::failed(format_args!("the guest cannot be ended: {error}")))
}
