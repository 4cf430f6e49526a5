//! The way of a fault record to the guest whose device was refused.

use super::Policy;
use super::seats::MOST_GUESTS;
use crate::platform::KernelPlatform;
use crate::remapping::faults::FaultSink;
use crate::vm::FaultNotes;
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU64, Ordering};
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{FaultRecord, VmId};

/// Faults that are told in full; of later ones a guest could make any number.
const TOLD: u64 = 256;

/// A guest, and where its trials' faults are noted.
type Watched = (VmId, Arc<FaultNotes>);

/// Gives each record to policy, and to the guest's trial.
pub(super) struct Faults {
    policy: &'static Policy,
    guests: Mutex<ArrayVec<Watched, MOST_GUESTS>>,
    told: AtomicU64,
}

impl Faults {
    pub(super) const fn new(policy: &'static Policy) -> Self {
        Self {
            policy,
            guests: Mutex::new(Rank::Events, ArrayVec::new_const()),
            told: AtomicU64::new(0),
        }
    }

    /// Names a guest whose trials are watched.
    pub(super) fn watch(&self, id: VmId, notes: Arc<FaultNotes>) {
        // As many as there are guests.
        let _ = self.guests.lock(&KernelPlatform).try_push((id, notes));
    }

    /// The guest is gone.
    pub(super) fn unwatch(&self, id: VmId) {
        let mut guests = self.guests.lock(&KernelPlatform);
        let found = guests.iter().position(|(known, _)| *known == id);
        let gone = found.map(|index| guests.swap_remove(index));
        drop(guests);
        drop(gone);
    }

    /// An interrupt request without source id may be anybody's; trials look at it.
    fn note_anonymous(&self, record: &FaultRecord) {
        if record.reason.is_interrupt() {
            let guests = self.guests.lock(&KernelPlatform).clone();
            guests
                .iter()
                .for_each(|(_, notes)| notes.note_anonymous(record));
        }
    }

    fn notes(&self, id: VmId) -> Option<Arc<FaultNotes>> {
        let guests = self.guests.lock(&KernelPlatform);
        let mut guests = guests.iter();
        guests
            .find(|(known, _)| *known == id)
            .map(|(_, notes)| notes.clone())
    }
}

impl FaultSink for Faults {
    fn fault(&self, record: &FaultRecord) {
        let Some(attribution) = self.policy.report(record) else {
            defmt::warn!("a fault of a device that no guest has: {}", record);
            self.note_anonymous(record);
            return;
        };
        if self.told.fetch_add(1, Ordering::Relaxed) < TOLD {
            defmt::info!("  it is of {}", attribution);
        }
        if let Some(notes) = self.notes(attribution.vm) {
            // Trials know the device by its own id.
            notes.note(&FaultRecord {
                device: self.policy.host().who_requests_as(record.device),
                ..*record
            });
        }
    }
}
