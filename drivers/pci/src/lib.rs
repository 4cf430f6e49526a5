//! Finds PCI functions and the bridges between them, sizes their BARs, and reads the
//! capabilities that remapping and passthrough need.
//!
//! Configuration space is reached through [`pci_types::ConfigRegionAccess`], so all of this
//! runs on a host too. What devices answer is not trusted: every walk is bounded, and a
//! function that answers nonsense loses an ability instead of taking the kernel with it.

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

#[cfg(test)]
extern crate std;

extern crate alloc;

mod bars;
mod capabilities;
mod config;
mod function;
mod topology;

#[cfg(test)]
mod fake;

pub use bars::{BARS, Bar, BarKind};
pub use capabilities::{Capabilities, ExpressPort};
pub use config::Config;
pub use function::{Bridge, Class, Function};
pub use pci_types::{CommandRegister, ConfigRegionAccess, PciAddress, capability};
pub use topology::{OutOfMemory, Topology};
