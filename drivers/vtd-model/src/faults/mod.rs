//! Faults: what can go wrong with a request and what then happens (chapter 7).

mod condition;
mod deliver;
mod log;
pub(crate) mod page_request;

pub(crate) use condition::Completes;
pub use condition::{Condition, Status};
pub(crate) use log::{FaultLog, Record, RecordKind};
