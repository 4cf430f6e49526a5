//! What the caller wants of a unit.

use crate::mode::ModeRequest;
use crate::unit::Message;

/// How interrupts shall be remapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct InterruptConfig {
    /// Log2 of the number of entries, 8 to 16.
    pub entries_log2: u8,
    /// APIC ids have 32 bits (x2APIC mode).
    pub extended: bool,
}

/// What a unit shall be. The default remaps no interrupts and raises none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UnitConfig {
    /// The mode.
    pub mode: ModeRequest,
    /// Interrupt remapping; `None` leaves it off.
    pub interrupts: Option<InterruptConfig>,
    /// What the fault event sends; `None` keeps it masked, and faults are found by
    /// asking for them.
    pub fault_message: Option<Message>,
    /// Page requests; `None` leaves them off. Ignored by units that have none.
    pub page_requests: Option<PageRequestConfig>,
}

/// How page requests are received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PageRequestConfig {
    /// Log2 of the pages of the queue, 0 to 7; each holds 128 requests. Twice what all
    /// devices can have outstanding is enough.
    pub pages_log2: u8,
    /// What the event sends; `None` keeps it masked.
    pub message: Option<Message>,
}
