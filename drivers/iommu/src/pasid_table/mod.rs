//! PASID tables of guests' own.
//!
//! A guest keeps a PASID directory and tables in its memory, as VT-d lays them out, and
//! tells of every change. No unit ever reads them: each entry is read once, checked, and
//! becomes a binding like those that guests ask for one by one, nested or shadowed. So a
//! guest's table that loops, points outside its memory or changes while it is read costs
//! what it has PASIDs bound, and reaches what its bindings reach.

mod entry;
mod look;

pub(crate) use look::Looked;

use alloc::vec::Vec;
use iommu_core::Gpa;

/// A PASID table that a device uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PasidTable {
    pub(crate) device_id: u32,
    pub(crate) directory: Gpa,
    /// PASIDs that the directory holds.
    pub(crate) pasids: u32,
    /// The guest answers page requests.
    pub(crate) page_requests: bool,
}

/// The PASID tables of a guest, one a device.
#[derive(Debug)]
pub(crate) struct PasidTables(Vec<PasidTable>);

impl PasidTables {
    /// Room for so many; `None` without memory.
    pub(crate) fn new(devices: usize) -> Option<Self> {
        let mut room = Vec::new();
        room.try_reserve_exact(devices).ok()?;
        Some(Self(room))
    }

    pub(crate) fn of(&self, device_id: u32) -> Option<&PasidTable> {
        self.0.iter().find(|table| table.device_id == device_id)
    }

    /// Notes a table; `false` if there is no room.
    pub(crate) fn insert(&mut self, table: PasidTable) -> bool {
        let room = self.0.len() < self.0.capacity();
        if room {
            self.0.push(table);
        }
        room
    }

    pub(crate) fn remove(&mut self, device_id: u32) {
        self.0.retain(|table| table.device_id != device_id);
    }
}
