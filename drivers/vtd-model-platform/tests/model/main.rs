//! The driver on the hardware model.

mod bring_up;
mod checked;
mod coherence;
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
mod queues;
mod random;
mod replacing;
mod rig;
mod rings;
mod shutting_down;
mod slices;
mod units;
