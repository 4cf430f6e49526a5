//! A ring of operations: many calls for one exit, and none while the hypervisor polls.
//!
//! A [`Round`] collects operations; [`Iommu::enter`](crate::Iommu::enter) has them all done
//! and gives a [`Done`], which knows the result of each. A round that is dropped has done
//! nothing, and its flushes are owed still.
//!
//! # Invariant that `unsafe` rests on
//! `words` lies at guest-physical `address`, contiguously, and only the hypervisor uses it
//! beside the ring while that exists. All accesses are atomic, so that both may at once.

use crate::flush::FlushList;
use crate::{BadMemory, Error, UserTable};
use arrayvec::ArrayVec;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use iommu_abi::{
    Argument, Errno, Granularity, Invalidate, InvalidateModel, InvalidateRange, Layout, Op,
    RingCompletion, RingCreate, RingIndices, RingSubmission,
};
use x86_64::PhysAddr;

/// Words of the indices, and of each element.
const INDICES: usize = 8;
const SUBMISSION: usize = RingSubmission::SIZE / 8;
const COMPLETION: usize = RingCompletion::SIZE / 8;
/// Words for the argument of one operation and what it points to.
const SLOT: usize = 64;
/// Words of a slot that are the argument's.
const ARGUMENT: usize = 16;
/// Ranges that one invalidation of a round carries.
const RANGES: usize = (SLOT - ARGUMENT) * 8 / InvalidateRange::SIZE;
/// Words for one entry of the ring, in all.
const ENTRY: usize = SUBMISSION + COMPLETION + SLOT;

/// Words of [`RingIndices`].
const SUBMISSION_TAIL: usize = 0;
const COMPLETION_HEAD: usize = 1;
const COMPLETION_TAIL: usize = 3;
const STATE: usize = 4;
/// Looks at a polled ring before it is entered after all.
const PATIENCE: u32 = 1 << 20;

/// Memory that guest and hypervisor share as long as a ring is there.
#[derive(Debug)]
pub struct RingMemory<'m> {
    words: &'m [AtomicU64],
    address: PhysAddr,
}

impl<'m> RingMemory<'m> {
    /// Takes memory over for a ring.
    ///
    /// # Safety
    /// `words` lies at guest-physical `address`, all of it contiguously.
    pub unsafe fn new(words: &'m [AtomicU64], address: PhysAddr) -> Result<Self, BadMemory> {
        let room = words.len().saturating_sub(INDICES);
        if room < ENTRY || !address.is_aligned(8u64) {
            return Err(BadMemory);
        }
        Ok(Self { words, address })
    }

    /// Where the hypervisor finds it.
    pub fn address(&self) -> PhysAddr {
        self.address
    }

    /// The memory, for a [`Hypercall`](crate::Hypercall) that hands it on.
    pub fn words(&self) -> &'m [AtomicU64] {
        self.words
    }

    /// The largest number of entries for which there is room: a power of two.
    fn entries(&self) -> u32 {
        let room = self.words.len().saturating_sub(INDICES);
        let entries = room.checked_div(ENTRY).unwrap_or(0);
        let entries = u32::try_from(entries).unwrap_or(u32::MAX);
        let most = entries.min(RingCreate::ENTRIES_MAX);
        1u32.checked_shl(most.checked_ilog2().unwrap_or(0))
            .unwrap_or(1)
    }

    fn at(&self, word: usize) -> u64 {
        let offset = (word as u64).saturating_mul(8);
        self.address.as_u64().saturating_add(offset)
    }

    fn load(&self, word: usize) -> u64 {
        let word = self.words.get(word);
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn store(&self, word: usize, value: u64) {
        if let Some(word) = self.words.get(word) {
            word.store(value, Ordering::Release);
        }
    }

    fn write<T: Layout>(&self, word: usize, value: &T) {
        for (place, bytes) in (word..).zip(value.as_bytes().chunks(8)) {
            let mut whole = [0; 8];
            for (into, from) in whole.iter_mut().zip(bytes) {
                *into = *from;
            }
            self.store(place, u64::from_le_bytes(whole));
        }
    }

    fn read<T: Layout>(&self, word: usize) -> T {
        let mut value = T::default();
        for (place, bytes) in (word..).zip(value.as_mut_bytes().chunks_mut(8)) {
            let whole = self.load(place).to_le_bytes();
            for (into, from) in bytes.iter_mut().zip(whole) {
                *into = from;
            }
        }
        value
    }
}

/// A ring of operations.
#[derive(Debug)]
pub struct Ring<'m> {
    memory: RingMemory<'m>,
    entries: u32,
    id: u32,
    /// Where the next round begins.
    next: u32,
}

impl<'m> Ring<'m> {
    /// What makes it, and then itself by the handle.
    pub(crate) fn ask(memory: &RingMemory<'m>) -> RingCreate {
        let entries = memory.entries();
        RingCreate {
            indices: memory.at(0),
            submissions: memory.at(INDICES),
            completions: memory.at(completions(entries)),
            entries,
            ..RingCreate::new()
        }
    }

