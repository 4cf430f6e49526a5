//! The oracle: who owns which frame, what must work, what must not (containment and its
//! twins).
//!
//! It judges the possible, not the actual: in the pessimist mode every translation that
//! enters a cache is checked when it appears, and every change of ownership checks what the
//! caches hold.

mod cost;
mod expect;
mod judge;
mod own;
mod permission;

pub use cost::{CostRule, Costing};
pub(crate) use expect::Expectation;
pub use expect::Mark;
pub(crate) use judge::name;
pub use own::Owner;
pub(crate) use permission::permitting;

use own::Ownership;

/// What the test said about frames, devices and mappings.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) ownership: Ownership,
    pub(crate) expectations: Vec<Expectation>,
    /// Rules about domain ids that were told.
    pub(crate) rules: rustc_hash::FxHashSet<String>,
    /// Violations already reported, so that one mistake is told once.
    pub(crate) told: rustc_hash::FxHashSet<(u16, u32, u64, u64)>,
}
