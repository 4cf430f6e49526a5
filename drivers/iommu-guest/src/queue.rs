//! Queues of events beside the guest's own.

use iommu_abi::QueueKind;

/// A queue that the guest made. Not one for another, and gone when it is destroyed.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EventQueue {
    pub(crate) id: u32,
    pub(crate) kind: QueueKind,
}

impl EventQueue {
    /// The handle on the wire.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What it carries.
    pub fn kind(&self) -> QueueKind {
        self.kind
    }
}
