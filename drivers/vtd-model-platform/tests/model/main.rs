//! The driver on the hardware model.

mod bring_up;
mod rig;
mod units;
