//! Acts that abort QEMU: a class of its own. Each is done on a QEMU that is started for it,
//! and must end as is known of the version.

use std::fmt;
use std::path::Path;

use anyhow::Result;

use crate::bench::{Emulator, Rig};
use crate::campaign::write_rom;
use crate::case::Descriptor;
use crate::qtest::Board;

/// SIGABRT: an assertion of QEMU's.
const ABORTED: i32 = 6;

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// A write of eight bytes to a register.
    Write64 { register: u64 },
    /// A descriptor.
    Queue(Descriptor),
}

/// An act and how it ends.
struct Known {
    name: &'static str,
    act: Act,
    aborts: fn(&Emulator) -> bool,
}

const KNOWN: &[Known] = &[
    Known {
        name: "8 bytes to FECTL",
        act: Act::Write64 { register: 0x38 },
        aborts: |emulator| !emulator.is_recent,
    },
    Known {
        name: "8 bytes to IECTL",
        act: Act::Write64 { register: 0xa0 },
        aborts: |emulator| !emulator.is_recent,
    },
    Known {
        name: "8 bytes to IEADDR",
        act: Act::Write64 { register: 0xa8 },
        aborts: |emulator| !emulator.is_recent,
    },
    Known {
        name: "8 bytes to FEADDR",
        act: Act::Write64 { register: 0x40 },
        aborts: |_| false,
    },
    Known {
        name: "wait with SW and IF",
        act: Act::Queue([0x1_0000_0035, crate::bench::STATUS, 0, 0]),
        aborts: |_| false,
    },
];

/// How an act ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// What was done.
    pub name: &'static str,
    /// QEMU was to abort.
    pub expected: bool,
    /// What it did.
    pub aborted: bool,
}

impl Ended {
    /// Whether it ended as is known.
    pub fn is_good(&self) -> bool {
        self.expected == self.aborted
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |aborts| if aborts { "abort" } else { "go on" };
        write!(f, "{}: {}", self.name, word(self.aborted))?;
        if !self.is_good() {
            write!(f, ", expected to {}", word(self.expected))?;
        }
        Ok(())
    }
}

/// Does all of them.
///
/// # Errors
/// QEMU does not start.
pub fn provoke(emulator: &Emulator, home: &Path) -> Result<Vec<Ended>> {
    let rom = write_rom(home)?;
    KNOWN
        .iter()
        .map(|known| {
            let rig = Rig::Legacy { bits: 48 };
            let mut board = Board::start(emulator, rig, &rom, &home.join("aborts"))?;
            let aborted = match board.act(&known.act) {
                Ok(()) => false,
                Err(dead) => dead.signal == Some(ABORTED),
            };
            Ok(Ended {
                name: known.name,
                expected: (known.aborts)(emulator),
                aborted,
            })
        })
        .collect()
}
