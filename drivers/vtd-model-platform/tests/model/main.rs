//! The driver on the hardware model.

mod bring_up;
mod coherence;
mod firmware;
mod mapping;
mod pasids;
mod replacing;
mod rig;
mod units;
