//! The driver through its public face, on a register file that answers at once.

mod attaching;
mod bring_up;
mod by_register;
mod device_tlb;
mod exhaustion;
mod fake;
mod faults;
mod heap;
mod inspecting;
mod interrupts;
mod invalidating;
mod memory;
mod page_requests;
mod quarantine;
mod recovery;
mod shut_down;
mod takeover;
mod units;
mod virtual_pasids;
mod world;
