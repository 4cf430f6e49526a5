//! A small driver for NVMe controllers (NVM Express base specification 2.0): identify and
//! read, with one pair of queues beside the admin pair. Reads are awaited by interrupt or by
//! polling, commands of the admin queue by polling.
//!
//! It allocates nothing: its [`Memory`] is given to it, as cells that the controller reaches at
//! addresses which a remapping unit or nobody translates. Every wait has a limit; what a
//! controller answers is not trusted.

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

#[cfg(test)]
extern crate std;

mod completion;
mod controller;
mod queue;
pub mod spec;

#[cfg(test)]
mod fake;

pub use completion::{Completions, Interrupt, Signal};
pub use controller::{Controller, Memory, Namespace, NvmeError};
pub use queue::Region;

pub use iommu_core::Clock;

/// Base class, sub-class and interface of NVMe controllers.
pub const CLASS: (u8, u8, u8) = (0x01, 0x08, 0x02);
