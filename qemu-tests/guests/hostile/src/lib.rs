//! A guest that turns against the hypervisor, its neighbours and itself.
//!
//! All that it does follows from its seed: hypercalls that can succeed and calls that are
//! spoilt, tables that loop and lead everywhere, DMA to any address, also into the arguments
//! of calls that are being made, lies. At the end it dies in one of several ways, and the
//! hypervisor makes it anew.
//!
//! It says nothing of itself, since nobody would believe it: what counts is what the
//! hypervisor, the emulator's trace, and the guests beside it see.

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

mod belief;
mod calls;
mod mischief;
mod tables;

pub use mischief::Death;

use guest_machine::{Machine, Outcome, Random, Trouble};
use mischief::Mischief;

/// Deeds of one life, unless [`Start::parameter`](guest_machine::Start) says otherwise.
const DEEDS: u64 = 100;

/// Does what it does, and says how it shall die.
pub fn run(machine: &dyn Machine) -> Death {
    match live(machine) {
        Ok(death) => death,
        // It has no memory left, or no device: that is no reason to be good.
        Err(_) => Death::Finish(Outcome::Fail),
    }
}

fn live(machine: &dyn Machine) -> Result<Death, Trouble> {
    let start = machine.start();
    let mut random = Random::with_seed(start.seed);
    let deeds = match start.parameter {
        0 => DEEDS,
        deeds => deeds,
    };
    let mut mischief = Mischief::new(machine, &mut random)?;
    for _ in 0..deeds {
        mischief.deed(&mut random);
    }
    Ok(Death::choose(&mut random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_machine::{Absent, Clock, Start};
    use iommu_core::{Gpa, Nanoseconds, SourceId};
    use std::cell::RefCell;
    use std::sync::Mutex;

    const BASE: u64 = 0x4000_0000;
    const BYTES: usize = 64 << 12;

    /// Memory, and a hypervisor that answers by what the answer may be, without a meaning.
    struct Stub {
        seed: u64,
        memory: Mutex<RefCell<Vec<u8>>>,
        calls: Mutex<Vec<(u32, u64)>>,
    }

    impl Stub {
        fn new(seed: u64) -> Self {
            Self {
                seed,
                memory: Mutex::new(RefCell::new(vec![0; BYTES])),
                calls: Mutex::new(Vec::new()),
            }
        }

        fn range(at: Gpa, bytes: usize) -> Result<std::ops::Range<usize>, Absent> {
            let first = at.as_u64().checked_sub(BASE).ok_or(Absent(at))? as usize;
            let end = first.checked_add(bytes).filter(|end| *end <= BYTES);
            Ok(first..end.ok_or(Absent(at))?)
        }
    }

    impl Clock for Stub {
        fn now(&self) -> Nanoseconds {
            Nanoseconds(self.calls.lock().unwrap().len() as u64 * 1_000_000)
        }

        fn relax(&self) {}
    }

    impl Machine for Stub {
        fn start(&self) -> Start {
            Start {
                magic: 0,
                memory_base: BASE,
                memory_bytes: BYTES as u64,
                free_from: BASE + 0x4000,
                seed: self.seed,
                tsc_per_ms: 1,
                parameter: 0,
            }
        }

        fn read(&self, at: Gpa, bytes: &mut [u8]) -> Result<(), Absent> {
            let range = Self::range(at, bytes.len())?;
            bytes.copy_from_slice(&self.memory.lock().unwrap().borrow()[range]);
            Ok(())
        }

        fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), Absent> {
            let range = Self::range(at, bytes.len())?;
            self.memory.lock().unwrap().borrow_mut()[range].copy_from_slice(bytes);
            Ok(())
        }

        fn load(&self, at: Gpa) -> Result<u64, Absent> {
            let mut bytes = [0; 8];
            self.read(at, &mut bytes)
                .map(|()| u64::from_le_bytes(bytes))
        }

        fn store(&self, at: Gpa, value: u64) -> Result<(), Absent> {
            self.write(at, &value.to_le_bytes())
        }

        fn hypercall(&self, operation: u32, argument: Gpa) -> i64 {
            let mut calls = self.calls.lock().unwrap();
            calls.push((operation, argument.as_u64()));
            // Success, or one of many errors.
            -(calls.len() as i64 % 40 / 3)
        }

        fn read_register32(&self, _: Gpa) -> u32 {
            panic!("it has no registers")
        }

        fn read_register64(&self, _: Gpa) -> u64 {
            panic!("it has no registers")
        }

        fn write_register32(&self, _: Gpa, _: u32) {
            panic!("it has no registers")
        }

        fn write_register64(&self, _: Gpa, _: u64) {
            panic!("it has no registers")
        }

        fn read_config(&self, function: SourceId, _: u8) -> u32 {
            match function.bits() {
                0x30 => 0x11e8_1234,
                _ => u32::MAX,
            }
        }

        fn write_config(&self, _: SourceId, _: u8, _: u32) {}

        fn take_interrupt(&self, _: u8) -> bool {
            false
        }
    }

    #[test]
    fn a_life_makes_many_calls_of_every_operation_and_ends() {
        let mut operations = std::collections::BTreeSet::new();
        for seed in 0..16 {
            let machine = Stub::new(seed);
            let _ = run(&machine);
            let calls = machine.calls.into_inner().unwrap();
            assert!(calls.len() > 50, "{}", calls.len());
            // The one that ends the guest is for its death.
            assert!(calls.iter().all(|(operation, _)| *operation != 0x203));
            operations.extend(calls.into_iter().map(|(operation, _)| operation));
        }
        for op in iommu_abi::Op::ALL {
            assert!(operations.contains(&op.as_u32()), "{op:?}");
        }
        for op in [0x204, 0x210, 0x211, 0x212] {
            assert!(operations.contains(&op), "{op:#x}");
        }
    }

    #[test]
    fn a_seed_repeats_a_life_and_lives_end_in_all_ways() {
        let life = |seed| {
            let machine = Stub::new(seed);
            let death = format!("{:?}", run(&machine));
            (death, machine.calls.into_inner().unwrap())
        };
        let mut deaths = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let once = life(seed);
            assert_eq!(once, life(seed));
            deaths.insert(once.0.split('(').next().unwrap().to_owned());
        }
        let wanted = ["Finish", "Halt", "Loop", "Touch", "TripleFault"];
        assert_eq!(deaths.into_iter().collect::<Vec<_>>(), wanted);
    }
}
