//! Fuzz targets: one function for each kind of bytes that somebody else writes.
//!
//! A target takes any bytes and returns, or panics because something that must hold does
//! not. The functions are plain host code on stable Rust. `cargo xtask fuzz NAME` runs one
//! under libFuzzer (`src/bin/fuzz.rs`); `cargo test` replays the corpora that were found
//! that way (`corpus/NAME`, `tests/corpus.rs`), and a crash that was mended stays there.
//!
//! | target | whose bytes | what must hold |
//! |---|---|---|
//! | `dmar` | firmware's | every reader of a DMAR table returns |
//! | `guest-tables` | a guest's page tables | containment at every step; after invalidations devices see the guest's walk followed by its memory map |
//! | `hypercalls` | a guest's calls and the memory they point to | containment; a refused call changes nothing; nothing is left over at the end |
//! | `hardware` | what a unit's registers, queues and records say, at take-over and at work | every wait ends, every failure is an error with a name |
//! | `model` | what a driver under test writes | the hardware model never panics |
//!
//! Inputs are programs: a few bytes choose the machine, then each step is an opcode and its
//! operands ([`Bytes`]). An input that ends early is a shorter program.

mod bytes;
mod dmar;
mod guest_tables;
mod hardware;
mod hypercalls;
mod model;

/// The machine of `iommu`'s own tests: hardware that remembers everything, a guest whose
/// memory is scattered, and an oracle.
#[path = "../../../drivers/iommu/tests/common/mod.rs"]
mod common;

pub use bytes::Bytes;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also that of its corpus.
    pub name: &'static str,
    /// Does it all.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 5] = [
    Target {
        name: "dmar",
        run: dmar::run,
    },
    Target {
        name: "guest-tables",
        run: guest_tables::run,
    },
    Target {
        name: "hypercalls",
        run: hypercalls::run,
    },
    Target {
        name: "hardware",
        run: hardware::run,
    },
    Target {
        name: "model",
        run: model::run,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
