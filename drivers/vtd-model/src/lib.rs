//! An executable model of Intel VT-d remapping hardware that forgives nothing.
//!
//! Written from the specification (*Intel Virtualization Technology for Directed I/O*,
//! revision 5.10; section numbers here are its own) to test drivers against. It shares no
//! type and no layout with any driver: a driver under test sees raw registers
//! ([`Machine::read`], [`Machine::write`]) and host memory, as on silicon.
//!
//! What silicon may do, the model does: it caches whatever the tables ever allowed until
//! exactly the right invalidation removes it, runs invalidations late and out of order,
//! sees only what was written back if it does not snoop. What software may not do is
//! recorded as a [`Violation`], never a panic.
//!
//! ```
//! use vtd_model::{Config, Freedom, Machine, Request, Width};
//!
//! let mut machine = Machine::builder()
//!     .unit(Config::legacy())
//!     .device(0x0010, 0)
//!     .freedom(Freedom::Pessimist(1))
//!     .build()?;
//! assert_eq!(machine.read(0, 0x00, Width::Dword), 0x10); // VER
//! // Translation is off: DMA passes.
//! assert_eq!(machine.request(&Request::read(0x0010, 0x5000)).address(), Some(0x5000));
//! # Ok::<(), vtd_model::ConfigError>(())
//! ```
//!
//! `docs/model.md` says section by section what is modelled and what is not.

#![forbid(unsafe_code)]

/// The examples of the README are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod caches;
mod choice;
mod config;
mod dump;
mod faults;
#[cfg(test)]
mod golden;
mod interrupts;
mod machine;
mod memory;
mod oracle;
mod queue;
mod registers;
mod remapping;
mod tables;
mod violation;

pub use config::{Config, ConfigError, Depths, Perfmon};
pub use faults::page_request::{PageRequest, PageResponse};
pub use faults::{Condition, Status};
pub use interrupts::{InterruptOutcome, PossibleInterrupt};
pub use machine::{Builder, Freedom, Machine, Message, Origin, Promptness, Translations};
pub use memory::{HostMemory, Ram};
pub use oracle::{CostRule, Costing, Mark, Owner};
pub use registers::Width;
pub use remapping::{Access, AddressType, Completion, MemoryType, Outcome, PageAccess, Request};
pub use violation::{Rule, Violation};
