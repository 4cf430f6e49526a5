//! The tests, a file for each thing that they are about.

mod memory;
mod runner;
