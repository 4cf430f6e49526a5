//! Passes: all that units have been asked is taken from them, told to guests or answered.
//!
//! One CPU at a time makes a pass, and what it took has reached its guest or was answered
//! when it ends. So whoever has drained a device, and then sees a pass begin and end, knows
//! that no request of before is under way (§7.10). Who made the pass is all the same: those
//! who wait for their turn meanwhile go away together when it is over. Each waits for the
//! rest of one pass and for one whole one, however many they are.

use super::CHUNK;
use crate::inbox::{Delivered, Group, Inbox, Part};
use crate::owners::{Bound, Owner, Owners};
use crate::{Iommu, PasidAllocator};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU64, Ordering};
use iommu_abi::{FaultEvent, FaultEventKind};
use iommu_core::sync::{Guard, Turn};
use iommu_core::{
    Backend, PageRequest, PageResponse, Pasid, Platform, ResponseCode, VmEvent, VmHost, VmId,
};

/// Answers that are given, and waited for, together.
const ANSWERS: usize = 128;

/// The turn of who makes a pass.
pub(crate) struct Serving {
    passes: Passes,
    /// Answers of the pass that are not given yet.
    answers: Turn<Vec<PageResponse>>,
}

impl Serving {
    /// `None` without memory.
    pub(crate) fn new() -> Option<Self> {
        let mut answers = Vec::new();
        answers.try_reserve_exact(ANSWERS).ok()?;
        Some(Self {
            passes: Passes::default(),
            answers: Turn::new(answers),
        })
    }
}

/// Passes that have begun. Whoever has the turn knows that they are over.
#[derive(Default)]
struct Passes(AtomicU64);

/// What had begun when somebody came.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Arrival(u64);

impl Passes {
    /// To be noted before waiting for the turn.
    fn arrive(&self) -> Arrival {
        Arrival(self.0.load(Ordering::SeqCst))
    }

    /// Begins a pass, unless a whole one was made since the arrival. Only with the turn.
    fn begin(&self, since: Arrival) -> bool {
        let none = self.arrive() == since;
        if none {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        none
    }
}

/// What [`Iommu::serve_page_requests`] did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PageRequestsServed {
    /// Requests that were taken from the units.
    pub requests: u32,
    /// Groups that guests were told of.
    pub told: u32,
    /// Groups that were answered in a guest's place.
    pub answered: u32,
    /// Answers of which a unit did not say in time that it took them. Their devices may wait.
    pub unanswered: u32,
}

/// What shall become of a request.
enum Verdict {
    /// Its group is not whole yet.
    Kept,
    /// Its guest is told of the group; it must be notified if it knew of nothing before.
    Told { notify: Option<VmId> },
    /// Its group is answered now.
    Answer(ResponseCode),
}

