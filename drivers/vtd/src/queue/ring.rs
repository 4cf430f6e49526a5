//! The ring itself: writing a round and ringing the doorbell.

use super::event::CompletionEvent;
use super::recovery::Failures;
use super::{Descriptor, SLOTS};
use crate::Event;
use crate::registers::{Iqa, Iqt, Registers};
use crate::statistics::Counters;
use arrayvec::ArrayVec;
use iommu_core::sync::atomic::{AtomicU32, Ordering};
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{Address, Frame, Hpa, Mmio, Observer, Order, OutOfFrames, Platform};

/// Rounds that can be under way at once, those that were given up among them.
const ROUNDS: usize = 64;

/// The queue of one unit.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(super) ring: Mutex<Ring>,
    /// Cell 0 takes the numbers of completed waits; cell 1 takes what nobody reads.
    pub(super) status: Frame,
    /// How many entries `Ring::failures` has, for a look without the lock.
    pub(super) failure_count: AtomicU32,
    /// Whether waits raise an interrupt too.
    pub(crate) event: CompletionEvent,
}

/// A round under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) number: u32,
    pub(super) first: u32,
    pub(super) wait: u32,
    /// The wait descriptor was written anew once already.
    pub(super) wait_repaired: bool,
}

#[derive(Debug)]
pub(super) struct Ring {
    frame: Frame,
    /// 64-bit cells in a slot: 2 or 4.
    cells: u32,
    pub(super) tail: u32,
    pub(super) rounds: ArrayVec<Round, ROUNDS>,
    pub(super) failures: Failures,
    next_number: u32,
}

/// A round that was submitted: what its wait must be asked with.
#[must_use = "hardware works on it: wait for it"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ticket {
    pub(super) number: u32,
    /// Descriptors in the round, the wait among them.
    pub(crate) descriptors: u32,
    /// The source had more than fitted.
    pub(crate) more: bool,
}

impl Queue {
    /// Memory for a queue, not yet known to hardware.
    pub(crate) fn new<P: Platform>(platform: &P, wide: bool) -> Result<Self, OutOfFrames> {
        let cells = if wide { 4 } else { 2 };
        let bytes = u64::from(SLOTS)
            .saturating_mul(8)
            .saturating_mul(u64::from(cells));
        let frame = platform.allocate(Order::for_bytes(bytes))?;
        let status = match platform.allocate(Order::PAGE) {
            Ok(status) => status,
            Err(error) => {
                platform.release(frame);
                return Err(error);
            }
        };
        let ring = Ring {
            frame,
            cells,
            tail: 0,
            rounds: ArrayVec::new(),
            failures: Failures::default(),
            next_number: 1,
        };
        Ok(Self {
            ring: Mutex::new(Rank::Queue, ring),
            status,
            failure_count: AtomicU32::new(0),
            event: CompletionEvent::off(),
        })
    }

    /// Where hardware finds the ring.
    #[cfg(all(test, loom))]
    pub(super) fn ring_address<P: Platform>(&self, platform: &P) -> Hpa {
        self.ring.lock(platform).frame.hpa()
    }

    /// Gives the memory back. Hardware must not know it (any more).
    pub(crate) fn dispose<P: Platform>(self, platform: &P) {
        platform.release(self.ring.into_inner().frame);
        platform.release(self.status);
    }

