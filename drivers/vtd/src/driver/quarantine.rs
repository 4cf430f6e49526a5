//! What is kept because hardware was not told, or did not confirm.

use super::Driver;
use crate::Event;
use crate::invalidation::Debt;
use alloc::vec::Vec;
use core::mem;
use iommu_core::{
    FlushError, Flushed, FrameList, Mmio, Observer, Order, OutOfFrames, Platform, Quarantine,
};

/// What lies in quarantine. Zero in a system where every debt is settled.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Quarantined {
    /// Debts that were dropped, or whose commit failed. The domain ids and the attachments
    /// that they speak of stay taken.
    pub debts: u32,
    /// Pages of table memory.
    pub frames: u32,
}

/// Debts that nobody settled, and what must not be reused because of them.
#[derive(Debug)]
pub(super) struct Parked {
    frames: FrameList,
    /// Has its room from the beginning, so that parking cannot fail.
    debts: Vec<Debt>,
    /// Debts for which there was no room: what they speak of is lost until the end.
    lost: u32,
    /// So often hardware was not told, or did not confirm.
    unconfirmed: u64,
    /// So much of that has a flush of everything made good.
    covered: u64,
}

impl Parked {
    pub(super) fn new(room: usize) -> Result<Self, OutOfFrames> {
        let mut debts = Vec::new();
        debts
            .try_reserve_exact(room)
            .map_err(|_| OutOfFrames { order: Order::PAGE })?;
        Ok(Self {
            frames: FrameList::new(),
            debts,
            lost: 0,
            unconfirmed: 0,
            covered: 0,
        })
    }

    pub(super) fn into_frames(self) -> FrameList {
        self.frames
    }

    fn add(&mut self, debts: &[Debt], frames: FrameList) {
        self.unconfirmed = self.unconfirmed.saturating_add(1);
        self.keep(debts, frames);
    }

    fn keep(&mut self, debts: &[Debt], frames: FrameList) {
        for debt in debts {
            if self.debts.len() < self.debts.capacity() {
                self.debts.push(*debt);
            } else {
                self.lost = self.lost.saturating_add(1);
            }
        }
        self.frames.append(frames);
    }
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// What is in quarantine.
    pub fn quarantined(&self) -> Quarantined {
        let parked = self.parked.lock(&self.platform);
        Quarantined {
            debts: u32::try_from(parked.debts.len())
                .unwrap_or(u32::MAX)
                .saturating_add(parked.lost),
            frames: u32::try_from(parked.frames.len()).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn forget_and_reclaim(&self) -> Result<Flushed, FlushError> {
        let mut flushed = Flushed::default();
        let unconfirmed = self.parked.lock(&self.platform).unconfirmed;
        let taken = self.take_parked();
        let forgotten = self
            .forget_everything(&mut flushed)
            .and_then(|()| self.revoke_all_permissions());
        match (forgotten, taken) {
            (Ok(()), taken) => {
                // Without memory for another list, what is parked stays so, though hardware
                // has forgotten it.
                if let Some((debts, frames)) = taken {
                    flushed.frames = self.close(&debts);
                    flushed.frames.append(frames);
                }
                let mut parked = self.parked.lock(&self.platform);
                parked.covered = parked.covered.max(unconfirmed);
                Ok(flushed)
            }
            (Err(error), taken) => {
                if let Some((debts, frames)) = taken {
                    self.parked.lock(&self.platform).keep(&debts, frames);
                }
                Err(error)
            }
        }
    }

    /// See [`Backend::has_unconfirmed`](iommu_core::Backend::has_unconfirmed).
    pub(super) fn is_unconfirmed(&self) -> bool {
        let parked = self.parked.lock(&self.platform);
        parked.covered < parked.unconfirmed
    }

    /// Notes that hardware may know more than the tables say, of which no debt tells.
    pub(super) fn note_unconfirmed(&self) {
        let mut parked = self.parked.lock(&self.platform);
        parked.unconfirmed = parked.unconfirmed.saturating_add(1);
    }

    /// What is in quarantine, whose place is empty then; `None` if there is no memory for
    /// another list as long.
    fn take_parked(&self) -> Option<(Vec<Debt>, FrameList)> {
        let mut empty = Vec::new();
        let mut parked = self.parked.lock(&self.platform);
        empty.try_reserve_exact(parked.debts.capacity()).ok()?;
        let debts = mem::replace(&mut parked.debts, empty);
        Some((debts, mem::take(&mut parked.frames)))
    }

    pub(super) fn park_all(&self, debts: &[Debt], frames: FrameList) {
        let pages = u32::try_from(frames.len()).unwrap_or(u32::MAX);
        self.parked.lock(&self.platform).add(debts, frames);
        self.platform.observe(&Event::Quarantined { frames: pages });
    }
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Quarantine<Debt> for Driver<P, M, S> {
    fn park(&self, debt: Debt, frames: FrameList) {
        if debt.is_nothing() && frames.is_empty() {
            return;
        }
        self.park_all(&[debt], frames);
    }
}
