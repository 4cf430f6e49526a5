//! Page requests (§7.4): devices that ask for a page instead of failing.
//!
//! The queue is written by hardware and read by whoever asks for the requests; the answers
//! go through the invalidation queue.

mod descriptor;
mod drain;

pub use descriptor::{PageRequest0, PageRequest1, parse};
pub(crate) use drain::PageRequestQueue;