    pub(crate) fn new(memory: RingMemory<'m>, id: u32) -> Self {
        Self {
            entries: memory.entries(),
            memory,
            id,
            next: 0,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn memory(&self) -> &RingMemory<'m> {
        &self.memory
    }

    pub(crate) fn into_memory(self) -> RingMemory<'m> {
        self.memory
    }

    /// Operations that a round can have.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Whether the hypervisor looks at the ring by itself now.
    pub fn is_polled(&self) -> bool {
        self.memory.load(STATE) & RingIndices::POLLED != 0
    }

    /// Begins to collect operations.
    pub fn round(&mut self) -> Round<'_, 'm> {
        Round {
            first: self.next,
            end: self.next,
            ring: self,
        }
    }

    fn submission(&self, index: u32) -> usize {
        INDICES.saturating_add(self.place(index).saturating_mul(SUBMISSION))
    }

    fn completion(&self, index: u32) -> usize {
        completions(self.entries).saturating_add(self.place(index).saturating_mul(COMPLETION))
    }

    fn slot(&self, index: u32) -> usize {
        slots(self.entries).saturating_add(self.place(index).saturating_mul(SLOT))
    }

    fn place(&self, index: u32) -> usize {
        (index & self.entries.saturating_sub(1)) as usize
    }
}

fn completions(entries: u32) -> usize {
    INDICES.saturating_add((entries as usize).saturating_mul(SUBMISSION))
}

fn slots(entries: u32) -> usize {
    completions(entries).saturating_add((entries as usize).saturating_mul(COMPLETION))
}

/// The round has no room for this: enter it first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RoundFull;

/// An operation of a round, by which its result is found.
#[must_use = "it names the result of an operation"]
#[derive(Debug)]
pub struct Ticket<A> {
    index: u32,
    of: PhantomData<A>,
}

/// Debts that a round settles. Dropped before, they are owed still: see [`FlushList`].
#[must_use = "what it holds is settled by `Done::settled`"]
#[derive(Debug)]
pub struct Flushing<'t, T, const N: usize> {
    list: FlushList<'t, T, N>,
    /// Its operations: the first one, and how many.
    first: u32,
    count: u32,
    /// Where it is a flush of everything.
    whole: Option<Whole<'t>>,
}

/// A flush of everything that a table owes, until it is settled.
#[derive(Debug)]
struct Whole<'t>(Option<&'t UserTable>);

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        if let Some(table) = self.0 {
            table.lose();
        }
    }
}

/// A flush that did not happen, and its list, which owes what it did.
#[derive(Debug)]
pub struct Unsettled<'t, T, const N: usize> {
    /// Why not.
    pub error: Error,
    /// What is owed still.
    pub list: FlushList<'t, T, N>,
}

/// Operations that are collected for one entry of the ring.
#[must_use = "nothing is done until the ring is entered"]
#[derive(Debug)]
pub struct Round<'r, 'm> {
    ring: &'r mut Ring<'m>,
    first: u32,
    end: u32,
}

