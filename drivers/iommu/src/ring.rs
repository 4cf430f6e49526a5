//! A ring of operations, as its guest and the hypervisor see it.
//!
//! The guest is hostile and writes whenever it likes. What is read of the ring is read
//! once; the hypervisor's own index is kept here and never read back. Every submission has
//! one completion, so one index is both: the first submission that is not done, and the
//! end of the completions.

use crate::argument::{check_array_writable, write_entry};
use crate::error::of_memory;
use core::sync::atomic::{Ordering, fence};
use iommu_abi::{Errno, IntoBytes as _, Layout, RingCompletion, RingIndices, RingSubmission};
use iommu_core::{Address, Gpa, GuestMemory};

/// Bytes from the start of [`RingIndices`].
const SUBMISSION_TAIL: u64 = 0;
const COMPLETION_HEAD: u64 = 8;
const SUBMISSION_HEAD: u64 = 16;
const COMPLETION_TAIL: u64 = 24;
const STATE: u64 = 32;

/// A ring of operations. Its memory is the guest's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    pub(crate) indices: Gpa,
    pub(crate) submissions: Gpa,
    pub(crate) completions: Gpa,
    /// A power of two.
    pub(crate) entries: u32,
    /// The first submission that is not done, and behind the last completion.
    pub(crate) next: u32,
    /// Operations of it are being done.
    pub(crate) busy: bool,
    /// The hypervisor looks at it by itself, and its guest knows.
    pub(crate) polled: bool,
}

/// What waits in a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pending {
    /// Submissions that are not done.
    pub(crate) submitted: u32,
    /// Those for whose completions there is room.
    pub(crate) possible: u32,
}

impl Ring {
    /// Reads what the guest says, once. `EINVAL` if it cannot be.
    pub(crate) fn pending(&self, memory: &dyn GuestMemory) -> Result<Pending, Errno> {
        let submitted = self.distance(self.index(memory, SUBMISSION_TAIL)?, self.next)?;
        let unread = self.distance(self.next, self.index(memory, COMPLETION_HEAD)?)?;
        Ok(Pending {
            submitted,
            possible: submitted.min(self.entries.saturating_sub(unread)),
        })
    }

    fn index(&self, memory: &dyn GuestMemory, offset: u64) -> Result<u32, Errno> {
        let at = self.indices.checked_add(offset).ok_or(Errno::EFAULT)?;
        let word = memory.read_once(at).map_err(of_memory)?;
        u32::try_from(word).map_err(|_| Errno::EINVAL)
    }

    /// Entries from `first` up to `end`: no more than there are.
    fn distance(&self, end: u32, first: u32) -> Result<u32, Errno> {
        let entries = end.wrapping_sub(first);
        if entries > self.entries {
            return Err(Errno::EINVAL);
        }
        Ok(entries)
    }

    /// Reads the next submission. It is not read again.
    pub(crate) fn submission(&self, memory: &dyn GuestMemory) -> Result<RingSubmission, Errno> {
        let at = self.element::<RingSubmission>(self.submissions)?;
        let mut submission = RingSubmission::default();
        let bytes = submission.as_mut_bytes();
        memory.copy_in(at, bytes).map_err(of_memory)?;
        Ok(submission)
    }

    /// Refuses a next completion that could not be written.
    pub(crate) fn check_completion(&self, memory: &dyn GuestMemory) -> Result<(), Errno> {
        let at = self.element::<RingCompletion>(self.completions)?;
        check_array_writable(memory, at.as_u64(), size::<RingCompletion>(), 1)
    }

    /// Writes the next completion, and is one further whether or not that was possible: what
    /// was done is not done again.
    pub(crate) fn complete(
        &mut self,
        memory: &dyn GuestMemory,
        user_data: u64,
        result: i64,
    ) -> Result<(), Errno> {
        let at = self.element::<RingCompletion>(self.completions)?;
        self.next = self.next.wrapping_add(1);
        let completion = RingCompletion { user_data, result };
        write_entry(memory, at, size::<RingCompletion>(), &completion)
    }

    /// Tells the guest how far the ring is.
    pub(crate) fn publish(&self, memory: &dyn GuestMemory) -> Result<(), Errno> {
        // Who sees the indices sees the completions before them.
        fence(Ordering::Release);
        self.store(memory, COMPLETION_TAIL, self.next.into())?;
        self.store(memory, SUBMISSION_HEAD, self.next.into())
    }

    /// Tells the guest whether the ring is polled. Submissions that are not seen afterwards
    /// were made by a guest that knew.
    pub(crate) fn publish_state(&self, memory: &dyn GuestMemory) -> Result<(), Errno> {
        let state = if self.polled { RingIndices::POLLED } else { 0 };
        self.store(memory, STATE, state)?;
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Writes all indices, as they are in the beginning.
    pub(crate) fn begin(&self, memory: &dyn GuestMemory) -> Result<(), Errno> {
        check_array_writable(memory, self.indices.as_u64(), size::<RingIndices>(), 1)?;
        self.store(memory, SUBMISSION_TAIL, self.next.into())?;
        self.store(memory, COMPLETION_HEAD, self.next.into())?;
        self.publish(memory)?;
        self.publish_state(memory)
    }

    fn store(&self, memory: &dyn GuestMemory, offset: u64, word: u64) -> Result<(), Errno> {
        let at = self.indices.checked_add(offset).ok_or(Errno::EFAULT)?;
        memory.copy_out(at, &word.to_le_bytes()).map_err(of_memory)
    }

    fn element<T: Layout>(&self, array: Gpa) -> Result<Gpa, Errno> {
        let place = self.next & self.entries.saturating_sub(1);
        crate::argument::element(array.as_u64(), size::<T>(), place)
    }
}

/// At most `ARGUMENT_MAX`.
const fn size<T: Layout>() -> u32 {
    T::SIZE as u32
}
