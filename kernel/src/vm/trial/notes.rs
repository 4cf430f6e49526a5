//! Faults of a guest's devices during a trial, noted by whoever takes them from the units.

use arrayvec::ArrayVec;
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{FaultRecord, Platform};

/// Fault records that one trial keeps.
const FAULTS: usize = 16;

/// What was noted.
#[derive(Clone, Default, Debug)]
pub(super) struct Noted {
    /// The first of them.
    pub(super) records: ArrayVec<FaultRecord, FAULTS>,
    /// All.
    pub(super) count: usize,
    /// Records without a source count too.
    anonymous: bool,
}

/// Where faults of a guest's devices are noted, on any CPU and in interrupt handlers, while
/// the guest's own CPU is busy with its trial.
pub struct FaultNotes {
    platform: &'static dyn Platform,
    noted: Mutex<Noted>,
}

impl FaultNotes {
    /// Nothing noted.
    pub(in crate::vm) fn new(platform: &'static dyn Platform) -> Self {
        Self {
            platform,
            noted: Mutex::new(Rank::Events, Noted::default()),
        }
    }

    /// Notes a fault of one of the guest's devices.
    pub fn note(&self, record: &FaultRecord) {
        self.noted.lock(self.platform).add(record);
    }

    /// Notes a refused interrupt request of nobody knows whom, if the guest's device was about
    /// to make one. Else it was another guest's.
    pub fn note_anonymous(&self, record: &FaultRecord) {
        let mut noted = self.noted.lock(self.platform);
        if noted.anonymous {
            noted.add(record);
        }
    }

    /// Begins anew; records without a source count if `anonymous`.
    pub(super) fn restart(&self, anonymous: bool) {
        *self.noted.lock(self.platform) = Noted {
            anonymous,
            ..Noted::default()
        };
    }

    /// What was noted since.
    pub(super) fn noted(&self) -> Noted {
        self.noted.lock(self.platform).clone()
    }
}

impl Noted {
    fn add(&mut self, record: &FaultRecord) {
        self.count = self.count.saturating_add(1);
        // More than fit are counted only.
        let _ = self.records.try_push(*record);
    }
}
