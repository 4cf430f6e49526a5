//! Rings of operations: many calls for one exit, and none while the hypervisor polls.
//!
//! An operation of a ring does what the same call would do. Only invalidations that follow
//! each other are done together: all their entries are looked at, hardware is told once,
//! and then each has its result.

use super::invalidate::Prepared;
use crate::argument::{Copied, check_array_writable, copy_argument};
use crate::counters::count;
use crate::detach::REPLACE_DEBTS;
use crate::dispatch::Answer;
use crate::error::Refusal;
use crate::object::Object;
use crate::ring::{Pending, Ring};
use crate::shadow::{MAX_WORK, RING_RANGES};
use crate::vm::{Translation, Vm};
use crate::{Iommu, IommuError, PasidAllocator};
use alloc::vec::Vec;
use iommu_abi::{
    Errno, Invalidate, Layout, Op, RingCompletion, RingCreate, RingEnter, RingSubmission,
};
use iommu_core::{Address, Backend, Batch, Gpa, GuestMemory, Platform, VmHost, VmId};

/// Work after which a call stops between two operations: entries of tables that it looked
/// at, and what [`OPERATION`] and [`INVALIDATION`] say.
const BUDGET: u64 = MAX_WORK;
/// What an operation counts that may wait for hardware by itself.
const OPERATION: u64 = 1 << 8;
/// What an invalidation counts beside the entries that it looks at.
const INVALIDATION: u64 = 4;
/// Changes of nested tables that hardware is told of in one go, at most: as many as a ring
/// has entries, and one call more.
const TOLD: usize = 6144;
/// Of one invalidation: entries, each in a domain for each second stage.
const TOLD_BY_ONE: usize = 2048;

/// How far a ring came.
#[derive(Clone, Copy, Debug)]
struct Served {
    completed: u32,
    remaining: u32,
    /// What it cost, as [`BUDGET`] counts.
    work: u64,
    /// Why the ring cannot go on.
    outcome: Result<(), Errno>,
}

/// What is done of a ring in one call.
struct Course {
    ring: Ring,
    /// Where it ends.
    end: u32,
    work: u64,
    /// A submission that was read and is not done.
    ahead: Option<RingSubmission>,
}

/// An invalidation whose result is not known yet.
struct Waiting {
    user_data: u64,
    state: State,
}

