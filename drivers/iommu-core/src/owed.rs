//! An invalidation that is owed, as a value.
//!
//! Taking a translation away has two halves: the table changes, and then hardware must be
//! told. [`Owed`] is the second half. It holds what must not be reused before: frames of
//! table memory, and whatever ids its back-end counts. Owed things are collected in a
//! [`Batch`] and settled together by [`Backend::commit`](crate::Backend::commit): one
//! doorbell and one wait for each unit.
//!
//! Rust has no linear types, so an `Owed` can be dropped. Nothing is lost then, and nothing
//! is reused: its content moves to the back-end's [`Quarantine`], which counts it.

use crate::{DeviceId, FrameList, Nanoseconds};
use alloc::vec::Vec;
use core::fmt;
use core::mem;

/// Where debts go that nobody settled.
pub trait Quarantine<D> {
    /// Keeps the debt and the frames, for ever or until a flush that covers everything.
    fn park(&self, debt: D, frames: FrameList);
}

/// An invalidation owed to hardware.
#[must_use = "hardware may still use what was taken away: add this to a batch and commit it"]
pub struct Owed<'q, D> {
    /// `None` once the content has moved on.
    content: Option<(D, FrameList)>,
    quarantine: &'q dyn Quarantine<D>,
}

impl<'q, D> Owed<'q, D> {
    /// For back-ends: a debt, and the frames that may be released once it is settled.
    pub fn new(debt: D, frames: FrameList, quarantine: &'q dyn Quarantine<D>) -> Self {
        Self {
            content: Some((debt, frames)),
            quarantine,
        }
    }

    /// What is owed.
    pub fn debt(&self) -> Option<&D> {
        self.content.as_ref().map(|(debt, _)| debt)
    }

    /// Adds frames that must not be reused before the debt is settled.
    pub fn hold(&mut self, frames: FrameList) {
        if let Some((_, held)) = &mut self.content {
            held.append(frames);
        }
    }

    fn take(mut self) -> Option<(D, FrameList)> {
        self.content.take()
    }
}

impl<D> Drop for Owed<'_, D> {
    fn drop(&mut self) {
        if let Some((debt, frames)) = self.content.take() {
            self.quarantine.park(debt, frames);
        }
    }
}

impl<D: fmt::Debug> fmt::Debug for Owed<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Owed").field(&self.content).finish()
    }
}

/// Debts that are settled together.
#[must_use = "what a batch holds is owed to hardware: commit it"]
pub struct Batch<'q, D> {
    debts: Vec<D>,
    frames: FrameList,
    quarantine: Option<&'q dyn Quarantine<D>>,
}

/// A batch has no room for another debt; commit it first. The debt comes back.
#[derive(Debug)]
pub struct BatchFull<'q, D>(pub Owed<'q, D>);

impl<'q, D> Batch<'q, D> {
    /// A batch with room for `debts` debts, or `None` if there is no memory for it.
    pub fn with_capacity(debts: usize) -> Option<Self> {
        let mut room = Vec::new();
        room.try_reserve_exact(debts).ok()?;
        Some(Self {
            debts: room,
            frames: FrameList::new(),
            quarantine: None,
        })
    }

