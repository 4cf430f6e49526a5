//! DMA and interrupt remapping: from the DMAR to a driver at work.
//!
//! [`table`] finds the DMAR, [`Survey`] reads all units and tells what will be done, [`start`]
//! does it in the specification's order, [`faults`] takes what the units refuse, and
//! [`page_requests`] knows when devices have asked for pages.

mod error;
pub mod faults;
mod interrupts;
mod observer;
pub mod page_requests;
mod reserved;
mod say;
mod start;
mod survey;
mod table;
mod translating;

pub use error::RemappingError;
pub use interrupts::{interrupt_source, route};
pub use observer::{Onlooker, look_on};
pub use start::{Driver, Remapping, remapping, start};
pub use survey::Survey;
pub use table::{DmarSource, table};
pub use translating::OwnTranslation;
