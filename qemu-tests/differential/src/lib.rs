//! The same tables, descriptors and requests, given to [`vtd_model`] and to QEMU's
//! `intel-iommu`, must come to the same.
//!
//! A [`case::Case`] is drawn from a seed (`generate`), run on the model (`hardware`) and by
//! qtest on QEMU (`qtest`), and compared step by step (`verdict`). Where QEMU is known to be
//! different a named rule (`rules`) predicts its exact answer. What nobody predicted is made
//! small (`shrink`) and shown. `docs/testing.md` says how to run it, `docs/model.md` what it
//! has found.
//!
//! Nothing here is taken from a driver: entries are laid out again by chapter 9 of the
//! specification (`entries`), so that a driver's mistake is not mirrored.

#![forbid(unsafe_code)]

pub mod aborts;
mod answer;
pub mod bench;
mod campaign;
pub mod case;
mod codes;
mod entries;
mod generate;
mod hardware;
mod memory;
mod qtest;
mod rules;
mod shrink;
mod tally;
mod verdict;
mod walk;

pub use campaign::{Campaign, Finding, Summary};
pub use rules::{Kind, RULES, Rule};
pub use tally::{Shortfall, Tally};
