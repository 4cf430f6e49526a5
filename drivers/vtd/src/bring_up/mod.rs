//! From registers at an address to a unit that only waits for its tables to be put in
//! force: one type for each state, one step between them (§6.6, §6.7, §6.5.2).

mod config;
mod discovered;
mod error;
mod memory;
mod quiesced;
mod ready;
mod turn_on;

pub use config::{InterruptConfig, PageRequestConfig, UnitConfig};
pub use discovered::{Discovered, FirmwareState, UnitDescription};
pub use error::{BringUpError, DiscoveryError};
pub use quiesced::Quiesced;
pub use ready::Ready;
pub(crate) use turn_on::{program_fault_event, remap_interrupts};
