//! Many hypercalls by one exit: a ring of operations of a guest's, on a real unit.

mod guest;

use crate::bench::{Bench, end, run_in};
use crate::check::{Outcome, check_eq};
use crate::registry::boot_test;

boot_test!(a_ring_of_invalidations_is_one_exit_one_doorbell_and_one_wait);
fn a_ring_of_invalidations_is_one_exit_one_doorbell_and_one_wait(bench: &mut Bench) -> Outcome {
    let guest = bench.guest_for_a_program()?;
    run_in(&guest, guest::program)?;
    // Not the guest's word: what the hypervisor was called for. By single calls it would
    // have been one for each change.
    let calls = guest.vm().hypercalls();
    check_eq!(calls, guest::CALLS, "hypercalls");
    end(guest)
}
