//! Guests of this machine: what connects virtual machines with remapping, devices, logs.
//!
//! [`start`] makes a guest of a program, gives it a device, and [`Guest::run`] runs it to its
//! end. Faults of its device find their way by `faults`; what trials are judged by is
//! `surroundings`.

mod assign;
mod error;
mod faults;
mod policy;
mod run;
mod surroundings;
mod voice;

pub use error::GuestError;
pub use policy::{Policy, policy};
pub use run::{BackEnd, Guest, Order, start};
