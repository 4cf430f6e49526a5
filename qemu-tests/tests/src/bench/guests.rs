//! Guests of a test: with a program of the test's own, which the *direct* back-end runs, and to
//! their end.

use guest_machine::{Outcome as Word, Trouble};
use iommu_core::Nanoseconds;
use kernel::guest::{BackEnd, Guest, Order};
use kernel::time;
use kernel::vcpu::direct::{DirectVcpu, Program};
use kernel::vcpu::{Ending, Turn, Vcpu};

use super::Bench;
use crate::check::{Deviation, Outcome, check_eq};

/// Longer than any program needs, in the machine's time.
const LIMIT: Nanoseconds = Nanoseconds::from_millis(600_000);

impl Bench {
    /// A guest with the `edu` device, for a program of the test's own.
    pub(crate) fn guest_for_a_program(&mut self) -> Result<Guest, Deviation> {
        let copier = self.copier()?;
        let order = Order {
            // What is run is another program; the one that is named has the log.
            back_end: BackEnd::Direct,
            ..Order::new("nested-bind", self.seed(), copier.id())
        };
        self.guest(&order)
    }

    /// Has such a guest run a program, and ends it.
    pub(crate) fn run_as_guest(&mut self, program: Program) -> Outcome {
        let guest = self.guest_for_a_program()?;
        run_in(&guest, program)?;
        end(guest)
    }
}

/// Runs a program in a guest's place, which must say that all held.
pub(crate) fn run_in(guest: &Guest, program: Program) -> Outcome {
    let until = Nanoseconds(time::now().0.saturating_add(LIMIT.0));
    let turn = DirectVcpu::new(program).turn(guest.vm(), until);
    let passed = Turn::End(Ending::Finished(Word::Pass));
    check_eq!(turn, passed, "how the guest's program ended");
    Ok(())
}

/// Takes everything back from a guest.
pub(crate) fn end(guest: Guest) -> Outcome {
    guest
        .end()
        .map_err(|error| Deviation::failed(format_args!("the guest cannot be ended: {error}")))
}

/// A program's last word, with its trouble in the log.
pub(crate) fn verdict(result: Result<(), Trouble>) -> Word {
    match result {
        Ok(()) => Word::Pass,
        Err(trouble) => {
            defmt::error!("{}", trouble);
            Word::Fail
        }
    }
}
