//! Guests of this machine: what connects virtual machines with remapping, devices, logs, CPUs.
//!
//! [`start`] makes a guest of a program and gives it a device; [`Guest::run`] runs it alone,
//! [`together`](crate::turns::together) beside others, on all CPUs; [`Guest::end`] takes
//! everything back, whatever the others do meanwhile. [`Lives`] is a guest that is made anew
//! each time that it ends. Faults of devices find their way by `faults`; what trials are judged
//! by is `surroundings`.

mod assign;
mod belongings;
mod error;
mod faults;
mod lines;
mod lives;
mod mediated;
mod meter;
mod policy;
mod pool;
mod run;
mod seats;
mod surroundings;
mod voice;

pub use error::GuestError;
pub use lives::{Endings, Lives};
pub use meter::{Meter, Taken};
pub use policy::{Policy, policy};
pub use run::{Access, BackEnd, Guest, Order, Stopper, start};
pub use voice::Trials;
