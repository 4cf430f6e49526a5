//! Every order in which CPUs and a unit can meet at the queue, tried by `loom`.
//!
//! The lock, the frames' cells and the words shared without a lock are `loom`'s here
//! (`--cfg loom`); the code of the queue is the real one, on a ring of [`SLOTS`](super::SLOTS)
//! slots. The unit is a thread: it learns the tail from a register, fetches slots from
//! memory, and writes status words. What it may see of memory is what the memory model
//! allows it, so a fence that is missing before the doorbell is found too.
//!
//! `LOOM_MAX_PREEMPTIONS` makes it search further than by default; see `docs/testing.md`
//! for the command.

mod platform;
mod signal;
mod unit;

use super::{ContextScope, Descriptor, Queue, QueueError, Ticket};
use crate::registers::Registers;
use crate::statistics::Counters;
use iommu_core::{Nanoseconds, Platform};
use loom::sync::Arc;
use loom::thread;
use platform::Machine;
use std::vec::Vec;
use unit::{Mmio, Unit};

/// What CPUs and the unit share.
struct Bench {
    machine: Machine,
    queue: Queue,
    registers: Registers<Mmio>,
    counters: Counters,
    unit: Arc<Unit>,
}

impl Bench {
    fn new(unit: Unit) -> Arc<Self> {
        let unit = Arc::new(unit);
        let machine = Machine::new(unit.clone());
        let queue = Queue::new(&machine, false).expect("memory");
        Arc::new(Self {
            registers: Registers::new(Mmio(unit.clone()), 0),
            counters: Counters::default(),
            machine,
            queue,
            unit,
        })
    }

    /// Submits a round as soon as there is room.
    fn submit(&self, round: &[u16]) -> Ticket {
        loop {
            let mut left = round.iter();
            let ticket = self.queue.submit(
                &self.machine,
                &self.registers,
                &self.counters,
                false,
                &mut || left.next().copied().map(descriptor),
            );
            match ticket {
                Some(ticket) => {
                    assert!(!ticket.more, "a round of the test fits");
                    return ticket;
                }
                None => self.machine.relax(),
            }
        }
    }

    fn wait(&self, ticket: Ticket) -> Result<(), QueueError> {
        let limit = Nanoseconds::from_millis(1);
        self.queue.wait(
            &self.machine,
            &self.registers,
            &self.counters,
            ticket,
            limit,
        )
    }

    /// Rounds of one CPU, one after the other; each is done when its wait returns.
    fn cpu(&self, rounds: &[&[u16]]) {
        for round in rounds {
            let ticket = self.submit(round);
            assert_eq!(self.wait(ticket), Ok(()));
            let executed = self.unit.executed();
            for number in *round {
                assert!(
                    executed.contains(number),
                    "{number} is done, and {executed:?} were executed"
                );
            }
        }
    }
}

/// A descriptor with a number of its own.
fn descriptor(number: u16) -> Descriptor {
    Descriptor::ContextCache(ContextScope::Domain(number))
}

/// Tries all orders of what `cpus` do while the unit executes their rounds.
fn explore(preemptions: usize, cpus: &'static [&'static [&'static [u16]]]) {
    model(preemptions, move || {
        let bench = Bench::new(Unit::new());
        let waits = cpus.iter().map(|rounds| rounds.len()).sum();
        let threads: Vec<_> = cpus
            .iter()
            .map(|rounds| {
                let bench = bench.clone();
                thread::spawn(move || bench.cpu(rounds))
            })
            .collect();
        unit::run(&bench.unit, &bench.machine, &bench.queue, waits);
        for thread in threads {
            thread.join().expect("a CPU without failure");
        }
        check_all(cpus, &bench.unit.executed());
    });
}

/// Each descriptor was executed once, and those of one CPU in order.
fn check_all(cpus: &[&[&[u16]]], executed: &[u16]) {
    let count = cpus.iter().copied().flatten().copied().flatten().count();
    assert_eq!(executed.len(), count, "{executed:?}");
    for rounds in cpus {
        let own: Vec<u16> = rounds.iter().copied().flatten().copied().collect();
        let seen: Vec<u16> = executed
            .iter()
            .copied()
            .filter(|number| own.contains(number))
            .collect();
        assert_eq!(seen, own);
    }
}

/// With so many preemptions at most, if the environment says nothing else.
fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    builder.check(body);
}

#[test]
fn two_cpus_share_the_status_word_and_each_learns_of_its_own_round() {
    explore(2, &[&[&[11]], &[&[21]]]);
}

#[test]
fn slots_are_written_again_only_after_their_round_was_waited_for() {
    // Four rounds of two slots in a ring of eight, of which one stays free.
    explore(1, &[&[&[11], &[12], &[13]], &[&[21]]]);
}

#[test]
fn a_refused_descriptor_is_told_to_its_own_cpu_and_nobody_else() {
    model(2, || {
        let bench = Bench::new(Unit::refusing(13));
        let (refused, fine) = (bench.clone(), bench.clone());
        let threads = [
            thread::spawn(move || {
                let ticket = refused.submit(&[13]);
                assert_eq!(refused.wait(ticket), Err(QueueError::Refused(unit::CODE)));
            }),
            thread::spawn(move || fine.cpu(&[&[21]])),
        ];
        unit::run(&bench.unit, &bench.machine, &bench.queue, 2);
        for thread in threads {
            thread.join().expect("a CPU without failure");
        }
        assert_eq!(bench.unit.executed(), [21]);
    });
}
