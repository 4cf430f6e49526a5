//! The program's free pages, in no order.

use crate::{Machine, Trouble};
use arrayvec::ArrayVec;
use iommu_core::{Gpa, PAGE_SHIFT, PAGE_SIZE};

/// As many free pages as the program uses at most.
const MOST: usize = 1024;

/// Free pages of the guest, handed out in an order that is shuffled anew in each run: what
/// lies side by side in one address space lies apart in the next.
#[derive(Debug)]
pub struct Pages {
    free: ArrayVec<u32, MOST>,
}

impl Pages {
    /// The pages that are free when the program starts.
    pub fn new(machine: &dyn Machine, random: &mut fastrand::Rng) -> Self {
        let start = machine.start();
        let first = start.free_from.div_ceil(PAGE_SIZE);
        let beyond = start.memory_end() >> PAGE_SHIFT;
        let mut free: ArrayVec<u32, MOST> = (first..beyond)
            .filter_map(|number| u32::try_from(number).ok())
            .take(MOST)
            .collect();
        random.shuffle(&mut free);
        Self { free }
    }

    /// A page full of zeroes.
    pub fn take(&mut self, machine: &dyn Machine) -> Result<Gpa, Trouble> {
        let number = self.free.pop().ok_or(Trouble::OutOfPages)?;
        let page = Gpa::new(u64::from(number) << PAGE_SHIFT);
        machine.write(page, &[0; PAGE_SIZE as usize])?;
        Ok(page)
    }

    /// Gives a page back.
    pub fn give(&mut self, page: Gpa) {
        if let Ok(number) = u32::try_from(page.as_u64() >> PAGE_SHIFT) {
            // It came from here, so there is room.
            let _ = self.free.try_push(number);
        }
    }
}
