//! The program as a virtual machine.
#![no_std]
#![no_main]

use guest_machine::{Machine, Outcome};
use guest_runtime::misdeed::{halt, spin, touch, triple_fault};
use hostile_guest::Death;

guest_runtime::program!(run);

fn run(machine: &dyn Machine) -> Outcome {
    match hostile_guest::run(machine) {
        Death::Finish(outcome) => outcome,
        Death::TripleFault => triple_fault(),
        Death::Touch(address) => {
            touch(address);
            Outcome::Fail
        }
        Death::Halt => halt(),
        Death::Loop => spin(),
    }
}
