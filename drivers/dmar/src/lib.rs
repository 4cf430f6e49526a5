//! The ACPI DMAR table (§8): which remapping units a machine has, what they remap, and
//! which memory devices must keep reaching.
//!
//! Three layers, each of which can be used alone:
//! - [`Dmar::structures`] gives everything that can be read, as it is written there;
//! - [`Dmar::audit`] tells each oddity: where it is, what it means, and what was done
//!   about it;
//! - [`Dmar::units`], [`Dmar::regions`] and the questions beside them, such as
//!   [`Dmar::unit_of`], give what a driver can rely on, with the oddities dealt with in
//!   just that way.
//!
//! The bytes come from firmware and may say anything. Nothing here panics, allocates,
//! copies the table, or takes longer than its size allows.

#![no_std]
#![forbid(unsafe_code)]
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

#[cfg(feature = "builder")]
extern crate alloc;

mod audit;
#[cfg(feature = "builder")]
pub mod builder;
mod finding;
mod flags;
mod fuzz;
mod machine;
mod raw;
mod records;
mod scope;
mod structure;
mod table;
mod topology;

pub use finding::{Action, Finding, Oddity, Severity};
pub use flags::{AtsrFlags, DeviceProperties, DmarFlags, DrhdFlags, SatcFlags};
#[doc(hidden)]
pub use fuzz::exercise;
pub use machine::{InterruptSource, NamespaceDevice, Region, Unit};
pub use scope::{PathHop, Scope, ScopeKind, Scopes};
pub use structure::{Andd, Atsr, Drhd, Rhsa, Rmrr, Satc, Sidp, Structure, Unknown};
pub use table::Dmar;
pub use topology::{BusRange, NoBridges, PciTopology};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
