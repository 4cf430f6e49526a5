//! PCI over memory-mapped configuration space (ECAM).

mod ecam;

pub use ecam::{Ecam, EcamError};
