//! What hardware must be told after a change (§6.5.3), from the note that is taken when a
//! table changes to the descriptors that settle it.
//!
//! A [`Debt`] says what changed; who is concerned is found when the debt is settled, from
//! the attachments that exist then. An attachment exists from the moment that its slot
//! leads to the domain until hardware has confirmed that it no longer does, so nobody who
//! may have something cached is left out.

mod cost;
mod debt;
mod expansion;
mod steps;

pub use cost::CostRule;
pub use debt::Debt;
pub(crate) use debt::{EntryChange, Kind};
pub(crate) use expansion::{Expansion, Scene};
