//! Tests that run on the host: found by cargo's metadata, built by cargo, run here, so that
//! it is known of which crate and of which of its test programs each of them is.
//!
//! A test is called `PACKAGE::PATH` if it stands in a crate's sources, and
//! `PACKAGE::TARGET::PATH` if it stands in `tests/TARGET`.

mod libtest;
mod program;
mod target;
mod whole;

pub(crate) use program::{Ending, build};
pub(crate) use target::{TestTarget, TestTargets};
pub(crate) use whole::{HostTests, run};
