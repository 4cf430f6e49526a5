//! The driver on the hardware model.

mod bring_up;
mod coherence;
mod firmware;
mod guest;
mod guests;
mod interrupts;
mod mapping;
mod nesting;
mod pasids;
mod queue_errors;
mod random;
mod replacing;
mod rig;
mod units;
