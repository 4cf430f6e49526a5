//! VT-d page tables: the entries of both stages, and tables of 3, 4 and 5 levels that are
//! changed by ranges.
//!
//! Two levels of use. The *entry level*, [`decode`], [`encode_table`], [`encode_leaf`] and
//! the geometry beside them, is pure: a walker of guests' tables, a shadow engine or a
//! dump tool builds on it. The *range level*, [`PageTable`], owns its tables, and so does
//! [`PermissionTable`], by which hardware checks addresses that devices translated.
//!
//! This crate knows no remapping unit: what the hardware supports comes in as [`Limits`],
//! and what it must be told after a change goes out as a value.

#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod entry;
mod geometry;
mod permission;
pub mod spec;
mod table;

pub use entry::{Entry, Limits, decode, encode_leaf, encode_table, is_present};
pub use geometry::{in_width, index_of, span_shift};
pub use permission::PermissionTable;
pub use table::{Mapped, PageTable, TableConfig, Taken, Unmapped};
