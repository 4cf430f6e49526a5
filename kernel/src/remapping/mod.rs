//! DMA and interrupt remapping: from the DMAR to a driver at work.
//!
//! [`table`] finds the DMAR, [`start`] brings all units up in the specification's order, and
//! [`faults`] takes what the units refuse.

mod describe;
mod error;
pub mod faults;
mod observer;
mod start;
mod table;

pub use error::RemappingError;
pub use start::{Driver, Remapping, remapping, start};
pub use table::{DmarSource, table};
