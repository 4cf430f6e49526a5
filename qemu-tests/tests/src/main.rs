//! The boot-test kernel. One boot runs one test, which the command line names
//! (`test=NAME`); `cargo xtask test` boots it once for each test and machine.
//!
//! How a test is written: `docs/testing.md`.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod bench;
#[cfg(target_os = "none")]
mod check;
#[cfg(target_os = "none")]
mod harness;
#[cfg(target_os = "none")]
mod registry;
#[cfg(target_os = "none")]
mod tests;

/// On a host there is nothing to boot.
#[cfg(not(target_os = "none"))]
fn main() {}
