//! What the guest has learnt: handles that may be good.

use arrayvec::ArrayVec;
use guest_machine::Random;

/// Handles of one kind that are remembered.
const MOST: usize = 8;

/// Numbers that the hypervisor gave out. The oldest are forgotten.
#[derive(Clone, Default, Debug)]
pub(crate) struct Handles(ArrayVec<u32, MOST>);

impl Handles {
    pub(crate) fn learn(&mut self, handle: u32) {
        if self.0.is_full() {
            self.0.remove(0);
        }
        // There is room now.
        let _ = self.0.try_push(handle);
    }

    pub(crate) fn forget(&mut self, handle: u32) {
        self.0.retain(|known| *known != handle);
    }

    /// One of them; a number of no meaning if there is none.
    pub(crate) fn any(&self, random: &mut Random) -> u32 {
        random
            .choice(self.0.iter().copied())
            .unwrap_or_else(|| random.u32(..16))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.is_full()
    }
}

/// All that it has learnt.
#[derive(Clone, Default, Debug)]
pub(crate) struct Belief {
    pub(crate) devices: Handles,
    /// Address spaces whose tables are the guest's.
    pub(crate) tables: Handles,
    /// Address spaces that the hypervisor keeps.
    pub(crate) managed: Handles,
    pub(crate) pasids: Handles,
}

impl Belief {
    /// An address space of either kind.
    pub(crate) fn space(&self, random: &mut Random) -> u32 {
        match random.bool() {
            true => self.tables.any(random),
            false => self.managed.any(random),
        }
    }
}
