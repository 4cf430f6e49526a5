//! Numbers of guests, each had by one guest at a time.

use core::sync::atomic::{AtomicBool, Ordering};
use iommu_core::VmId;

/// Guests at a time. CPUs tell at least as many apart, and the host, by ASIDs.
pub(super) const MOST_GUESTS: usize = 8;

static TAKEN: [AtomicBool; MOST_GUESTS] = [const { AtomicBool::new(false) }; MOST_GUESTS];

/// A guest's number, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat(u16);

impl Seat {
    /// A number that no guest has.
    pub(super) fn take() -> Option<Self> {
        let free = |taken: &AtomicBool| !taken.swap(true, Ordering::AcqRel);
        let index = TAKEN.iter().position(free)?;
        u16::try_from(index).ok().map(Self)
    }

    /// The number.
    pub(super) fn id(&self) -> VmId {
        VmId(self.0)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(taken) = TAKEN.get(usize::from(self.0)) {
            taken.store(false, Ordering::Release);
        }
    }
}
