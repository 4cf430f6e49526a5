//! Reading the fault queue.

use crate::argument::{check_array_writable, check_entry_size, element, write_entry};
use crate::dispatch::Answer;
use crate::vm::Vm;
use crate::{Iommu, PasidAllocator};
use iommu_abi::{Errno, FaultEvent, FaultRead, NO_ID};
use iommu_core::{Backend, Platform, VmHost};

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn fault_read(&self, guest: &mut Vm, ask: &mut FaultRead) -> Answer {
        if ask.queue_id != NO_ID {
            guest.objects.queue(ask.queue_id)?;
        }
        let queue = ask.queue_id;
        check_entry_size::<FaultEvent>(ask.entry_size)?;
        let inbox = &self.slot(guest.id).ok_or(Errno::EIO)?.inbox;
        let memory = &*guest.memory;
        let waiting = inbox
            .lock(&self.platform)
            .queue(queue)
            .map_or(0, |events| events.len());
        let count = ask.capacity.min(u32::try_from(waiting).unwrap_or(u32::MAX));
        check_array_writable(memory, ask.buffer, ask.entry_size, count)?;
        // Events stay on the queue until all have been written. Only this guest's calls
        // take them off, and those take turns, so they are still the same ones.
        for index in 0..count {
            let event = inbox
                .lock(&self.platform)
                .queue(queue)
                .and_then(|events| events.peek(index as usize))
                .ok_or(Errno::EIO)?;
            let at = element(ask.buffer, ask.entry_size, index)?;
            write_entry(memory, at, ask.entry_size, &event)?;
        }
        let mut inbox = inbox.lock(&self.platform);
        let events = inbox.queue(queue).ok_or(Errno::EIO)?;
        events.drop_oldest(count as usize);
        ask.count = count;
        ask.lost = events.take_lost();
        ask.remaining = u32::try_from(events.len()).unwrap_or(u32::MAX);
        Ok(count.into())
    }
}
