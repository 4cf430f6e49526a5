//! Finds PCI functions and the bridges between them, sizes their BARs, and knows what
//! remapping and passthrough must know of them.
//!
//! * `scan`, `function`, `capabilities`, `bars`: what there is, virtual functions among it.
//! * `requesters`: the ids under which a function's requests reach a remapping unit.
//! * `groups`: which functions cannot be kept apart, and why.
//! * `harden`: isolation turned on, and what firmware left on turned off.
//! * `reset`: how a function comes back to the state of power-on.
//! * `translation`: ATS, PRI and PASID on and off, in the order that they demand.
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

#[cfg(any(test, feature = "fake"))]
extern crate std;

extern crate alloc;

mod bars;
mod capabilities;
mod config;
mod function;
mod groups;
mod harden;
mod msix;
mod requesters;
mod reset;
mod scan;
mod spec;
mod topology;
mod translation;

#[cfg(any(test, feature = "fake"))]
#[allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "only tests use it"
)]
pub mod fake;

pub use bars::{BARS, Bar, BarKind};
pub use capabilities::{Capabilities, ExpressPort};
pub use config::Config;
pub use function::{AccessControlState, Bridge, Class, Function, Slot};
pub use groups::{Bond, Groups};
pub use harden::Hardened;
pub use iommu_core::Clock;
pub use msix::{MsixTable, NoSuchMessage};
pub use pci_types::{CommandRegister, ConfigRegionAccess, PciAddress, capability};
pub use requesters::InterruptRequester;
pub use reset::{Done, Method, NoBusReset, NoMethod, ResetFailure, ResetLimits, Resetter};
pub use spec::AccessControl;
pub use topology::{OutOfMemory, Topology};
pub use translation::{
    AtsCapability, AtsPath, AtsRefusal, AtsSettings, ServiceFailure, TranslationServices,
};
