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

use guest_machine::{Machine, Outcome, Trouble, error, info};
use session::Session;

type Step = fn(&mut Session) -> Result<(), Trouble>;

/// What the guest does, in order, with the names that its claims and trials carry.
const STEPS: &[(&str, Step)] = &[
    ("blocked", steps::bind::blocked_before),
    ("root-outside", steps::bind::root_outside_memory),
    ("bind", steps::bind::bind),
    ("copy", steps::change::copy),
    ("copy-across", steps::change::copy_across_pages),
    ("map-more", steps::change::map_more),
    ("remap", steps::change::remap),
    ("unmap", steps::change::unmap),
    ("batch", steps::change::invalidate_many_at_once),
    ("read-only", steps::refuse::read_only),
    ("supervisor", steps::refuse::supervisor_page),
    ("reserved-bit", steps::refuse::reserved_bit),
    ("leaf-outside", steps::refuse::leaf_outside_memory),
    ("leaf-canary", steps::refuse::leaf_to_canary),
    ("leaf-hypervisor", steps::refuse::leaf_to_hypervisor),
    ("leaf-registers", steps::refuse::leaf_to_registers),
    ("leaf-interrupts", steps::refuse::leaf_to_interrupt_range),
    ("table-outside", steps::refuse::table_outside_memory),
    ("interrupt", steps::interrupt::msi),
    ("foreign-interrupt", steps::interrupt::foreign_message),
    ("hostile-calls", steps::calls::hostile),
    ("pasid", steps::pasid::bind_by_pasid),
    ("unbind", steps::bind::unbind),
];

/// Names of all steps, in order.
pub fn step_names() -> impl Iterator<Item = &'static str> {
    STEPS.iter().map(|(name, _)| *name)
}

/// Runs the program.
pub fn run(machine: &dyn Machine) -> Outcome {
    match Session::new(machine) {
        Ok(mut session) => run_steps(&mut session),
        Err(trouble) => {
            error!("cannot begin: {}", trouble);
            Outcome::Fail
        }
    }
}

fn run_steps(session: &mut Session) -> Outcome {
    let mut outcome = Outcome::Pass;
    for (name, step) in STEPS {
        session.begin(name);
        let result = step(session);
        match result {
            Ok(()) => info!("{=str}: as it should be", name),
            Err(trouble) => {
                error!("{=str}: {}", name, trouble);
                outcome = Outcome::Fail;
            }
        }
        if session.claim(result).is_err() {
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
            "blocked",
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
    fn step_names_can_be_told_apart() {
        let mut names: Vec<_> = step_names().collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }
}
