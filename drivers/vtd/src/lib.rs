//! A driver for Intel VT-d remapping hardware (revision 5.10 of its specification; section
//! numbers in this crate are of that revision).
//!
//! It translates and blocks the DMA and the interrupts of devices, and decides nothing: who
//! may reach what is said by its caller through [`iommu_core::Backend`] and
//! [`iommu_core::IrqRemapper`], which [`Driver`] implements. It needs a
//! [`Platform`](iommu_core::Platform) (memory, time, locks), an observer for its
//! [`Event`]s, and [`Mmio`](iommu_core::Mmio) access to each unit's registers; no
//! operating system, no PCI, no ACPI.
//!
//! # A unit's life
//!
//! | state | what is true | next step |
//! |---|---|---|
//! | [`Discovered`] | VER, CAP and ECAP were read and make sense; nothing was written | [`Discovered::quiesce`] |
//! | [`Quiesced`] | what firmware left on is off, except translation, which still protects | [`Quiesced::prepare`] |
//! | [`Ready`] | queue, interrupt remapping and fault event are on; our tables are filled and not yet in use | [`Driver::new`], then [`Driver::enable`] |
//! | [`Translating`] (a [`Driver`]) | our tables are in force | |
//!
//! Between [`Driver::new`] and [`Driver::enable`] devices can be attached already: that is
//! when the mappings of reserved regions (RMRR) are made, so that no such device loses its
//! memory when translation starts. Everything else starts blocked.

#![no_std]
#![deny(unsafe_code)]
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

/// The examples of the README are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod abilities;
mod bring_up;
mod domain;
mod driver;
mod event;
mod explain;
pub mod fault;
#[cfg(feature = "test-hooks")]
pub mod hooks;
mod invalidation;
mod irq_remap;
mod mode;
pub mod page_request;
mod performance;
pub mod queue;
mod quirks;
pub mod registers;
mod slots;
mod statistics;
pub mod tables;
mod takeover;
mod unit;

pub use abilities::Abilities;
pub use bring_up::{
    BringUpError, Discovered, DiscoveryError, FirmwareState, InterruptConfig, PageRequestConfig,
    Quiesced, Ready, UnitConfig, UnitDescription,
};
pub use driver::{
    DeviceTlb, DeviceTlbError, Driver, DriverConfig, EnableError, EnableFailure, Failed, Inspected,
    MemoryRanges, NotShareable, Preparing, Quarantined, Scopes, SharedTables, ShutDownFailure,
    Sink, Translating, VirtualCommandError, VirtualPasids,
};
pub use event::Event;
pub use fault::{FaultLimit, Restraint};
pub use invalidation::{CostRule, Debt};
pub use irq_remap::{InterruptSource, PostError, PostedDescriptor, PostedTarget, ioapic_entry};
pub use mode::{Mode, ModeChoice, ModeError, ModeRequest};
pub use performance::{
    Count, EventGroup, Filter, Performance, PerformanceCapabilities, PerformanceError,
};
pub use quirks::Corrections;
pub use statistics::{Latencies, Statistics};
pub use unit::{Command, Message, TimeLimits, TimedOut};
