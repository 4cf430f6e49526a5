//! The driver as an [`IrqRemapper`].

use super::Driver;
use crate::Event;
use crate::irq_remap::{
    DESCRIPTOR_SHIFT, InterruptSource, InterruptTable, PostError, PostedTarget, remappable_message,
};
use crate::queue::{Descriptor, index_blocks};
use crate::tables::above_host_width;
use crate::unit::Unit;
use arrayvec::ArrayVec;
use iommu_core::{
    Address, DeviceId, IrqError, IrqHandle, IrqMessage, IrqRemapper, IrqTarget, Mmio, Observer,
    Platform,
};

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    fn table(&self, handle: &IrqHandle) -> Result<(&Unit<M>, &InterruptTable), IrqError> {
        let unit = self.unit(handle.unit);
        let table = unit.and_then(|unit| Some((unit, unit.interrupts.as_ref()?)));
        table.ok_or(IrqError::NoSuchEntry(0))
    }

    /// The entry `index` of a handle.
    fn entry(handle: &IrqHandle, index: u16) -> Result<u16, IrqError> {
        if index >= handle.count {
            return Err(IrqError::NoSuchEntry(index));
        }
        handle
            .first
            .checked_add(index)
            .ok_or(IrqError::NoSuchEntry(index))
    }

    /// Makes hardware forget entries that were present.
    fn forget(&self, unit: &Unit<M>, first: u16, count: u16) -> Result<(), IrqError> {
        let mut descriptors: ArrayVec<Descriptor, 32> =
            index_blocks(first, count, unit.abilities.ecap.mhmv())
                .into_iter()
                .map(|block| Descriptor::InterruptCache(Some(block)))
                .collect();
        if descriptors.is_empty() {
            descriptors.push(Descriptor::InterruptCache(None));
        }
        unit.invalidate(&self.platform, &descriptors)
            .map_err(|_| IrqError::Flush)
    }

    /// After an entry became present: nothing, but on units that cache absence or hold
    /// stores back.
    fn appeared(&self, unit: &Unit<M>, index: u16) -> Result<(), IrqError> {
        if unit.abilities.caches_absence() {
            return self.forget(unit, index, 1);
        }
        unit.flush_write_buffer(&self.platform)
            .map_err(|_| IrqError::Flush)
    }
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Entries that only this source can use, not present yet. What
    /// [`IrqRemapper::allocate`] does for a function, this does for any source.
    pub fn allocate_interrupts(
        &self,
        source: InterruptSource,
        count: u16,
    ) -> Result<IrqHandle, IrqError> {
        let not_remapped = IrqError::NotRemapped(source.device());
        let unit = self.unit_of(source.device()).ok_or(not_remapped)?;
        let table = unit.interrupts.as_ref().ok_or(not_remapped)?;
        let first = table.allocate(&self.platform, source, count)?;
        Ok(IrqHandle {
            unit: unit.index(),
            first,
            count,
        })
    }
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Makes entry `index` of the handle post to a virtual CPU's descriptor, and returns the
    /// message that raises it. [`IrqRemapper::route`] makes it an ordinary one again.
    pub fn post(
        &self,
        handle: &IrqHandle,
        index: u16,
        target: PostedTarget,
    ) -> Result<IrqMessage, PostError> {
        let (unit, table) = self.table(handle)?;
        let entry = Self::entry(handle, index)?;
        if !unit.abilities.posts_interrupts() {
            return Err(PostError::Unsupported { unit: unit.index() });
        }
        let at = target.descriptor;
        let beyond = at.as_u64() & above_host_width(unit.abilities.host_bits) != 0;
        if beyond || !at.is_aligned(DESCRIPTOR_SHIFT) {
            return Err(PostError::Descriptor(at));
        }
        if table.post(&self.platform, entry, &target)? {
            self.forget(unit, entry, 1)?;
        } else {
            self.appeared(unit, entry)?;
        }
        Ok(remappable_message(handle.first, index))
    }
}

impl<P: Platform + Observer<Event>, M: Mmio, S> IrqRemapper for Driver<P, M, S> {
    fn allocate(&self, source: DeviceId, count: u16) -> Result<IrqHandle, IrqError> {
        self.allocate_interrupts(InterruptSource::Function(source), count)
    }

    fn route(
        &self,
        handle: &IrqHandle,
        index: u16,
        target: IrqTarget,
    ) -> Result<IrqMessage, IrqError> {
        let (unit, table) = self.table(handle)?;
        let entry = Self::entry(handle, index)?;
        if table.route(&self.platform, entry, &target)? {
            self.forget(unit, entry, 1)?;
        } else {
            self.appeared(unit, entry)?;
        }
        Ok(remappable_message(handle.first, index))
    }

    fn mask(&self, handle: &IrqHandle, index: u16) -> Result<(), IrqError> {
        let (unit, table) = self.table(handle)?;
        let entry = Self::entry(handle, index)?;
        if table.mask(&self.platform, entry) {
            self.forget(unit, entry, 1)?;
        }
        Ok(())
    }

    /// On error the entries are blocked, and stay taken for ever.
    fn free(&self, handle: IrqHandle) -> Result<(), IrqError> {
        let (unit, table) = self.table(&handle)?;
        table.clear(&self.platform, handle.first, handle.count);
        self.forget(unit, handle.first, handle.count)?;
        table.give_back(&self.platform, handle.first, handle.count);
        Ok(())
    }
}
