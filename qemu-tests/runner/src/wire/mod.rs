//! What the kernel says (`docs/wire.md`): records on the debug console, report lines in
//! stream 0, and the exit status.
//!
//! All of it is an allegation: a kernel that fails may say anything. What does not parse is
//! kept as damage, which no verdict survives.

mod record;
mod report;
mod status;

#[cfg(test)]
pub(crate) use record::encode;
pub(crate) use record::{Piece, Reader};
pub(crate) use report::{Line, Outcome};
pub(crate) use status::{ExitStatus, of_qemu};

/// The stream of the report.
pub(crate) const REPORT: u8 = 0;