enum State {
    /// Refused, before anything was done.
    Refused(Errno),
    /// Looked at; hardware has not confirmed.
    Owed {
        copied: Copied<Invalidate>,
        looked: Result<(), Errno>,
    },
}

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn ring_create(&self, guest: &mut Vm, ask: &mut RingCreate) -> Answer {
        let (indices, submissions) = (Gpa::new(ask.indices), Gpa::new(ask.submissions));
        let completions = Gpa::new(ask.completions);
        let aligned = [indices, submissions, completions]
            .iter()
            .all(|address| address.is_aligned(3));
        if !aligned || !ask.entries.is_power_of_two() {
            return Err(Errno::EINVAL.into());
        }
        if ask.entries > RingCreate::ENTRIES_MAX {
            return Err(Errno::EDQUOT.into());
        }
        guest.objects.check_room()?;
        let memory = guest.memory.clone();
        let bytes = |size: usize| u32::try_from(size).map_err(|_| Errno::EINVAL);
        let array =
            |at: u64, size: usize| check_array_writable(&*memory, at, bytes(size)?, ask.entries);
        array(ask.submissions, RingSubmission::SIZE)?;
        array(ask.completions, RingCompletion::SIZE)?;
        let ring = Ring {
            indices,
            submissions,
            completions,
            entries: ask.entries,
            next: ask.first,
            busy: false,
            polled: guest.polls_rings,
        };
        ring.begin(&*memory)?;
        ask.ring_id = guest.objects.insert(Object::Ring(ring))?;
        Ok(0)
    }

    pub(crate) fn ring_enter(&self, guest: &mut Vm, ask: &mut RingEnter) -> Answer {
        let limit = match ask.limit {
            0 => u32::MAX,
            limit => limit,
        };
        let ring = *guest.objects.ring(ask.ring_id)?;
        if ring.busy {
            return Err(Errno::EBUSY.into());
        }
        let served = self.serve_ring(guest, ask.ring_id, ring, limit);
        ask.completed = served.completed;
        ask.remaining = served.remaining;
        match served.outcome {
            Ok(()) => Ok(served.completed.into()),
            Err(errno) => Err(Refusal::with_outputs(errno)),
        }
    }

    /// From now on the hypervisor looks at a guest's rings by itself, by
    /// [`poll_rings`](Self::poll_rings), or (with `false`) not any more. The guest sees it
    /// in its rings and makes no calls meanwhile. What was submitted before it could know
    /// of the end is done on return.
    pub fn set_polling(&self, vm: VmId, polling: bool) -> Result<(), IommuError> {
        let slot = self.slot(vm).ok_or(IommuError::NoSuchSlot(vm))?;
        let mut state = slot.state.take(&self.platform);
        let guest = state.as_mut().ok_or(IommuError::NoGuest(vm))?;
        guest.polls_rings = polling;
        let memory = guest.memory.clone();
        let mut after = None;
        while let Some((id, mut ring)) = guest.objects.ring_after(after) {
            after = Some(id);
            ring.polled = polling;
            // Where it cannot be said, the guest has taken the page back, and enters or not.
            let told = ring.publish_state(&*memory);
            ring.polled &= told.is_ok();
            guest.objects.set_ring(id, ring);
            if !polling {
                self.finish_ring(guest, id, &*memory);
            }
        }
        Ok(())
    }

    /// Does what a guest has submitted to the rings that are polled, as much of all as one
    /// call would, and begins where it ended the last time. Returns how many operations were
    /// done.
    ///
    /// A ring that cannot go on is not polled any more, and its guest sees that: it will
    /// learn why when it enters the ring.
    pub fn poll_rings(&self, vm: VmId) -> Result<u32, IommuError> {
        let slot = self.slot(vm).ok_or(IommuError::NoSuchSlot(vm))?;
        let mut state = slot.state.take(&self.platform);
        let guest = state.as_mut().ok_or(IommuError::NoGuest(vm))?;
        let memory = guest.memory.clone();
        let (begin, mut turned) = (guest.polled_last, false);
        let (mut after, mut done, mut work) = (begin, 0u32, 0u64);
        while work < BUDGET {
            let Some((id, ring)) = guest.objects.ring_after(after) else {
                if turned || begin.is_none() {
                    break;
                }
                (after, turned) = (None, true);
                continue;
            };
            if turned && begin.is_some_and(|begin| id > begin) {
                break;
            }
            after = Some(id);
            if !ring.polled {
                continue;
            }
            guest.polled_last = after;
            let served = self.serve_ring(guest, id, ring, u32::MAX);
            done = done.saturating_add(served.completed);
            work = work.saturating_add(served.work);
            if served.outcome.is_err()
                && let Ok(ring) = guest.objects.ring(id)
            {
                let mut ring = *ring;
                ring.polled = false;
                // If the guest took the page, it cannot be told, and cannot look either.
                let _ = ring.publish_state(&*memory);
                guest.objects.set_ring(id, ring);
            }
        }
        Ok(done)
    }

    /// Does what was submitted before the guest could see that nobody polls any more: what
    /// is there now.
    fn finish_ring(&self, guest: &mut Vm, id: u32, memory: &dyn GuestMemory) {
        let Ok(ring) = guest.objects.ring(id).copied() else {
            return;
        };
        let Ok(Pending { possible, .. }) = ring.pending(memory) else {
            return;
        };
        let mut left = possible;
        while left > 0
            && let Ok(ring) = guest.objects.ring(id).copied()
        {
            let served = self.serve_ring(guest, id, ring, left);
            if served.completed == 0 || served.outcome.is_err() {
                return;
            }
            left = left.saturating_sub(served.completed);
        }
    }

    /// Does operations of a ring, as many as there is room, work and wish for.
    fn serve_ring(&self, guest: &mut Vm, id: u32, ring: Ring, limit: u32) -> Served {
        let memory = guest.memory.clone();
        let pending = match ring.pending(&*memory) {
            Ok(pending) => pending,
            Err(errno) => {
                return Served {
                    completed: 0,
                    remaining: 0,
                    work: 0,
                    outcome: Err(errno),
                };
            }
        };
        let mut course = Course {
            ring,
            end: ring.next.wrapping_add(pending.possible.min(limit)),
            work: 0,
            ahead: None,
        };
        guest.objects.set_ring(id, Ring { busy: true, ..ring });
        let outcome = self.run_course(guest, &mut course);
        guest.objects.set_ring(id, course.ring);
        let completed = course.ring.next.wrapping_sub(ring.next);
        count(&self.counters.ring_operations, completed.into());
        Served {
            completed,
            remaining: pending.submitted.saturating_sub(completed),
            work: course.work,
            outcome,
        }
    }

    fn run_course(&self, guest: &mut Vm, course: &mut Course) -> Result<(), Errno> {
        let memory = guest.memory.clone();
        // An operation that was begun is done, so that none has to be remembered.
        guest.shadow.in_one_go();
        guest.shadow.begin(0);
        guest.mapped = 0;
        while course.work < BUDGET
            && let Some(submission) = course.take(&*memory)?
        {
            course.ring.check_completion(&*memory)?;
            let op = operation(&submission);
            if op == Some(Op::Invalidate) && self.run_invalidations(guest, course, &submission)? {
                continue;
            }
            let at = Gpa::new(submission.argument);
            let result = match op {
                _ if !is_known(&submission) => Err(Errno::EOPNOTSUPP),
                None => Err(Errno::ENOTTY),
                // What a ring does must end.
                Some(Op::RingCreate | Op::RingEnter) => Err(Errno::EOPNOTSUPP),
                Some(op) => self.execute(guest, op, at),
            };
            course.work = course
                .work
                .saturating_add(OPERATION)
                .saturating_add(guest.shadow.work())
                .saturating_add(core::mem::take(&mut guest.mapped));
            guest.shadow.begin(0);
            let completed = course
                .ring
                .complete(&*memory, submission.user_data, register(result));
            completed.and_then(|()| course.ring.publish(&*memory))?;
        }
        Ok(())
    }

    /// Does invalidations that follow each other, `first` among them, and tells hardware
    /// once. `false` if there is no memory for that, and nothing was done.
    fn run_invalidations(
        &self,
        guest: &mut Vm,
        course: &mut Course,
        first: &RingSubmission,
    ) -> Result<bool, Errno> {
        let memory = guest.memory.clone();
        let Some(mut waiting) = room_for(course.left().saturating_add(1)) else {
            return Ok(false);
        };
        let told = told_room(guest, waiting.capacity());
        let debts = guest.shadow.debts(RING_RANGES);
        let room = debts.saturating_add(told).saturating_add(REPLACE_DEBTS);
        let Some(mut batch) = Batch::with_capacity(room) else {
            return Ok(false);
        };
        guest.shadow.begin(RING_RANGES);
        let mut submission = *first;
        let kept = debts.saturating_add(REPLACE_DEBTS);
        let stopped = loop {
            let state = self.look_at_one(guest, &submission, &mut batch);
            // There is room for as many as there are submissions.
            waiting.push(Waiting {
                user_data: submission.user_data,
                state,
            });
            course.ring.next = course.ring.next.wrapping_add(1);
            let looked = course.work.saturating_add(guest.shadow.work());
            let counted = (waiting.len() as u64).saturating_mul(INVALIDATION);
            if looked.saturating_add(counted) >= BUDGET {
                break Ok(());
            }
            let next = course.take(&*memory).and_then(|next| {
                let checked = course.ring.check_completion(&*memory);
                checked.map(|()| next)
            });
            match next {
                Ok(Some(next))
                    if operation(&next) == Some(Op::Invalidate)
                        && (told == 0 || batch.room() >= kept.saturating_add(TOLD_BY_ONE)) =>
                {
                    submission = next;
                }
                Ok(next) => {
                    course.ahead = next;
                    break Ok(());
                }
                Err(errno) => break Err(errno),
            }
        };
        let counted = (waiting.len() as u64).saturating_mul(INVALIDATION);
        let looked = guest.shadow.work();
        course.work = course.work.saturating_add(looked).saturating_add(counted);
        let settled = self.settle(guest, &mut batch);
        let count = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
        course.ring.next = course.ring.next.wrapping_sub(count);
        let mut told = Ok(());
        for one in waiting {
            let result = self.finish_one(guest, &one.state, settled);
            told = told.and(
                course
                    .ring
                    .complete(&*memory, one.user_data, register(result)),
            );
        }
        told.and(course.ring.publish(&*memory)).and(stopped)?;
        Ok(true)
    }

    fn look_at_one<'b>(
        &'b self,
        guest: &mut Vm,
        submission: &RingSubmission,
        batch: &mut Batch<'b, B::Debt>,
    ) -> State {
        if !is_known(submission) {
            return State::Refused(Errno::EOPNOTSUPP);
        }
        let at = Gpa::new(submission.argument);
        let copied = copy_argument::<Invalidate>(&*guest.memory, at);
        let ready = copied.and_then(|copied| {
            let prepared = Prepared::new(guest, &copied.value)?;
            Ok((copied, prepared))
        });
        match ready {
            Err(errno) => State::Refused(errno),
            Ok((mut copied, prepared)) => {
                guest.shadow.next_in_call();
                let looked = self.look(guest, &mut copied.value, &prepared, batch);
                State::Owed { copied, looked }
            }
        }
    }

    /// The result of an invalidation, now that hardware has confirmed or not.
    fn finish_one(
        &self,
        guest: &Vm,
        state: &State,
        settled: Result<(), Errno>,
    ) -> Result<u64, Errno> {
        match state {
            State::Refused(errno) => Err(*errno),
            State::Owed { copied, looked } => {
                self.note_invalidation(guest, copied.value.ioas_id, settled);
                copied.write_back(&*guest.memory)?;
                settled.and(*looked).map(|()| copied.value.completed.into())
            }
        }
    }
}

