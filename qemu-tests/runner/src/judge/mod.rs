//! Judging a boot by its evidence. The kernel's word is held against QEMU's trace, a
//! guest's word against the kernel's, and what is missing counts as wrong.
//!
//! Every rule gives its problems as sentences for a person; no problem, no failure.

mod claims;
mod complaint;
mod demonstration;
mod ending;
mod figures;
mod neighbour;

pub(crate) use claims::Believed;
pub(crate) use complaint::{Announced, Provocation};
pub(crate) use demonstration::{Demonstration, PROVOKED, Required, meaning};
pub(crate) use ending::{Expectation, problems};
pub(crate) use figures::{Figure, disagreements, figures};
pub(crate) use neighbour::Neighbour;
