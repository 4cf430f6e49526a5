//! The driver on the hardware model.

mod bring_up;
mod checked;
mod coherence;
mod compatible;
mod composed;
mod device_tlbs;
mod dirty;
mod firmware;
mod floods;
mod guest;
mod guest_random;
mod guests;
mod interrupts;
mod known_failures;
mod mapping;
mod nesting;
mod page_requests;
mod pasids;
mod queue_errors;
mod random;
mod replacing;
mod rig;
mod shutting_down;
mod units;