/// What a pass has taken from the units and not dealt with, and what it has done.
struct Pass<'a> {
    requests: ArrayVec<PageRequest, CHUNK>,
    answers: &'a mut Vec<PageResponse>,
    served: PageRequestsServed,
}

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    /// Takes all page requests from the units, tells guests of those that they will answer,
    /// and answers the others. To be called when a unit's page request event came.
    ///
    /// Where other CPUs do so at the time, this waits for one that began later than this
    /// call, and counts nothing as done here if there was one.
    ///
    /// Waits for units to take answers, so it is not for interrupt handlers.
    pub fn serve_page_requests(&self) -> PageRequestsServed {
        let arrival = self.serving.passes.arrive();
        let mut answers = self.serving.answers.take(&self.platform);
        if !self.serving.passes.begin(arrival) {
            return PageRequestsServed::default();
        }
        let mut pass = Pass {
            requests: ArrayVec::new(),
            answers: &mut answers,
            served: PageRequestsServed::default(),
        };
        self.backend.drain_page_requests(&mut |request| {
            if pass.requests.is_full() {
                self.judge_all(&mut pass);
            }
            pass.requests.push(*request);
        });
        self.judge_all(&mut pass);
        self.give(&mut pass);
        pass.served
    }

    /// Deals with the requests that were taken.
    fn judge_all(&self, pass: &mut Pass<'_>) {
        let room = pass.answers.capacity().saturating_sub(pass.answers.len());
        if room < pass.requests.len() {
            self.give(pass);
        }
        let mut notify = ArrayVec::<VmId, CHUNK>::new();
        {
            let owners = self.owners.lock(&self.platform);
            let mut inbox = None;
            for request in pass.requests.drain(..) {
                pass.served.requests = pass.served.requests.saturating_add(1);
                match self.judge(&owners, &mut inbox, &request) {
                    Verdict::Kept => {}
                    Verdict::Told { notify: vm } => {
                        pass.served.told = pass.served.told.saturating_add(1);
                        notify.extend(vm);
                    }
                    Verdict::Answer(code) => pass.answers.push(PageResponse {
                        slot: request.slot,
                        group: request.group,
                        code,
                    }),
                }
            }
        }
        for vm in notify {
            self.host.notify(vm, VmEvent::FaultsPending);
        }
    }

    /// Gives the answers that were found.
    fn give(&self, pass: &mut Pass<'_>) {
        if pass.answers.is_empty() {
            return;
        }
        let count = match self.backend.respond_all(pass.answers) {
            Ok(()) => &mut pass.served.answered,
            Err(_) => &mut pass.served.unanswered,
        };
        let given = u32::try_from(pass.answers.len()).unwrap_or(u32::MAX);
        *count = count.saturating_add(given);
        pass.answers.clear();
    }

    /// Whose the request is, and whether its guest has room for it.
    ///
    /// Under the lock of the owners, so that it does not go to whom the device belonged to
    /// before, or is bound to next. The inbox that was needed last stays open for the next.
    fn judge<'s>(
        &'s self,
        owners: &Owners,
        open: &mut Option<(VmId, Guard<'s, Inbox, P>)>,
        request: &PageRequest,
    ) -> Verdict {
        let group = Group {
            slot: request.slot,
            index: request.group,
        };
        let owner = owners.owner_of(request.slot);
        let Some((owner, slot)) = owner.and_then(|(owner, _)| Some((owner, self.slot(owner.vm)?)))
        else {
            return refused(request);
        };
        if open.as_ref().is_none_or(|(vm, _)| *vm != owner.vm) {
            // Closed before the other is opened: nobody has two.
            *open = None;
        }
        let (_, inbox) = open.get_or_insert_with(|| (owner.vm, slot.inbox.lock(&self.platform)));
        let bound = owners.bound(request.slot);
        let Some(bound) = bound.filter(|bound| bound.page_requests) else {
            if request.last {
                inbox.groups.forget(&group);
            }
            return refused(request);
        };
        let part = Part {
            group,
            event: event(request, &owner, &bound),
        };
        if !request.last {
            inbox.gather(part);
            return Verdict::Kept;
        }
        match inbox.complete(part, owner.device_id) {
            Delivered::First => Verdict::Told {
                notify: Some(owner.vm),
            },
            Delivered::Queued => Verdict::Told { notify: None },
            // As the unit answers when its own queue is full (§7.4.1): try again.
            Delivered::Lost => Verdict::Answer(ResponseCode::Success),
        }
    }
}

/// Nobody will answer: that access fails. Only the last of a group is owed an answer.
fn refused(request: &PageRequest) -> Verdict {
    if request.last {
        Verdict::Answer(ResponseCode::InvalidRequest)
    } else {
        Verdict::Kept
    }
}

fn event(request: &PageRequest, owner: &Owner, bound: &Bound) -> FaultEvent {
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    let access = request.access;
    FaultEvent {
        kind: FaultEventKind::PageRequest.as_u32(),
        flags: FaultEvent::ADDRESS
            | FaultEvent::IOAS
            | flag(bound.guest_pasid.is_some(), FaultEvent::PASID)
            | flag(request.privileged, FaultEvent::PRIVILEGED)
            | flag(request.last, FaultEvent::LAST),
        device_id: owner.device_id,
        ioas_id: bound.ioas_id,
        pasid: bound.guest_pasid.map_or(0, Pasid::as_u32),
        access: flag(access.reads(), FaultEvent::READ) | flag(access.writes(), FaultEvent::WRITE),
        address: request.address.as_u64(),
        group: request.group.into(),
        // Cookie and sequence are given when it is queued.
        ..FaultEvent::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_during_a_pass_needs_another_and_all_who_do_need_the_same() {
        let passes = Passes::default();
        let first = passes.arrive();
        assert!(passes.begin(first));
        // While it is made.
        let [second, third] = [passes.arrive(), passes.arrive()];
        assert!(passes.begin(second));
        // The one that has just ended began after this one came.
        assert!(!passes.begin(third));
        assert!(passes.begin(passes.arrive()));
    }
}
