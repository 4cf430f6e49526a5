//! The invalidation queue (§6.5.2): what descriptors say, when they are fetched, in which
//! order they may run, what goes wrong.

pub(crate) mod descriptor;
pub(crate) mod order;
pub(crate) mod run;
pub(crate) mod state;

pub(crate) use descriptor::{Command, Invalid, Wait};
pub(crate) use run::Outgoing;
pub(crate) use state::{DeviceInvalidation, Pending, Queue, Stage};
