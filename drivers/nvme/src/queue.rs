//! A pair of queues in memory that driver and controller share.

use crate::controller::NvmeError;
use crate::spec::{Command0, Completion1};
use core::sync::atomic::{AtomicU64, Ordering, fence};
use iommu_core::Iova;

/// Entries of each queue.
pub(crate) const ENTRIES: u16 = 16;
/// Words of a command and of a completion.
pub(crate) const COMMAND_WORDS: usize = 8;
pub(crate) const COMPLETION_WORDS: usize = 2;

/// A page that the controller reaches at an address.
#[derive(Clone, Copy, Debug)]
pub struct Region<'m> {
    /// Its words.
    pub cells: &'m [AtomicU64],
    /// Where the controller finds it.
    pub iova: Iova,
}

/// Submission queue, completion queue, and where they stand.
pub(crate) struct Pair<'m> {
    pub(crate) number: u16,
    submission: Region<'m>,
    completion: Region<'m>,
    tail: u16,
    head: u16,
    phase: bool,
    next_id: u16,
}

impl<'m> Pair<'m> {
    pub(crate) fn new(number: u16, submission: Region<'m>, completion: Region<'m>) -> Self {
        Self {
            number,
            submission,
            completion,
            tail: 0,
            head: 0,
            phase: true,
            next_id: 1,
        }
    }

    pub(crate) fn submission_at(&self) -> Iova {
        self.submission.iova
    }

    pub(crate) fn completion_at(&self) -> Iova {
        self.completion.iova
    }

    /// Writes a command; returns its identifier and the tail for the doorbell. One command is
    /// under way at a time, so there is always room.
    pub(crate) fn submit(&mut self, mut command: [u64; COMMAND_WORDS]) -> (u16, u16) {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(1);
        let [first, ..] = &mut command;
        *first = Command0::from_bits(*first).with_cid(id).into_bits();
        let first = usize::from(self.tail).saturating_mul(COMMAND_WORDS);
        let cells = self.submission.cells.iter().skip(first);
        for (cell, word) in cells.zip(command) {
            cell.store(word, Ordering::Relaxed);
        }
        // The command is in memory before the doorbell rings.
        fence(Ordering::SeqCst);
        self.tail = next(self.tail);
        (id, self.tail)
    }

    /// The next completion, if it is there: its status, with the head for the doorbell.
    pub(crate) fn completed(&mut self, id: u16) -> Option<Result<u16, NvmeError>> {
        let word = usize::from(self.head)
            .saturating_mul(COMPLETION_WORDS)
            .saturating_add(1);
        let cell = self.completion.cells.get(word)?;
        let completion = Completion1::from_bits(cell.load(Ordering::Acquire));
        if completion.phase() != self.phase {
            return None;
        }
        self.head = next(self.head);
        if self.head == 0 {
            self.phase = !self.phase;
        }
        Some(if completion.cid() != id {
            Err(NvmeError::WrongCompletion {
                wanted: id,
                found: completion.cid(),
            })
        } else if completion.status() != 0 {
            Err(NvmeError::Refused(completion.status()))
        } else {
            Ok(self.head)
        })
    }

    pub(crate) fn head(&self) -> u16 {
        self.head
    }
}

fn next(index: u16) -> u16 {
    let next = index.wrapping_add(1);
    if next >= ENTRIES { 0 } else { next }
}
