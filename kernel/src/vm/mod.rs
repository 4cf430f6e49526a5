//! Guests: their memory, their devices, their interrupts, and what they ask for.
//!
//! A guest's memory is its own ([`GuestRam`]) and mapped for its CPU by [`NestedTables`],
//! together with the registers of its devices and nothing else: no part of the hypervisor,
//! no remapping unit, no interrupt controller, no configuration space.

mod calls;
mod copy;
mod image;
mod interrupts;
mod nested;
pub mod passthrough;
mod ports;
mod ram;
mod trial;
mod virtual_machine;

pub use calls::{Answer, IommuCalls, Mediated, Voice};
pub use image::{Entry, ImageError};
pub use interrupts::{Kick, VirtualInterrupts};
pub use nested::{Kind, NestedError, NestedTables, Walkers};
pub use ports::{ConfigBus, ConfigPorts};
pub use ram::{Canary, GuestRam};
pub use trial::{FaultNotes, Refusal, Surroundings, Verdict, Watch, Witness};
pub use virtual_machine::{Setup, SetupError, Vm};
