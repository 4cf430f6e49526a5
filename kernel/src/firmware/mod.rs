//! What the firmware says in its ACPI tables.
//!
//! Tables are found by the `acpi` crate and read once. Their addresses and lengths are the
//! firmware's word, so each is bounded against the memory map before a byte is touched.

mod entries;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod tables;

pub use entries::{MAX_ECAM_REGIONS, MAX_IOAPICS, MAX_PROCESSORS};
#[cfg(target_os = "none")]
pub use tables::{EcamRegion, Firmware, FirmwareError, InterruptControllers, IoApic, PmTimerPort};