impl Course {
    /// Operations that are to be done still.
    fn left(&self) -> u32 {
        self.end.wrapping_sub(self.ring.next)
    }

    /// The next submission, read now or before.
    fn take(&mut self, memory: &dyn GuestMemory) -> Result<Option<RingSubmission>, Errno> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        match self.left() {
            0 => Ok(None),
            _ => self.ring.submission(memory).map(Some),
        }
    }
}

fn operation(submission: &RingSubmission) -> Option<Op> {
    Op::from_u32(submission.operation)
}

/// Whether it asks for nothing that a later version may give a meaning.
fn is_known(submission: &RingSubmission) -> bool {
    submission.flags == 0 && submission.reserved == 0
}

fn register(result: Result<u64, Errno>) -> i64 {
    match result {
        Ok(count) => i64::try_from(count).unwrap_or(i64::MAX),
        Err(errno) => errno.to_register(),
    }
}

fn room_for(submissions: u32) -> Option<Vec<Waiting>> {
    let mut room = Vec::new();
    room.try_reserve_exact(submissions as usize).ok()?;
    Some(room)
}

/// Changes of tables that hardware walks itself: none if there are no such tables.
fn told_room(guest: &Vm, submissions: usize) -> usize {
    let nested = |translation: &Translation| matches!(translation, Translation::Nested(_));
    if guest
        .bindings
        .iter()
        .any(|bound| nested(&bound.translation))
    {
        submissions.saturating_mul(TOLD_BY_ONE).min(TOLD)
    } else {
        0
    }
}
