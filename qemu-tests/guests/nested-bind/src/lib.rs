//! A guest that binds page tables of its own to its device, and tries what it must not.
//!
//! Its pages lie in a random order in its memory (and that memory in a random order in the
//! host's), so an address that skipped a translation leads elsewhere. Each step
//! claims how it went; the trials within are announced, so that the hypervisor judges them
//! by itself.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod session;
mod steps;

use guest_machine::{Machine, Outcome, Trouble, error, info, iommu};
use session::Session;

/// One thing that the guest shows.
struct Step {
    /// The name that its claim and its trials carry.
    name: &'static str,
    /// What holds if it passes.
    shows: &'static str,
    run: fn(&mut Session) -> Result<(), Trouble>,
}

const fn step(
    name: &'static str,
    shows: &'static str,
    run: fn(&mut Session) -> Result<(), Trouble>,
) -> Step {
    Step { name, shows, run }
}

/// What the guest does, in order.
const STEPS: &[Step] = &[
    step(
        "blocked-before",
        "nothing is bound: the device can neither read nor write",
        steps::bind::blocked_before,
    ),
    step(
        "root-outside",
        "a root table outside the guest's memory is an error of the call",
        steps::bind::root_outside_memory,
    ),
    step(
        "bind",
        "the guest's own page table is bound to its device",
        steps::bind::bind,
    ),
    step(
        "copy",
        "the device copies pages between the guest's virtual addresses",
        steps::change::copy,
    ),
    step(
        "copy-across",
        "bytes that begin in one page and end in the next go where both lead",
        steps::change::copy_across_pages,
    ),
    step(
        "map-more",
        "an address that was refused works once it is mapped and invalidated",
        steps::change::map_more,
    ),
    step(
        "remap",
        "an address that led to one page leads to another, and not to the first",
        steps::change::remap,
    ),
    step(
        "unmap",
        "an unmapped page is refused, and the guest reads the fault",
        steps::change::unmap,
    ),
    step(
        "batch",
        "many changes are made known by one call",
        steps::change::invalidate_many_at_once,
    ),
    step(
        "everything",
        "what changed anywhere in large tables is made known by one call",
        steps::change::invalidate_everything,
    ),
    step(
        "read-only",
        "a read-only page can be read and not written",
        steps::refuse::read_only,
    ),
    step(
        "supervisor",
        "a page of the supervisor's is refused",
        steps::refuse::supervisor_page,
    ),
    step(
        "reserved-bit",
        "an entry with a reserved bit is refused",
        steps::refuse::reserved_bit,
    ),
    step(
        "leaf-outside",
        "an entry that points behind the guest's memory is refused",
        steps::refuse::leaf_outside_memory,
    ),
    step(
        "leaf-canary",
        "an entry that points to a page of the hypervisor's is refused",
        steps::refuse::leaf_to_canary,
    ),
    step(
        "leaf-hypervisor",
        "an entry that points into the hypervisor's image is refused",
        steps::refuse::leaf_to_hypervisor,
    ),
    step(
        "leaf-registers",
        "an entry that points to the remapping unit's registers is refused",
        steps::refuse::leaf_to_registers,
    ),
    step(
        "leaf-interrupts",
        "an entry that points to the interrupt address range is refused",
        steps::refuse::leaf_to_interrupt_range,
    ),
    step(
        "table-outside",
        "an entry that points to a table outside the guest's memory is refused",
        steps::refuse::table_outside_memory,
    ),
    step(
        "interrupt",
        "the device's MSI reaches the guest, on demand and after a copy",
        steps::interrupt::msi,
    ),
    step(
        "foreign-interrupt",
        "an interrupt message that is not its own is refused, its own arrives",
        steps::interrupt::foreign_message,
    ),
    step(
        "hostile-calls",
        "bad operations, handles, sizes, flags and pointers are errors, and nothing changes",
        steps::calls::hostile,
    ),
    step(
        "pasid",
        "a table is bound to a PASID of the guest's numbering, where the device has any",
        steps::pasid::bind_by_pasid,
    ),
    step(
        "unbind",
        "the device works before and is blocked again after",
        steps::bind::unbind,
    ),
];

/// The steps of a [short](SHORT) run, by their names.
const FEW: &[&str] = &["bind", "copy", "remap", "unmap", "batch", "unbind"];

/// The parameter for which few steps are made: where the device takes a tenth of a second for
/// each of its copies.
pub const SHORT: u64 = 1;

/// Names of all steps, in order.
pub fn step_names() -> impl Iterator<Item = &'static str> {
    STEPS.iter().map(|step| step.name)
}

/// Runs the program.
pub fn run(machine: &dyn Machine) -> Outcome {
    let mut room = iommu::ROOM;
    match Session::new(machine, &mut room) {
        Ok(mut session) => run_steps(&mut session),
        Err(trouble) => {
            error!("cannot begin: {}", trouble);
            Outcome::Fail
        }
    }
}

fn run_steps(session: &mut Session) -> Outcome {
    let mut outcome = Outcome::Pass;
    let is_short = session.machine().start().parameter == SHORT;
    let steps = STEPS.iter();
    for step in steps.filter(|step| !is_short || FEW.contains(&step.name)) {
        session.begin(step.name);
        let result = (step.run)(session);
        match result {
            Ok(()) => info!("{=str}: {=str}", step.name, step.shows),
            Err(trouble) => {
                error!("{=str}: {}", step.name, trouble);
                outcome = Outcome::Fail;
            }
        }
        if session.claim(step.shows, result).is_err() {
            outcome = Outcome::Fail;
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_machine::fake::FakeMachine;

    fn failed_steps(machine: &FakeMachine) -> Vec<String> {
        let claims = machine.claims();
        assert_eq!(claims.len(), STEPS.len());
        let failed = claims.into_iter().filter(|(passed, ..)| !passed);
        failed.map(|(_, step, _)| step).collect()
    }

    #[test]
    fn every_step_passes_whatever_the_seed() {
        for seed in 0..8 {
            let machine = FakeMachine::new(seed);
            let outcome = run(&machine);
            assert_eq!(outcome, Outcome::Pass, "{:#?}", machine.claims());
            assert_eq!(failed_steps(&machine), Vec::<String>::new());
        }
    }

    #[test]
    fn an_invalidation_that_does_not_reach_the_unit_is_noticed() {
        let machine = FakeMachine::new(3);
        machine.lose_invalidations();
        assert_eq!(run(&machine), Outcome::Fail);
        let failed = failed_steps(&machine);
        for step in ["map-more", "remap", "unmap", "batch"] {
            assert!(failed.iter().any(|name| name == step), "{failed:?}");
        }
        assert!(!failed.iter().any(|name| name == "copy"), "{failed:?}");
    }

    #[test]
    fn a_unit_that_refuses_nothing_is_noticed_in_every_refusal() {
        let machine = FakeMachine::new(3);
        machine.refuse_nothing();
        assert_eq!(run(&machine), Outcome::Fail);
        let failed = failed_steps(&machine);
        for step in [
            "blocked-before",
            "unmap",
            "read-only",
            "leaf-outside",
            "leaf-canary",
            "leaf-hypervisor",
            "leaf-registers",
            "leaf-interrupts",
            "table-outside",
            "unbind",
        ] {
            assert!(failed.iter().any(|name| name == step), "{step}: {failed:?}");
        }
    }

    #[test]
    fn every_step_of_a_short_run_is_a_step() {
        assert!(
            FEW.iter()
                .all(|name| step_names().any(|step| step == *name))
        );
    }

    #[test]
    fn step_names_can_be_told_apart() {
        let mut names: Vec<_> = step_names().collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }
}
