//! The driver on the hardware model.

mod bring_up;
mod coherence;
mod firmware;
mod interrupts;
mod mapping;
mod pasids;
mod queue_errors;
mod replacing;
mod rig;
mod units;
