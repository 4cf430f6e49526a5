//! Settling debts: one doorbell and one wait for each unit, as long as what is owed fits
//! its queue.

use super::Driver;
use crate::Event;
use crate::domain::Domains;
use crate::invalidation::{Debt, EntryChange, Expansion, Kind, Scene};
use crate::queue::{Descriptor, Queue, QueueError, Ticket};
use crate::unit::Unit;
use arrayvec::ArrayVec;
use core::mem;
use iommu_core::{
    Batch, DeviceId, FlushError, Flushed, FrameList, Mmio, Nanoseconds, Observer, Platform,
    SourceId,
};

/// So often a round is submitted again because a device was silent. Every time one device
/// less is asked, unless the unit does not say which it was.
const ATTEMPTS: u32 = 8;

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    pub(super) fn settle(&self, batch: &mut Batch<'_, Debt>) -> Result<Flushed, FlushError> {
        let debts = batch.debts_mut();
        let kept = self.costs.apply(debts);
        debts.truncate(kept);
        let mut flushed = Flushed::default();
        let mut failure = None;
        for (position, unit) in self.units.iter().enumerate() {
            if let Err(error) = self.flush(position, unit, batch.debts(), &mut flushed) {
                failure.get_or_insert(error);
            }
        }
        if failure.is_none() {
            failure = self.revoke_permissions(batch.debts(), &mut flushed).err();
        }
        if let Some(error) = failure {
            self.park_batch(batch);
            return Err(error);
        }
        let retired = self.close(batch.debts());
        flushed.frames = batch.settle();
        flushed.frames.append(retired);
        Ok(flushed)
    }

    fn park_batch(&self, batch: &mut Batch<'_, Debt>) {
        let mut debts = mem::take(batch.debts_mut());
        self.park_all(&debts, batch.settle());
        // The batch keeps its room.
        debts.clear();
        *batch.debts_mut() = debts;
    }

    /// Tells every unit, and every device with a TLB, to forget all that it may have
    /// cached.
    pub(super) fn forget_everything(&self, flushed: &mut Flushed) -> Result<(), FlushError> {
        for (position, unit) in self.units.iter().enumerate() {
            let mut expansion =
                Expansion::everything(self.scene(position, unit), unit.everything());
            let drain = unit.abilities.drains_page_requests();
            self.tell(unit, &mut expansion, drain, flushed)?;
        }
        Ok(())
    }

    /// Tells one unit what concerns it.
    fn flush(
        &self,
        position: usize,
        unit: &Unit<M>,
        debts: &[Debt],
        flushed: &mut Flushed,
    ) -> Result<(), FlushError> {
        let mut expansion = Expansion::new(debts, self.scene(position, unit));
        let drain = self.wants_drain(position, unit, debts);
        let rounds = self.tell(unit, &mut expansion, drain, flushed)?;
        if rounds == 0 && concerns(debts, position) {
            // No invalidation has flushed it along.
            unit.flush_write_buffer(&self.platform)
                .map_err(|error| FlushError::UnitTimedOut {
                    unit: error.unit,
                    waited: error.waited,
                })?;
        }
        Ok(())
    }

    /// Whether a slot is left by a device that may have asked for pages: then its requests
    /// must have arrived before anybody says that it is gone (§7.10).
    fn wants_drain(&self, position: usize, unit: &Unit<M>, debts: &[Debt]) -> bool {
        if !unit.abilities.drains_page_requests() {
            return false;
        }
        let tables = unit.tables.lock(&self.platform);
        debts.iter().any(|debt| match debt.0 {
            Kind::Entry(change) => {
                change.unit == position
                    && change.left.is_some()
                    && tables.lets_ask_for_pages(change.source)
            }
            _ => false,
        })
    }

    /// Submits an expansion in as many rounds as it takes, and says how many.
    pub(super) fn tell(
        &self,
        unit: &Unit<M>,
        expansion: &mut Expansion<'_>,
        drain: bool,
        flushed: &mut Flushed,
    ) -> Result<u32, FlushError> {
        match &unit.queue {
            Some(queue) => self.tell_by_queue(unit, queue, expansion, drain, flushed),
            None => self.tell_by_register(unit, expansion, flushed),
        }
    }

    /// One by one: each command is a doorbell and a wait of its own.
    fn tell_by_register(
        &self,
        unit: &Unit<M>,
        expansion: &mut Expansion<'_>,
        flushed: &mut Flushed,
    ) -> Result<u32, FlushError> {
        let mut rounds = 0u32;
        loop {
            // The lock of the domains is not held while hardware works.
            let some: ArrayVec<Descriptor, 32> = {
                let domains = self.domains.lock(&self.platform);
                core::iter::from_fn(|| expansion.next(&domains))
                    .take(32)
                    .collect()
            };
            if some.is_empty() {
                return Ok(rounds);
            }
            for descriptor in some {
                unit.invalidate(&self.platform, &[descriptor])
                    .map_err(|error| flush_error(unit, error))?;
                rounds = rounds.saturating_add(1);
                flushed.descriptors = flushed.descriptors.saturating_add(1);
                flushed.doorbells = flushed.doorbells.saturating_add(1);
                flushed.waits = flushed.waits.saturating_add(1);
            }
        }
    }

    fn tell_by_queue(
        &self,
        unit: &Unit<M>,
        queue: &Queue,
        expansion: &mut Expansion<'_>,
        drain: bool,
        flushed: &mut Flushed,
    ) -> Result<u32, FlushError> {
        let mut again = drain.then(|| expansion.clone());
        let begun = self.platform.now();
        let mut silent = None;
        let mut rounds = 0u32;
        let mut attempts = 0u32;
        loop {
            let retry = expansion.clone();
            match self.submit(unit, queue, expansion, drain) {
                // Requests that found no room were answered by hardware, perhaps just now:
                // once more, behind those answers.
                Submitted::Nothing => match again.take().filter(|_| unit.lost_page_requests()) {
                    Some(whole) => *expansion = whole,
                    None => break,
                },
                Submitted::NoRoom => {
                    *expansion = retry;
                    self.await_room(unit, begun)?;
                }
                Submitted::Round(ticket) => {
                    rounds = rounds.saturating_add(1);
                    count(flushed, ticket);
                    match self.await_round(unit, queue, ticket) {
                        Ok(()) => {}
                        Err(QueueError::Aborted(source)) => {
                            attempts = attempts.saturating_add(1);
                            silent = self.isolate(unit, source).or(silent);
                            if attempts > ATTEMPTS {
                                return Err(self.gave_up(unit, begun));
                            }
                            *expansion = retry;
                        }
                        Err(error) => return Err(flush_error(unit, error)),
                    }
                }
            }
        }
        unit.counters
            .refills
            .add(u64::from(rounds.saturating_sub(1)));
        match silent {
            Some(device) => Err(FlushError::DeviceTimedOut(device)),
            None => Ok(rounds),
        }
    }

    pub(super) fn scene(&self, position: usize, unit: &Unit<M>) -> Scene {
        Scene {
            unit: position,
            abilities: unit.abilities,
            scalable: unit.mode().is_scalable(),
            devices: unit.is_translating(),
            fence: unit.queue.as_ref().map(Queue::fence_descriptor),
        }
    }

    /// One round, as much as fits. Attachments are looked up under the lock of the domains,
    /// which is not held while hardware works.
    fn submit(
        &self,
        unit: &Unit<M>,
        queue: &Queue,
        expansion: &mut Expansion<'_>,
        drain: bool,
    ) -> Submitted {
        let domains = self.domains.lock(&self.platform);
        if expansion.is_done(&domains) {
            return Submitted::Nothing;
        }
        let ticket = queue.submit(
            &self.platform,
            &unit.registers,
            &unit.counters,
            drain,
            &mut || expansion.next(&domains),
        );
        ticket.map_or(Submitted::NoRoom, Submitted::Round)
    }

    fn await_round(&self, unit: &Unit<M>, queue: &Queue, ticket: Ticket) -> Result<(), QueueError> {
        queue.wait(
            &self.platform,
            &unit.registers,
            &unit.counters,
            ticket,
            unit.limits.flush,
        )
    }

    /// Others have filled the queue: they wait for it too, and handle its errors.
    fn await_room(&self, unit: &Unit<M>, begun: Nanoseconds) -> Result<(), FlushError> {
        if self.platform.now().since(begun) > unit.limits.flush {
            return Err(self.gave_up(unit, begun));
        }
        self.platform.relax();
        Ok(())
    }

    fn gave_up(&self, unit: &Unit<M>, begun: Nanoseconds) -> FlushError {
        unit.counters.timeouts.increment();
        FlushError::UnitTimedOut {
            unit: unit.index(),
            waited: self.platform.now().since(begun),
        }
    }

    /// A device does not answer invalidations of its own TLB, so what it has cached cannot
    /// be taken from it: its context entry goes, by which its translated requests are
    /// refused too, and it is not asked again.
    fn isolate(&self, unit: &Unit<M>, source: Option<SourceId>) -> Option<DeviceId> {
        let device = DeviceId::new(unit.segment, source?);
        let mut domains = self.domains.lock(&self.platform);
        domains.device_tlbs.retain(|(known, _)| *known != device);
        let present = unit
            .tables
            .lock(&self.platform)
            .isolate(&self.platform, device.source);
        drop(domains);
        if present {
            self.platform.observe(&Event::Isolated { device });
            // The entry, and what was translated by it. A failure of this is found by the
            // round that is submitted again.
            let _ = unit.invalidate(&self.platform, &unit.everything());
        }
        Some(device)
    }

    /// Hardware has confirmed: what was kept for it is free.
    pub(super) fn close(&self, debts: &[Debt]) -> FrameList {
        let mut retired = FrameList::new();
        let mut domains = self.domains.lock(&self.platform);
        for debt in debts {
            match debt.0 {
                Kind::Entry(change) => self.close_entry(&mut domains, &change, &mut retired),
                Kind::Destroyed(handle) => domains.settle_destruction(handle.into()),
                _ => {}
            }
        }
        retired
    }

    fn close_entry(&self, domains: &mut Domains, change: &EntryChange, retired: &mut FrameList) {
        for reference in [change.left, change.entered].into_iter().flatten() {
            if domains.attachments.resolve(reference).is_none() {
                continue;
            }
            let Some(attachment) = domains.attachments.get_mut(reference.index) else {
                continue;
            };
            attachment.debts = attachment.debts.saturating_sub(1);
            let table = if Some(reference) == change.entered {
                attachment.retired.take()
            } else {
                None
            };
            if let Some(table) = table {
                // Retired tables and directories are single pages.
                let _ = retired
                    .push(table)
                    .map_err(|table| self.platform.release(table));
            }
            if attachment.leaving && attachment.debts == 0 {
                self.release(domains, reference.index);
            }
        }
    }

    fn release(&self, domains: &mut Domains, index: u16) {
        let Some(gone) = domains.release(index) else {
            return;
        };
        if let Some(unit) = self.units.get(gone.unit) {
            unit.tables.lock(&self.platform).finish_removal(
                &self.platform,
                gone.slot.device.source,
                gone.slot.pasid,
            );
        }
    }
}