    /// Takes a debt over.
    pub fn add(&mut self, owed: Owed<'q, D>) -> Result<(), BatchFull<'q, D>> {
        if self.debts.len() == self.debts.capacity() {
            return Err(BatchFull(owed));
        }
        self.quarantine = Some(owed.quarantine);
        if let Some((debt, frames)) = owed.take() {
            // There is room, so this does not allocate.
            self.debts.push(debt);
            self.frames.append(frames);
        }
        Ok(())
    }

    /// Adds frames that must not be reused before the batch is committed.
    pub fn hold(&mut self, frames: FrameList) {
        self.frames.append(frames);
    }

    /// The debts, for the back-end to merge and to settle.
    pub fn debts(&self) -> &[D] {
        &self.debts
    }

    /// The debts, for the back-end to sort and to merge in place.
    pub fn debts_mut(&mut self) -> &mut Vec<D> {
        &mut self.debts
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.debts.is_empty()
    }

    /// Room for how many debts is left.
    pub fn room(&self) -> usize {
        self.debts.capacity().saturating_sub(self.debts.len())
    }

    /// For back-ends: hardware has confirmed everything. The frames are free; the list of
    /// debts is empty and keeps its room, so the batch can be used again.
    pub fn settle(&mut self) -> FrameList {
        self.debts.clear();
        mem::take(&mut self.frames)
    }
}

impl<D> Drop for Batch<'_, D> {
    fn drop(&mut self) {
        let Some(quarantine) = self.quarantine else {
            return;
        };
        // The frames go with the first debt: all are kept, whichever it is.
        let mut frames = mem::take(&mut self.frames);
        for debt in self.debts.drain(..) {
            quarantine.park(debt, mem::take(&mut frames));
        }
    }
}

/// What a commit did.
#[must_use = "the frames in here are free now: release them"]
#[derive(Debug, Default)]
pub struct Flushed {
    /// Frames that hardware has forgotten. Give them back to their platform.
    pub frames: FrameList,
    /// Invalidation descriptors sent, waits included.
    pub descriptors: u32,
    /// Writes to queue tails.
    pub doorbells: u32,
    /// Waits for completion.
    pub waits: u32,
}

/// Why hardware did not confirm. What was owed is in quarantine, and whoever cannot be
/// flushed has been cut off where the back-end could do so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum FlushError {
    /// A unit did not complete a wait in time.
    UnitTimedOut {
        /// The unit, by the driver's numbering.
        unit: u16,
        /// How long was waited.
        waited: Nanoseconds,
    },
    /// A device did not answer the invalidation of its own cache (ITE). It was isolated.
    DeviceTimedOut(DeviceId),
    /// The unit refused a descriptor (IQE), which is a bug of the driver.
    DescriptorRefused {
        /// The unit, by the driver's numbering.
        unit: u16,
        /// IQERCD.IQEI.
        code: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::RefCell;

    #[derive(Default)]
    struct Shelf(RefCell<Vec<u32>>);

    impl Quarantine<u32> for Shelf {
        fn park(&self, debt: u32, frames: FrameList) {
            assert!(frames.is_empty());
            self.0.borrow_mut().push(debt);
        }
    }

    #[test]
    fn a_dropped_debt_is_parked() {
        let shelf = Shelf::default();
        drop(Owed::new(7, FrameList::new(), &shelf));
        assert_eq!(*shelf.0.borrow(), [7]);
    }

    #[test]
    fn a_settled_debt_is_not_parked() {
        let shelf = Shelf::default();
        let mut batch = Batch::with_capacity(2).unwrap();
        batch.add(Owed::new(7, FrameList::new(), &shelf)).unwrap();
        assert!(batch.settle().is_empty());
        drop(batch);
        assert!(shelf.0.borrow().is_empty());
    }

    #[test]
    fn a_dropped_batch_parks_all_that_it_holds() {
        let shelf = Shelf::default();
        let mut batch = Batch::with_capacity(2).unwrap();
        batch.add(Owed::new(7, FrameList::new(), &shelf)).unwrap();
        batch.add(Owed::new(8, FrameList::new(), &shelf)).unwrap();
        drop(batch);
        assert_eq!(*shelf.0.borrow(), [7, 8]);
    }

    #[test]
    fn a_full_batch_gives_the_debt_back() {
        let shelf = Shelf::default();
        let mut batch = Batch::with_capacity(1).unwrap();
        batch.add(Owed::new(7, FrameList::new(), &shelf)).unwrap();
        let BatchFull(refused) = batch
            .add(Owed::new(8, FrameList::new(), &shelf))
            .unwrap_err();
        assert_eq!(refused.debt(), Some(&8));
        assert!(batch.settle().is_empty());
        drop(refused);
        assert_eq!(*shelf.0.borrow(), [8]);
    }
}
