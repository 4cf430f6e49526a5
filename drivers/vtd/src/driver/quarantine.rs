//! What is kept because hardware was not told, or did not confirm.

use super::Driver;
use crate::Event;
use crate::invalidation::Debt;
use iommu_core::{FrameList, Mmio, Observer, Platform, Quarantine};

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

#[derive(Default, Debug)]
pub(super) struct Parked {
    frames: FrameList,
    debts: u32,
}

impl Parked {
    pub(super) fn into_frames(self) -> FrameList {
        self.frames
    }
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// What is in quarantine.
    pub fn quarantined(&self) -> Quarantined {
        let parked = self.parked.lock(&self.platform);
        Quarantined {
            debts: parked.debts,
            frames: u32::try_from(parked.frames.len()).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn park_all(&self, debts: usize, frames: FrameList) {
        let pages = u32::try_from(frames.len()).unwrap_or(u32::MAX);
        let mut parked = self.parked.lock(&self.platform);
        parked.debts = parked
            .debts
            .saturating_add(u32::try_from(debts).unwrap_or(u32::MAX));
        parked.frames.append(frames);
        drop(parked);
        self.platform.observe(&Event::Quarantined { frames: pages });
    }
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Quarantine<Debt> for Driver<P, M, S> {
    fn park(&self, debt: Debt, frames: FrameList) {
        if debt.is_nothing() && frames.is_empty() {
            return;
        }
        self.park_all(1, frames);
    }
}
