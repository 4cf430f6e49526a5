//! Numbers of guests, each had by one guest at a time.

use super::pool::{Place, Pool};
use iommu_core::VmId;

/// Guests at a time. CPUs tell at least as many apart, and the host, by ASIDs.
pub(super) const MOST_GUESTS: usize = 8;

static SEATS: Pool<MOST_GUESTS> = Pool::new();

/// A guest's number, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Place);

impl Seat {
    /// A number that no guest has.
    pub(super) fn take() -> Option<Self> {
        SEATS.take().map(Self)
    }

    /// The number.
    pub(super) fn id(&self) -> VmId {
        // One of a few.
        VmId(self.0.index() as u16)
    }
}
