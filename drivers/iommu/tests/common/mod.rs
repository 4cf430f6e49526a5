//! A machine for tests: hardware that remembers everything, a guest whose memory is
//! scattered at random, and an oracle that walks the guest's tables on its own.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(
    unreachable_pub,
    reason = "shared by test programs, each a crate of its own"
)]

pub mod hardware;
pub mod machine;
pub mod memory;
pub mod oracle;
pub mod ring;
pub mod tables;

#[allow(unused_imports, reason = "each test uses a part")]
pub use machine::{Bench, Machine, Setup};