enum Submitted {
    Nothing,
    NoRoom,
    Round(Ticket),
}

fn count(flushed: &mut Flushed, ticket: Ticket) {
    flushed.descriptors = flushed.descriptors.saturating_add(ticket.descriptors);
    flushed.doorbells = flushed.doorbells.saturating_add(1);
    flushed.waits = flushed.waits.saturating_add(1);
}

/// Whether a unit may have to be told of table memory that was written.
fn concerns(debts: &[Debt], position: usize) -> bool {
    debts.iter().any(|debt| match debt.0 {
        Kind::Nothing | Kind::Destroyed(_) => false,
        Kind::Entry(change) => change.unit == position,
        Kind::Mapped { .. }
        | Kind::Changed { .. }
        | Kind::ChangedAll(_)
        | Kind::EntriesChanged(_) => true,
    })
}

pub(super) fn flush_error<M: Mmio>(unit: &Unit<M>, error: QueueError) -> FlushError {
    let unit_index = unit.index();
    match error {
        QueueError::Refused(code) => FlushError::DescriptorRefused {
            unit: unit_index,
            code,
        },
        QueueError::TimedOut(waited) => FlushError::UnitTimedOut {
            unit: unit_index,
            waited,
        },
        QueueError::Aborted(_) => FlushError::UnitTimedOut {
            unit: unit_index,
            waited: unit.limits.flush,
        },
    }
}
