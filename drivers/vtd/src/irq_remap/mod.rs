//! Interrupt remapping (§5.1): the table of a unit, whose entries say which source may
//! raise which interrupt, and the messages that name them.
//!
//! An entry belongs to a source from its allocation on: its source id stands in it before
//! it is present, and is verified by hardware with every interrupt.
//! Entries are written by one store of 128 bits.

mod allocation;
mod message;
mod posted;
mod table;

pub use message::ioapic_entry;
pub(crate) use message::remappable_message;
pub use posted::{PostError, PostedDescriptor, PostedTarget};
pub use table::InterruptSource;
pub(crate) use table::{DESCRIPTOR_SHIFT, InterruptTable};
