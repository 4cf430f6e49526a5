//! Making a case small that nobody explained.

use std::path::Path;

use anyhow::Result;

use crate::bench::Emulator;
use crate::case::Case;
use crate::qtest::{Board, Dead};
use crate::verdict::{self, Difference};

/// Most attempts at one case.
const ATTEMPTS: u32 = 400;

/// A small case that still differs, and how; the case itself if it agrees when it is alone.
pub(crate) struct Shrunk {
    pub(crate) case: Case,
    pub(crate) difference: Difference,
    /// On a fresh QEMU it agreed: what ran before it mattered.
    pub(crate) alone_it_agrees: bool,
}

/// Leaves out steps and words as long as the case differs.
pub(crate) fn shrink(
    emulator: &Emulator,
    case: &Case,
    difference: &Difference,
    rom: &Path,
    home: &Path,
) -> Result<Shrunk> {
    let mut bench = Bench {
        emulator,
        rom,
        home,
        board: None,
        attempts: 0,
    };
    let Some(mut known) = bench.differs(case)? else {
        return Ok(Shrunk {
            case: case.clone(),
            difference: difference.clone(),
            alone_it_agrees: true,
        });
    };
    let mut best = case.clone();
    loop {
        let mut smaller = None;
        for candidate in candidates(&best) {
            if bench.attempts >= ATTEMPTS {
                break;
            }
            if let Some(difference) = bench.differs(&candidate)? {
                smaller = Some((candidate, difference));
                break;
            }
        }
        match smaller {
            Some((case, difference)) => (best, known) = (case, difference),
            None => break,
        }
    }
    Ok(Shrunk {
        case: best,
        difference: known,
        alone_it_agrees: false,
    })
}

struct Bench<'a> {
    emulator: &'a Emulator,
    rom: &'a Path,
    home: &'a Path,
    board: Option<Board<'a>>,
    attempts: u32,
}

impl Bench<'_> {
    fn differs(&mut self, case: &Case) -> Result<Option<Difference>> {
        self.attempts += 1;
        let mut board = match self.board.take() {
            Some(board) => board,
            None => Board::start(self.emulator, case.rig, self.rom, self.home)?,
        };
        match verdict::compare(self.emulator, &mut board, case) {
            Ok(verdict) => {
                self.board = Some(board);
                Ok(verdict.difference)
            }
            Err(dead) => Ok(Some(died(&dead))),
        }
    }
}

/// A death as a difference.
pub(crate) fn died(dead: &Dead) -> Difference {
    Difference {
        step: 0,
        expected: "an answer".to_owned(),
        seen: dead.to_string(),
    }
}

/// Cases with one thing less.
fn candidates(case: &Case) -> Vec<Case> {
    let steps = (0..case.steps.len()).rev().map(|at| {
        let mut smaller = case.clone();
        smaller.steps.remove(at);
        smaller
    });
    let words = case.memory.keys().map(|at| {
        let mut smaller = case.clone();
        smaller.memory.remove(at);
        smaller
    });
    steps.chain(words).collect()
}
