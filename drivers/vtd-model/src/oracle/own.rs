//! Ownership of frames and of devices.

use std::collections::BTreeMap;

/// Who a frame or a device belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Owner {
    /// Nobody: free memory. No device may reach it.
    Nobody,
    /// The driver or hypervisor itself: no guest's device may reach it; its own devices may.
    Host,
    /// A guest, or any other party, by number.
    Guest(u32),
}

/// Intervals of memory by owner, and owners of devices.
#[derive(Default)]
pub(crate) struct Ownership {
    /// First address to last address and owner; intervals do not overlap.
    memory: BTreeMap<u64, (u64, Owner)>,
    devices: BTreeMap<(u16, Option<u32>), Owner>,
}

impl Ownership {
    pub(crate) fn is_used(&self) -> bool {
        !self.devices.is_empty()
    }

    /// Gives `first..=last` to an owner.
    pub(crate) fn own(&mut self, first: u64, last: u64, owner: Owner) {
        let touched: Vec<(u64, (u64, Owner))> = self
            .memory
            .range(..=last)
            .rev()
            .take_while(|(_, (end, _))| *end >= first)
            .map(|(start, value)| (*start, *value))
            .collect();
        for (start, (end, old)) in touched {
            self.memory.remove(&start);
            if start < first {
                self.memory.insert(start, (first - 1, old));
            }
            if end > last {
                self.memory.insert(last + 1, (end, old));
            }
        }
        self.memory.insert(first, (last, owner));
    }

    /// The first address in `first..=last` that somebody else than `owners` owns, and who.
    /// Memory that was never given to anybody is not judged.
    pub(crate) fn foreign(&self, first: u64, last: u64, owners: &[Owner]) -> Option<(u64, Owner)> {
        let from = self
            .memory
            .range(..=first)
            .next_back()
            .map_or(first, |(start, _)| *start);
        self.memory
            .range(from..=last)
            .filter(|(_, (end, other))| *end >= first && !owners.contains(other))
            .map(|(start, (_, other))| ((*start).max(first), *other))
            .next()
    }

    pub(crate) fn assign(&mut self, source: u16, pasid: Option<u32>, owner: Owner) {
        self.devices.insert((source, pasid), owner);
    }

    /// Everybody that a device acts for, with any PASID or none.
    pub(crate) fn owners(&self, source: u16) -> Vec<Owner> {
        self.devices
            .range((source, None)..=(source, Some(u32::MAX)))
            .map(|(_, owner)| *owner)
            .collect()
    }

    /// Who a device's request acts for: the owner of the PASID, else of the device.
    pub(crate) fn owner(&self, source: u16, pasid: Option<u32>) -> Option<Owner> {
        self.devices
            .get(&(source, pasid))
            .or_else(|| self.devices.get(&(source, None)))
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_cut_where_a_new_owner_takes_over() {
        let mut own = Ownership::default();
        own.own(0x1000, 0x8fff, Owner::Guest(1));
        own.own(0x3000, 0x4fff, Owner::Nobody);
        assert_eq!(own.foreign(0x1000, 0x2fff, &[Owner::Guest(1)]), None);
        assert_eq!(
            own.foreign(0x2000, 0x3fff, &[Owner::Guest(1)]),
            Some((0x3000, Owner::Nobody))
        );
        assert_eq!(own.foreign(0x5000, 0x8fff, &[Owner::Guest(1)]), None);
        assert_eq!(
            own.foreign(0x8000, 0x8fff, &[Owner::Guest(2)]),
            Some((0x8000, Owner::Guest(1)))
        );
        assert_eq!(
            own.foreign(0x9000, 0x9fff, &[Owner::Guest(2)]),
            None,
            "never given to anybody"
        );
        own.own(0, 0xffff, Owner::Host);
        assert_eq!(own.foreign(0x3000, 0x3fff, &[Owner::Host]), None);
    }

    #[test]
    fn a_pasid_may_have_an_owner_of_its_own() {
        let mut own = Ownership::default();
        own.assign(8, None, Owner::Guest(1));
        own.assign(8, Some(5), Owner::Guest(2));
        assert_eq!(own.owner(8, Some(5)), Some(Owner::Guest(2)));
        assert_eq!(own.owner(8, Some(6)), Some(Owner::Guest(1)));
        assert_eq!(own.owner(9, None), None);
    }
}