    /// Tells hardware where the queue is; QIE is still to be set (§6.5.2).
    pub(crate) fn program<M: Mmio, P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        registers: &Registers<M>,
    ) {
        let ring = self.ring.lock(platform);
        registers.write64(platform, Iqt::new());
        registers.write64(
            platform,
            Iqa::new()
                .with_iqa(crate::tables::frame_number(ring.frame.hpa()))
                .with_dw(ring.cells == 4)
                .with_qs(ring.frame.order().log2() & 7),
        );
    }

    /// Sets an empty queue up again, after the unit was off.
    pub(crate) fn restart<M: Mmio, P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        registers: &Registers<M>,
    ) {
        let mut ring = self.ring.lock(platform);
        ring.tail = 0;
        ring.rounds.clear();
        drop(ring);
        self.program(platform, registers);
    }

    /// Writes descriptors from `source` until it is exhausted or the ring is full, a wait
    /// after them, and rings the doorbell. `None` if there is no room for even one.
    ///
    /// With an empty source nothing is written, and the ticket is of a round that nobody
    /// needs to wait for.
    pub(crate) fn submit<M: Mmio, P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        registers: &Registers<M>,
        counters: &Counters,
        drain_page_requests: bool,
        source: &mut dyn FnMut() -> Option<Descriptor>,
    ) -> Option<Ticket> {
        let mut ring = self.ring.lock(platform);
        ring.reap(self.completed());
        let room = ring.room();
        if room < 2 || ring.rounds.is_full() {
            return None;
        }
        let first = ring.tail;
        let number = ring.next_number;
        let mut written = 0u32;
        let mut more = true;
        while written < room.saturating_sub(1) {
            let Some(descriptor) = source() else {
                more = false;
                break;
            };
            ring.put(platform, registers.unit(), descriptor);
            written = written.saturating_add(1);
        }
        let wait = ring.tail;
        ring.put(
            platform,
            registers.unit(),
            self.wait_descriptor(number, drain_page_requests),
        );
        written = written.saturating_add(1);
        ring.next_number = number.wrapping_add(1);
        // There is room: asked for above.
        let _ = ring.rounds.try_push(Round {
            number,
            first,
            wait,
            wait_repaired: false,
        });
        ring.ring_doorbell(platform, registers);
        counters.descriptors.add(u64::from(written));
        counters.doorbells.increment();
        counters.waits.increment();
        Some(Ticket {
            number,
            descriptors: written,
            more,
        })
    }

    /// The wait of a round.
    pub(super) fn wait_descriptor(&self, number: u32, drain_page_requests: bool) -> Descriptor {
        Descriptor::Wait {
            status: self.status.hpa(),
            data: number,
            fence: true,
            interrupt: self.event.is_on(),
            drain_page_requests,
        }
    }

    /// A wait that tells nobody anything. What a refused descriptor is replaced with.
    pub(super) fn idle_descriptor(&self) -> Descriptor {
        Descriptor::Wait {
            status: Hpa::from_u64(self.status.hpa().as_u64() | 8),
            data: 0,
            fence: false,
            interrupt: false,
            drain_page_requests: false,
        }
    }

    /// A wait that only keeps what follows from starting before it completed.
    pub(crate) fn fence_descriptor(&self) -> Descriptor {
        match self.idle_descriptor() {
            Descriptor::Wait { status, data, .. } => Descriptor::Wait {
                status,
                data,
                fence: true,
                interrupt: false,
                drain_page_requests: false,
            },
            other => other,
        }
    }

    /// The number of the last round whose wait completed.
    pub(super) fn completed(&self) -> u32 {
        // Hardware writes 32 bits: the lower half of the cell.
        self.status.load(0).unwrap_or(0) as u32
    }

    pub(super) fn note_failures(&self, ring: &Ring) {
        self.failure_count
            .store(ring.failures.len() as u32, Ordering::Release);
    }
}

impl Ring {
    /// Forgets the rounds that are done; their slots are free.
    pub(super) fn reap(&mut self, completed: u32) {
        self.rounds
            .retain(|round| !has_reached(completed, round.number));
    }

    /// Free slots, less the one that tells a full ring from an empty one.
    fn room(&self) -> u32 {
        let oldest = self.rounds.first().map_or(self.tail, |round| round.first);
        let used = self.tail.wrapping_sub(oldest) & SLOTS.saturating_sub(1);
        SLOTS.saturating_sub(1).saturating_sub(used)
    }

    fn put<P: Platform + Observer<Event>>(
        &mut self,
        platform: &P,
        unit: u16,
        descriptor: Descriptor,
    ) {
        platform.observe(&Event::Queued { unit, descriptor });
        self.write(self.tail, descriptor);
        self.tail = self.tail.wrapping_add(1) & SLOTS.saturating_sub(1);
    }

    /// Writes a slot whole. Hardware does not look at slots beyond the tail, so plain
    /// stores are enough.
    pub(super) fn write(&mut self, slot: u32, descriptor: Descriptor) {
        let [low, high] = descriptor.encode();
        let at = slot.saturating_mul(self.cells) as usize;
        self.frame.store_private(at, low);
        self.frame.store_private(at.saturating_add(1), high);
        if self.cells == 4 {
            self.frame.store_private(at.saturating_add(2), 0);
            self.frame.store_private(at.saturating_add(3), 0);
        }
    }

    /// What a slot holds.
    pub(super) fn read(&self, slot: u32) -> [u64; 2] {
        let at = slot.saturating_mul(self.cells) as usize;
        let word = |index| self.frame.load(index).unwrap_or(0);
        [word(at), word(at.saturating_add(1))]
    }

    /// Tells hardware the tail, after everything that was written.
    pub(super) fn ring_doorbell<M: Mmio, P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        registers: &Registers<M>,
    ) {
        platform.fence();
        let units_of_16 = self.tail.saturating_mul(self.cells >> 1);
        registers.write64(platform, Iqt::new().with_qt(units_of_16));
    }

    /// The slot that an offset in units of 16 bytes lies in.
    pub(super) fn slot_of(&self, units_of_16: u32) -> u32 {
        let slot = if self.cells == 4 {
            units_of_16 >> 1
        } else {
            units_of_16
        };
        slot & SLOTS.saturating_sub(1)
    }

    /// Whether `slot` lies in the part of the ring from `first` to `last`, both within.
    pub(super) fn is_within(slot: u32, first: u32, last: u32) -> bool {
        let mask = SLOTS.saturating_sub(1);
        (slot.wrapping_sub(first) & mask) <= (last.wrapping_sub(first) & mask)
    }
}

/// Whether the sequence has come to `number`, which may have wrapped.
pub(super) const fn has_reached(completed: u32, number: u32) -> bool {
    completed.wrapping_sub(number) < 1 << 31
}

const _: () = assert!(SLOTS.is_power_of_two());
