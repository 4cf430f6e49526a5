//! Faults (§7): reading the unit's records, and explaining them by the tables.

mod drain;
mod record;

pub(crate) use drain::clear_record;
pub use record::decode;