impl<'r, 'm> Round<'r, 'm> {
    /// Operations that are in it.
    pub fn len(&self) -> u32 {
        self.end.wrapping_sub(self.first)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn room(&self) -> u32 {
        self.ring.entries.saturating_sub(self.len())
    }

    /// Adds any operation that points to nothing beside its argument.
    pub fn add<A: Argument>(&mut self, argument: &A) -> Result<Ticket<A>, RoundFull> {
        if self.room() == 0 || A::SIZE > 8 * SLOT {
            return Err(RoundFull);
        }
        let index = self.end;
        self.submit(argument);
        Ok(Ticket {
            index,
            of: PhantomData,
        })
    }

    fn submit<A: Argument>(&mut self, argument: &A) {
        let slot = self.ring.slot(self.end);
        self.ring.memory.write(slot, argument);
        let submission = RingSubmission {
            operation: A::OP.as_u32(),
            flags: 0,
            argument: self.ring.memory.at(slot),
            user_data: self.end.into(),
            reserved: 0,
        };
        let at = self.ring.submission(self.end);
        self.ring.memory.write(at, &submission);
        self.end = self.end.wrapping_add(1);
    }

    /// Adds a flush of all that the list holds. The list comes back if there is no room.
    pub fn flush<'t, T, const N: usize>(
        &mut self,
        list: FlushList<'t, T, N>,
    ) -> Result<Flushing<'t, T, N>, (RoundFull, FlushList<'t, T, N>)> {
        let table = list.table();
        let whole = table.take_lost().then_some(Whole(Some(table)));
        let count = match whole {
            Some(_) => 1,
            None => list.changes().len().div_ceil(RANGES),
        };
        let Some(count) = u32::try_from(count)
            .ok()
            .filter(|&count| count <= self.room())
        else {
            return Err((RoundFull, list));
        };
        let first = self.end;
        if whole.is_some() {
            self.submit(&everything(list.table()));
        } else {
            for ranges in list.changes().chunks(RANGES) {
                let array = self.ring.slot(self.end).saturating_add(ARGUMENT);
                for (place, change) in ranges.iter().enumerate() {
                    let words = place.saturating_mul(InvalidateRange::SIZE / 8);
                    let at = array.saturating_add(words);
                    self.ring.memory.write(at, &change.to_range());
                }
                let entries = self.ring.memory.at(array);
                self.submit(&Invalidate {
                    ioas_id: list.table().id(),
                    granularity: Granularity::Ranges.as_u32(),
                    entries,
                    entry_size: InvalidateRange::SIZE as u32,
                    entry_count: u32::try_from(ranges.len()).unwrap_or(0),
                    model: InvalidateModel::Range.as_u32(),
                    ..Invalidate::new()
                });
            }
        }
        Ok(Flushing {
            list,
            first,
            count,
            whole,
        })
    }

    /// Makes what was collected visible. Says whether the ring must be entered.
    pub(crate) fn publish(&self) -> bool {
        self.ring.memory.store(SUBMISSION_TAIL, self.end.into());
        // The hypervisor clears the state and then looks at the tail; we do the opposite.
        fence(Ordering::SeqCst);
        !self.ring.is_polled()
    }

    /// Waits for a hypervisor that polls. `false` if it does not any more, or takes long.
    pub(crate) fn wait(&self) -> bool {
        for _ in 0..PATIENCE {
            if self.is_done() {
                return true;
            }
            if !self.ring.is_polled() {
                return self.is_done();
            }
            core::hint::spin_loop();
        }
        false
    }

    pub(crate) fn is_done(&self) -> bool {
        self.ring.memory.load(COMPLETION_TAIL) == u64::from(self.end)
    }

    pub(crate) fn ring(&self) -> &Ring<'m> {
        self.ring
    }

    /// Takes back what was not done, after an error of the ring itself.
    pub(crate) fn withdraw(self) {
        let memory = &self.ring.memory;
        let done = memory.load(COMPLETION_TAIL);
        memory.store(SUBMISSION_TAIL, done);
        memory.store(COMPLETION_HEAD, done);
        self.ring.next = done as u32;
    }

    pub(crate) fn done(self) -> Done<'r, 'm> {
        self.ring.next = self.end;
        Done {
            first: self.first,
            end: self.end,
            ring: self.ring,
        }
    }
}

fn everything(table: &UserTable) -> Invalidate {
    Invalidate {
        ioas_id: table.id(),
        granularity: Granularity::Everything.as_u32(),
        ..Invalidate::new()
    }
}

/// A round that was done: what became of each operation.
#[derive(Debug)]
pub struct Done<'r, 'm> {
    ring: &'r mut Ring<'m>,
    first: u32,
    end: u32,
}

impl Done<'_, '_> {
    fn result(&self, index: u32, operation: Op) -> Result<u64, Error> {
        let asked = index.wrapping_sub(self.first) < self.end.wrapping_sub(self.first);
        let completion: RingCompletion = self.ring.memory.read(self.ring.completion(index));
        if !asked || completion.user_data != u64::from(index) {
            return Err(Error::Nonsense(operation));
        }
        Errno::from_register(completion.result).map_err(|errno| Error::Refused { operation, errno })
    }

    /// The argument of an operation as it came back, or why it was refused.
    pub fn take<A: Argument>(&self, ticket: &Ticket<A>) -> Result<A, Error> {
        self.result(ticket.index, A::OP)?;
        Ok(self.ring.memory.read(self.ring.slot(ticket.index)))
    }

    /// Settles what was flushed, and returns what it held. If not all of it was, the list
    /// comes back and owes what it did.
    pub fn settled<'t, T, const N: usize>(
        &self,
        flushing: Flushing<'t, T, N>,
    ) -> Result<ArrayVec<T, N>, Unsettled<'t, T, N>> {
        let Flushing {
            mut list,
            first,
            count,
            mut whole,
        } = flushing;
        let mut left = list.changes().len();
        for step in 0..count {
            let asked = left.min(RANGES) as u64;
            let index = first.wrapping_add(step);
            let result = self.result(index, Op::Invalidate);
            let error = match result {
                Ok(done) if whole.is_some() || done == asked => None,
                // Fewer than one call may do: the hypervisor's limit is below ours.
                Ok(_) => Some(Error::Nonsense(Op::Invalidate)),
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                return Err(Unsettled { error, list });
            }
            left = left.saturating_sub(RANGES);
        }
        if let Some(whole) = &mut whole {
            whole.0 = None;
        }
        Ok(list.settle())
    }
}

impl Drop for Done<'_, '_> {
    /// The places of the completions are free again.
    fn drop(&mut self) {
        self.ring.memory.store(COMPLETION_HEAD, self.end.into());
    }
}
