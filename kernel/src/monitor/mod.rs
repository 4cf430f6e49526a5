//! A small line monitor on the first serial port, for a person at a machine: what the units
//! hold, what a device reaches, what was counted. It reads and changes nothing.
//!
//! `monitor=com1` on the command line starts it when everything else is done; `quit` goes on
//! to the kernel's end.

mod command;
mod input;

pub use command::{Command, CommandError};

#[cfg(target_os = "none")]
mod session;
#[cfg(target_os = "none")]
pub use session::run;
