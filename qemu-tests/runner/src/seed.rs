//! Seeds: each run's random choices follow from one number, which is printed.

use std::hash::{BuildHasher, RandomState};

/// A number that nobody expects.
pub(crate) fn fresh() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
