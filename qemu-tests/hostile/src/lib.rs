//! Hostile guests: random and adversarial hypercalls from several guests on several virtual
//! CPUs each, against `iommu`, `vtd` and the hardware model.
//!
//! * `stage`: virtual CPUs that take turns, exactly one at a time, with a stop at every step
//!   where real ones could meet.
//! * `floor`, `ram`: platform, registers, hypervisor and guest memory with those steps in them;
//!   allocations fail, memory changes while it is read, units stall.
//! * `outline`: machine, guests and all that they do, from a seed.
//! * `calls`, `belief`: each operation, made so that it can succeed, and spoilt.
//! * `world`: what each deed does to the machine, and what must hold.
//! * `course`: one run. `shrink`: a shorter one that fails too. `threads`: one on real threads.
//! * `broken`: drivers that must be caught.
//! * `tally`: whether what was done is enough to prove something.
//! * `campaign`: many runs.
//!
//! `docs/testing.md` says how it is used.

mod belief;
mod broken;
mod calls;
mod campaign;
mod course;
mod floor;
mod outline;
mod ram;
mod rings;
mod sharing;
mod shrink;
mod stage;
mod tally;
mod threads;
mod units;
mod world;

pub use broken::Fault;
pub use campaign::{Campaign, Caught, Failure, Verdict};
pub use course::Finding;
pub use tally::{LATENCY_LIMIT, Latency, Tally};
