//! A ring of operations, in two pages of the guest's.

use crate::{Calls, Pages, Trouble, iommu};
use iommu_abi::{
    Destroy, Granularity, Invalidate, InvalidateModel, InvalidateRange, Op, RingCompletion,
    RingCreate, RingEnter, RingSubmission,
};
use iommu_core::{Gpa, Gva};
use zerocopy::{FromZeros, IntoBytes};

/// Bytes from the start of the ring's page.
const SUBMISSIONS: u64 = 64;
const COMPLETIONS: u64 = SUBMISSIONS + 32 * Ring::ENTRIES as u64;
/// Bytes for an argument, and where an array of it begins.
const ARGUMENT: u64 = 128;
const ARRAY: u64 = 64;

/// A ring, and a page for the arguments of its operations.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    id: u32,
    ring: Gpa,
    arguments: Gpa,
    tail: u32,
}

impl Ring {
    /// Operations that it has room for.
    pub const ENTRIES: u32 = 32;

    /// Makes one in two fresh pages.
    pub fn new(calls: &Calls, pages: &mut Pages) -> Result<Self, Trouble> {
        let machine = calls.machine();
        let (ring, arguments) = (pages.take(machine)?, pages.take(machine)?);
        let mut create = RingCreate {
            indices: ring.as_u64(),
            submissions: at(ring, SUBMISSIONS).as_u64(),
            completions: at(ring, COMPLETIONS).as_u64(),
            entries: Self::ENTRIES,
            // Their indices wrap soon.
            first: u32::MAX - 3,
            ..RingCreate::new()
        };
        iommu::call(calls, &mut create)?;
        Ok(Self {
            id: create.ring_id,
            ring,
            arguments,
            tail: create.first,
        })
    }

    /// Submits that a page of a table changed. Nothing happens yet.
    pub fn submit(&mut self, calls: &Calls, space: u32, page: Gva) -> Result<(), Trouble> {
        let machine = calls.machine();
        let place = u64::from(self.tail % Self::ENTRIES);
        let argument = at(self.arguments, ARGUMENT.saturating_mul(place));
        let invalidate = Invalidate {
            ioas_id: space,
            granularity: Granularity::Ranges.as_u32(),
            entries: at(argument, ARRAY).as_u64(),
            entry_size: size_of::<InvalidateRange>() as u32,
            entry_count: 1,
            model: InvalidateModel::Range.as_u32(),
            ..Invalidate::new()
        };
        let range = InvalidateRange {
            address: page.as_u64(),
            pages: 1,
            flags: 0,
            reserved: 0,
        };
        let submission = RingSubmission {
            operation: Op::Invalidate.as_u32(),
            flags: 0,
            argument: argument.as_u64(),
            user_data: place,
            reserved: 0,
        };
        let element = SUBMISSIONS.saturating_add(place.saturating_mul(32));
        machine.write(argument, invalidate.as_bytes())?;
        machine.write(at(argument, ARRAY), range.as_bytes())?;
        machine.write(at(self.ring, element), submission.as_bytes())?;
        self.tail = self.tail.wrapping_add(1);
        Ok(machine.store(self.ring, self.tail.into())?)
    }

    /// Has all that was submitted done, by one call, and says how many operations that were.
    /// Each must have done its one page.
    pub fn enter(&self, calls: &Calls) -> Result<u64, Trouble> {
        let machine = calls.machine();
        let mut enter = RingEnter {
            ring_id: self.id,
            ..RingEnter::new()
        };
        let done = iommu::call(calls, &mut enter)?;
        Trouble::unless_equal("operations that wait still", 0, enter.remaining.into())?;
        let mut index = self.tail.wrapping_sub(enter.completed);
        while index != self.tail {
            let place = u64::from(index % Self::ENTRIES);
            let mut completion = RingCompletion::new_zeroed();
            let element = COMPLETIONS.saturating_add(place.saturating_mul(16));
            machine.read(at(self.ring, element), completion.as_mut_bytes())?;
            Trouble::unless_equal("whose completion it is", place, completion.user_data)?;
            Trouble::unless_equal("pages that were done", 1, completion.result as u64)?;
            index = index.wrapping_add(1);
        }
        machine.store(at(self.ring, 8), self.tail.into())?;
        Ok(done)
    }

    /// Gives it up.
    pub fn destroy(self, calls: &Calls) -> Result<(), Trouble> {
        let mut destroy = Destroy {
            id: self.id,
            ..Destroy::new()
        };
        iommu::call(calls, &mut destroy).map(drop)
    }
}

fn at(page: Gpa, offset: u64) -> Gpa {
    Gpa::new(page.as_u64().saturating_add(offset))
}
