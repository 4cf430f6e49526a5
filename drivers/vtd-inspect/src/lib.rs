//! A remapping unit as hardware has it, read back and told in words: registers, every table
//! from the root to the leaves, the invalidation queue, the interrupt-remapping table, and the
//! walk of one address (§3, §6.5.2, §9, §11).
//!
//! It knows nothing of a driver: it reads registers and memory through [`Source`] and believes
//! nobody's bookkeeping, so it also shows tables that firmware left behind or that somebody
//! overwrote. The same code runs in a kernel, over a live unit, and on a host, over a raw dump:
//! [`Recorder`] writes down all that is read on the way through, and [`RawDump`] reads it again.
//!
//! [`words`] tells what a unit can do, what firmware left on, and what the driver does.
//!
//! Nothing here allocates but [`RawDump`], and nothing writes to a unit.

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

extern crate alloc;
#[cfg(test)]
extern crate std;

mod fields;
mod interrupts;
mod paging;
mod queue;
mod raw;
mod registers;
mod source;
mod tables;
mod unit;
mod walk;
pub mod words;

#[cfg(test)]
mod fake;

pub use fields::Fields;
pub use raw::{RawDump, RawError, Recorder};
pub use source::{PAGE_WORDS, Page, Source};
pub use unit::{Detail, Part, UnitView};
pub use walk::Request;

#[cfg(test)]
mod unit_tests;
