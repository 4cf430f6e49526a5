//! What leaves the kernel: records of `docs/wire.md`.
//!
//! [`report`] writes the lines of stream 0, the `defmt` logger writes stream 1, and guests'
//! log bytes are forwarded on streams of their own.
//!
//! The log is always possible: in interrupt handlers, in an NMI, in a panic, and while
//! another CPU logs. Where waiting could hang, a record is dropped and counted instead.

pub mod record;

#[cfg(target_os = "none")]
mod defmt_logger;
#[cfg(target_os = "none")]
mod owner;
#[cfg(target_os = "none")]
pub mod report;
#[cfg(target_os = "none")]
mod sink;
#[cfg(target_os = "none")]
mod streams;
#[cfg(target_os = "none")]
mod transport;

#[cfg(target_os = "none")]
pub(crate) use streams::announce_kernel;
#[cfg(target_os = "none")]
pub use streams::{KERNEL, Stream, TooManyStreams, forward, register};
#[cfg(target_os = "none")]
pub(crate) use transport::is_mine;
#[cfg(target_os = "none")]
pub use transport::{dropped, has_serial, receive_serial, send_serial};
