//! Faults (§7): reading the unit's records, and explaining them by the tables.

mod drain;
mod flood;
mod record;

pub(crate) use drain::clear_record;
pub use flood::{FaultLimit, Restraint};
pub(crate) use flood::{Flooder, Watch};
pub use record::decode;
