//! Watching what a guest's device does, and judging it without the guest's word.
//!
//! A guest [announces](hypervisor_abi::Announce) a deed of its device and later concludes.
//! In between the hypervisor
//!
//! * works out from the guest's own tables, by a [walk](walk) that shares nothing with the
//!   code under test, what must happen;
//! * knows which pages the CPU wrote (dirty bits of the nested tables, and its own writes on
//!   the guest's behalf), so that a page that changed otherwise was changed by a device;
//! * takes note of fault records, interrupts, canaries and the unit's registers.
//!
//! The [`Witness`] of all that carries the verdict.

mod notes;
mod predict;
mod snapshot;
mod walk;
mod watch;
mod witness;

pub use notes::FaultNotes;
pub use walk::Refusal;
pub(super) use watch::Scene;
pub(super) use watch::TrialError;
pub use watch::{Surroundings, Watch};
pub use witness::{Verdict, Witness};
