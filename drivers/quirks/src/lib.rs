//! What is known to be wrong with devices, chipsets and CPUs, as far as remapping and
//! passthrough meet it: one table, each row with its source.
//!
//! The table says *who* ([`Who`]) and *what follows* ([`Effect`]); it touches nothing. The
//! crate `pci` asks it for requester ids, isolation and resets, and the kernel turns effects
//! on units into what `vtd` is told of them and logs each one that it applied.
//!
//! Facts only: identifications and consequences that others published, named in
//! [`Quirk::source`]. A device behind a port that anybody can plug things into could claim
//! any identification, so callers ask for nothing that widens what such a device may do.

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

mod entry;
mod table;

pub use entry::{Alias, Effect, Identity, Processor, Quirk, Who};
pub use table::{TABLE, of_device, of_processor};
