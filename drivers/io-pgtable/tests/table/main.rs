//! Tables, changed by ranges and held against a plain map of what they should translate.
//!
//! The module `memory_safety` is small enough for Miri:
//! `cargo +nightly miri test -p io-pgtable --test table memory_safety`.

mod dirty;
mod fixture;
mod mapping;
mod memory_safety;
mod model;
mod random;
mod taking;
mod unmapping;
