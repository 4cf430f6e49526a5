//! Sentences for a log that a person reads who has never seen this machine, or this driver.

mod abilities;
mod event;
mod firmware;

pub use abilities::{Interrupts, Invalidation, Lacks, Translation};
pub use event::{Importance, Told, abilities};
pub use firmware::LeftBehind;
