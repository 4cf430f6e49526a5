//! What happens when the queue stops (§6.5.2.11).

use super::ring::{Queue, Ring, Round};
use crate::Event;
use crate::registers::{Fsts, Iqercd, Iqh, Registers};
use crate::statistics::Counters;
use arrayvec::ArrayVec;
use iommu_core::{Mmio, Observer, Platform, SourceId};

/// Why a round was not done as it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// A descriptor of it was refused (IQERCD.IQEI), and skipped.
    Refused(u8),
    /// It, or part of it, was lost when a device did not answer: to be submitted again.
    Aborted(Option<SourceId>),
}

/// Rounds that failed and whose submitter has not learned it yet.
#[derive(Default, Debug)]
pub(super) struct Failures(ArrayVec<(u32, Failure), FAILURES>);

/// More than there can be rounds; those that nobody asks for are pushed out by newer ones.
const FAILURES: usize = 128;

impl Failures {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn take(&mut self, number: u32) -> Option<Failure> {
        let at = self.0.iter().position(|(failed, _)| *failed == number)?;
        self.0.pop_at(at).map(|(_, failure)| failure)
    }

    fn note(&mut self, number: u32, failure: Failure) {
        if self.0.iter().any(|(failed, _)| *failed == number) {
            return;
        }
        if self.0.is_full() {
            self.0.pop_at(0);
        }
        let _ = self.0.try_push((number, failure));
    }
}

/// IQEI values that are not about the descriptor at the head (§11.4.9.9): the queue as a
/// whole is set up wrong, and everything in it is lost.
const fn concerns_the_queue(code: u8) -> bool {
    matches!(code, 1 | 5 | 6 | 7)
}

impl Queue {
    /// Looks at the fault status, and repairs what it tells. Any CPU that waits may find
    /// the error, whoever's descriptor caused it.
    pub(crate) fn recover<M: Mmio, P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        registers: &Registers<M>,
        counters: &Counters,
    ) {
        let has_error = |status: Fsts| status.iqe() || status.ite() || status.ice();
        if !has_error(registers.read32::<Fsts>()) {
            return;
        }
        let mut ring = self.ring.lock(platform);
        // Another CPU may have repaired it in the meantime.
        let status = registers.read32::<Fsts>();
        if !has_error(status) {
            return;
        }
        counters.queue_errors.increment();
        ring.reap(self.completed());
        let record = registers.read64::<Iqercd>();
        if status.ice() {
            unexpected_completion(platform, registers, record);
        }
        if status.ite() {
            device_timed_out(&mut ring, platform, registers, record);
        }
        if status.iqe() {
            self.descriptor_refused(&mut ring, platform, registers, record);
        }
        // From the write to FSTS on hardware goes on, and may complete the waits of rounds
        // that failed: whoever sees that must see the failure too.
        self.note_failures(&ring);
        platform.fence();
        registers.write32(
            platform,
            Fsts::new().with_ite(status.ite()).with_iqe(status.iqe()),
        );
        ring.ring_doorbell(platform, registers);
        counters.doorbells.increment();
    }

    /// The head stands at the descriptor. It is replaced by one that does nothing, and its
    /// round will be told.
    fn descriptor_refused<M: Mmio, P: Platform + Observer<Event>>(
        &self,
        ring: &mut Ring,
        platform: &P,
        registers: &Registers<M>,
        record: Iqercd,
    ) {
        let code = record.iqei();
        let slot = ring.slot_of(registers.read64::<Iqh>().qh());
        platform.observe(&Event::DescriptorRefused {
            unit: registers.unit(),
            slot,
            code,
            words: ring.read(slot),
        });
        if concerns_the_queue(code) {
            for index in 0..ring.rounds.len() {
                if let Some(number) = ring.rounds.get(index).map(|round| round.number) {
                    ring.failures.note(number, Failure::Refused(code));
                }
            }
        } else {
            self.replace(ring, slot, code);
        }
    }

    fn replace(&self, ring: &mut Ring, slot: u32, code: u8) {
        let round = ring
            .rounds
            .iter_mut()
            .find(|round| Ring::is_within(slot, round.first, round.wait));
        let Some(round) = round else {
            ring.write(slot, self.idle_descriptor());
            return;
        };
        let number = round.number;
        // A wait is always well formed: something else wrote into the slot. Written anew,
        // it tells its round; refused again, the round has to go without.
        let again = slot == round.wait && !round.wait_repaired;
        round.wait_repaired |= slot == round.wait;
        if again {
            let wait = self.wait_descriptor(number, false);
            ring.write(slot, wait);
        } else {
            ring.failures.note(number, Failure::Refused(code));
            ring.write(slot, self.idle_descriptor());
        }
    }
}

/// Hardware gave up a Device-TLB invalidation. Waits that it had fetched never complete, and
/// whatever was sent to devices before the head may be lost (§6.5.2.11): those rounds are to
/// be submitted again.
fn device_timed_out<M: Mmio, P: Platform + Observer<Event>>(
    ring: &mut Ring,
    platform: &P,
    registers: &Registers<M>,
    record: Iqercd,
) {
    let source = Some(record.itesid())
        .filter(|&sid| sid != 0)
        .map(SourceId::from_bits);
    platform.observe(&Event::DeviceSilent {
        unit: registers.unit(),
        source,
    });
    let head = ring.slot_of(registers.read64::<Iqh>().qh());
    let tail = ring.tail;
    for round in core::mem::take(&mut ring.rounds) {
        let fetched = Fetched::of(&round, head, tail);
        if fetched != Fetched::Nothing {
            ring.failures.note(round.number, Failure::Aborted(source));
        }
        if fetched != Fetched::Everything {
            // Its wait is still to come, so its slots are still in use.
            let _ = ring.rounds.try_push(round);
        }
    }
}

/// How much of a round the head has passed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fetched {
    Nothing,
    Part,
    Everything,
}

impl Fetched {
    fn of(round: &Round, head: u32, tail: u32) -> Self {
        if head == tail {
            return Self::Everything;
        }
        if head == round.first {
            return Self::Nothing;
        }
        if Ring::is_within(head, round.first, round.wait) {
            return Self::Part;
        }
        // The head is in a later round, or in an earlier one.
        if Ring::is_within(head, round.wait, tail) {
            Self::Everything
        } else {
            Self::Nothing
        }
    }
}

fn unexpected_completion<M: Mmio, P: Platform + Observer<Event>>(
    platform: &P,
    registers: &Registers<M>,
    record: Iqercd,
) {
    platform.observe(&Event::UnexpectedCompletion {
        unit: registers.unit(),
        source: SourceId::from_bits(record.icesid()),
    });
    registers.write32(platform, Fsts::new().with_ice(true));
}
