//! A small line monitor on the first serial port, for a person at a machine: what the units
//! hold, what a device reaches, what was counted. It reads and changes nothing.
//!
//! `monitor=com1` on the command line starts it. While guests run it answers between their
//! turns: a line at a time, on the CPU that comes to it, whose guests wait meanwhile. When
//! everything else is done it goes on until `quit`.

mod command;
mod input;

pub use command::{Command, CommandError};

#[cfg(target_os = "none")]
mod session;
#[cfg(target_os = "none")]
pub(crate) use session::tend;
#[cfg(target_os = "none")]
pub use session::{begin, run};
