//! The operations.

use crate::call::{call, call_with_ring};
use crate::{
    AddressSpace, Answer, ArgumentMemory, Device, DeviceAbilities, DeviceId, Done, Error, Event,
    EventQueue, Fault, FaultsRead, FlushList, GuestPasid, Hypercall, InterfaceInfo, Ring,
    RingMemory, Round, UserTable,
};
use arrayvec::ArrayVec;
use iommu_abi::*;
use x86_64::structures::paging::PhysFrame;

/// The hypervisor's IOMMU, as this guest may use it.
#[derive(Debug)]
pub struct Iommu<'m, H> {
    pub(crate) hypercall: H,
    pub(crate) memory: ArgumentMemory<'m>,
}

impl<'m, H: Hypercall> Iommu<'m, H> {
    /// Calls by `hypercall`, with arguments in `memory`.
    pub fn new(hypercall: H, memory: ArgumentMemory<'m>) -> Self {
        Self { hypercall, memory }
    }

    /// The argument memory back.
    pub fn into_memory(self) -> ArgumentMemory<'m> {
        self.memory
    }

    pub(crate) fn call<A: Argument>(&mut self, argument: &A) -> Result<A, Error> {
        call(&self.hypercall, &mut self.memory, argument)?.accepted()
    }

    /// Limits and version of the interface.
    pub fn info(&mut self) -> Result<InterfaceInfo, Error> {
        self.call(&Info::new()).map(InterfaceInfo::from)
    }

    /// Whether the hypervisor has an operation, and which flags of it.
    pub fn probe_operation(&mut self, operation: Op) -> Result<Option<u32>, Error> {
        let answer = self.call(&Probe {
            subject: Subject::Operation.as_u32(),
            number: operation.as_u32().into(),
            ..Probe::new()
        })?;
        Ok((answer.supported != 0).then_some(answer.known_flags))
    }

    /// What `device` lacks for `purpose`: empty if it can be used so.
    pub fn missing_for(&mut self, purpose: Use, device: DeviceId) -> Result<Capabilities, Error> {
        let answer = self.call(&Probe {
            subject: Subject::Use.as_u32(),
            number: purpose.as_u32().into(),
            device_id: device.0,
            ..Probe::new()
        })?;
        Ok(Capabilities::from_bits_retain(answer.missing))
    }

    /// Tells all devices of the guest, as far as the argument memory has room, and returns
    /// how many there are.
    pub fn devices(&mut self, mut each: impl FnMut(Device)) -> Result<u32, Error> {
        let capacity = self.memory.room_for::<DeviceEntry>();
        let argument = DeviceList {
            buffer: self.memory.array_address(),
            entry_size: DeviceEntry::SIZE as u32,
            capacity: capacity as u32,
            ..DeviceList::new()
        };
        let answer = call(&self.hypercall, &mut self.memory, &argument)?;
        let count = match answer.result {
            Ok(_) | Err(Errno::EMSGSIZE) => answer.argument.count,
            Err(_) => answer.accepted()?.count,
        };
        for index in 0..capacity.min(count as usize) {
            let entry: Option<DeviceEntry> = self.memory.read_element(index);
            each(entry.ok_or(Error::Nonsense(Op::DeviceList))?.into());
        }
        Ok(count)
    }

    /// What a device can do.
    pub fn device(&mut self, device: DeviceId) -> Result<DeviceAbilities, Error> {
        self.call(&DeviceInfo {
            device_id: device.0,
            ..DeviceInfo::new()
        })
        .map(DeviceAbilities::from)
    }

    /// Makes a page table of the guest's known, for `device` and its like.
    pub fn allocate_user_table(
        &mut self,
        device: DeviceId,
        format: Format,
        root: PhysFrame,
    ) -> Result<UserTable, Error> {
        let answer = self.call(&IoasAllocate {
            flags: IoasAllocate::USER_TABLE,
            format: format.as_u32(),
            user_page_directory: root.start_address().as_u64(),
            device_id: device.0,
            ..IoasAllocate::new()
        })?;
        Ok(UserTable::new(
            answer.ioas_id,
            Capabilities::from_bits_retain(answer.capabilities),
        ))
    }

    /// Makes the device's requests without PASID use the address space.
    pub fn bind(&mut self, device: DeviceId, space: &impl AddressSpace) -> Result<(), Error> {
        self.bind_slot(device, None, space, 0).map(drop)
    }

    /// Makes the device's requests with this PASID use the address space.
    pub fn bind_pasid(
        &mut self,
        device: DeviceId,
        pasid: GuestPasid,
        space: &impl AddressSpace,
    ) -> Result<(), Error> {
        self.bind_slot(device, Some(pasid), space, 0).map(drop)
    }

    /// Makes the device's requests, those with this PASID or those without one, use the
    /// table, and what the device asks for there an [`Event::PageRequest`].
    pub fn bind_asking(
        &mut self,
        device: DeviceId,
        pasid: Option<GuestPasid>,
        table: &UserTable,
    ) -> Result<(), Error> {
        self.bind_slot(device, pasid, table, Bind::PAGE_REQUESTS)
            .map(drop)
    }

    /// Makes the device, or its PASID, use another address space than the one it is bound to.
    /// Says whether there was no instant without either.
    pub fn replace(
        &mut self,
        device: DeviceId,
        pasid: Option<GuestPasid>,
        space: &impl AddressSpace,
    ) -> Result<bool, Error> {
        self.bind_slot(device, pasid, space, Bind::REPLACE)
            .map(|answer| answer.hitless != 0)
    }

    fn bind_slot(
        &mut self,
        device: DeviceId,
        pasid: Option<GuestPasid>,
        space: &impl AddressSpace,
        flags: u32,
    ) -> Result<Bind, Error> {
        self.call(&Bind {
            flags: flags | pasid.map_or(0, |_| Bind::PASID),
            device_id: device.0,
            ioas_id: space.id(),
            pasid: pasid.map_or(0, |pasid| pasid.0),
            ..Bind::new()
        })
    }

    /// Blocks the device's requests without PASID.
    pub fn unbind(&mut self, device: DeviceId) -> Result<(), Error> {
        self.call(&Unbind {
            device_id: device.0,
            ..Unbind::new()
        })
        .map(drop)
    }

    /// Blocks the device's requests with this PASID.
    pub fn unbind_pasid(&mut self, device: DeviceId, pasid: GuestPasid) -> Result<(), Error> {
        self.call(&Unbind {
            flags: Unbind::PASID,
            device_id: device.0,
            pasid: pasid.0,
            ..Unbind::new()
        })
        .map(drop)
    }

    /// Settles all debts on the list, with one call if they fit the argument memory and the
    /// hypervisor does them in one. What was held comes back and may be reused.
    ///
    /// On error the list is as it was; flushing it again is harmless.
    pub fn flush<T, const N: usize>(
        &mut self,
        list: &mut FlushList<'_, T, N>,
    ) -> Result<ArrayVec<T, N>, Error> {
        let table = list.table();
        if table.take_lost() {
            self.flush_everything(table)?;
            return Ok(list.settle());
        }
        let changes = list.changes();
        let mut done = 0usize;
        while let Some(rest) = changes.get(done..).filter(|rest| !rest.is_empty()) {
            let mut count = 0usize;
            for change in rest.iter().take(self.memory.room_for::<InvalidateRange>()) {
                let place = self.memory.write_element(count, &change.to_range());
                place.ok_or(Error::MemoryTooSmall(Op::Invalidate))?;
                count = count.saturating_add(1);
            }
            done = done.saturating_add(self.invalidate_array(table, count, done)?);
        }
        Ok(list.settle())
    }

    /// Does the first `count` ranges of the array, or fewer, but at least one.
    fn invalidate_array(
        &mut self,
        table: &UserTable,
        count: usize,
        before: usize,
    ) -> Result<usize, Error> {
        let argument = Invalidate {
            ioas_id: table.id(),
            granularity: Granularity::Ranges.as_u32(),
            entries: self.memory.array_address(),
            entry_size: InvalidateRange::SIZE as u32,
            entry_count: count as u32,
            model: InvalidateModel::Range.as_u32(),
            ..Invalidate::new()
        };
        let answer = call(&self.hypercall, &mut self.memory, &argument)?;
        let completed = answer.argument.completed as usize;
        match answer.result {
            // A call that does nothing and calls it success would be made for ever.
            Ok(_) if completed == 0 || completed > count => Err(Error::Nonsense(Op::Invalidate)),
            Ok(_) => Ok(completed),
            Err(errno) => Err(Error::RangeRefused {
                index: before.saturating_add(completed),
                errno,
            }),
        }
    }

    /// Makes hardware forget the whole table.
    pub fn flush_everything(&mut self, table: &UserTable) -> Result<(), Error> {
        let flushed = self.call(&Invalidate {
            ioas_id: table.id(),
            granularity: Granularity::Everything.as_u32(),
            ..Invalidate::new()
        });
        if flushed.is_err() {
            // It is owed still.
            table.lose();
        }
        flushed.map(drop)
    }

    /// Tells the faults that wait, as many as the argument memory has room for.
    ///
    /// For guests whose devices ask for no pages: a page request is left out, and its device
    /// waits until it is unbound.
    pub fn read_faults(&mut self, mut each: impl FnMut(Fault)) -> Result<FaultsRead, Error> {
        self.read_events(|event| {
            if let Event::Fault(fault) = event {
                each(fault);
            }
        })
    }

    /// Tells the events that wait, as many as the argument memory has room for.
    pub fn read_events(&mut self, each: impl FnMut(Event)) -> Result<FaultsRead, Error> {
        self.read_queue_id(NO_ID, usize::MAX, each)
    }

    /// Takes the oldest event off the queue, if one waits.
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        let mut oldest = None;
        self.read_queue_id(NO_ID, 1, |event| oldest = Some(event))?;
        Ok(oldest)
    }

    /// The same for a queue that the guest made.
    pub fn read_queue(
        &mut self,
        queue: &EventQueue,
        each: impl FnMut(Event),
    ) -> Result<FaultsRead, Error> {
        self.read_queue_id(queue.id(), usize::MAX, each)
    }

    fn read_queue_id(
        &mut self,
        queue_id: u32,
        most: usize,
        mut each: impl FnMut(Event),
    ) -> Result<FaultsRead, Error> {
        let capacity = self.memory.room_for::<FaultEvent>().min(most);
        let answer = self.call(&FaultRead {
            buffer: self.memory.array_address(),
            entry_size: FaultEvent::SIZE as u32,
            capacity: capacity as u32,
            queue_id,
            ..FaultRead::new()
        })?;
        for index in 0..capacity.min(answer.count as usize) {
            let event: Option<FaultEvent> = self.memory.read_element(index);
            each(event.ok_or(Error::Nonsense(Op::FaultRead))?.into());
        }
        Ok(FaultsRead {
            read: answer.count,
            lost: answer.lost,
            remaining: answer.remaining,
        })
    }

    /// Answers groups of page requests, as many as the argument memory has room for and the
    /// hypervisor does in one call. Returns how many, from the first on. What the pages need
    /// was flushed before.
    ///
    /// On error the answers before the one that is named are given; that one can be given
    /// again unless its group waits no more (`ENOENT`).
    pub fn answer(&mut self, answers: &[Answer]) -> Result<usize, Error> {
        let mut count = 0usize;
        for answer in answers.iter().take(self.memory.room_for::<PageAnswer>()) {
            let place = self.memory.write_element(count, &answer.to_wire());
            place.ok_or(Error::MemoryTooSmall(Op::PageResponse))?;
            count = count.saturating_add(1);
        }
        let argument = PageResponse {
            answers: self.memory.array_address(),
            entry_size: PageAnswer::SIZE as u32,
            entry_count: count as u32,
            ..PageResponse::new()
        };
        let given = call(&self.hypercall, &mut self.memory, &argument)?;
        let completed = given.argument.completed as usize;
        match given.result {
            Ok(_) if completed > count => Err(Error::Nonsense(Op::PageResponse)),
            Ok(_) => Ok(completed),
            Err(errno) => Err(Error::AnswerRefused {
                index: completed,
                errno,
            }),
        }
    }

    /// Makes a ring of operations in this memory, which comes back on an error.
    pub fn create_ring<'r>(
        &mut self,
        memory: RingMemory<'r>,
    ) -> Result<Ring<'r>, (Error, RingMemory<'r>)> {
        let ask = Ring::ask(&memory);
        let answer = call_with_ring(&self.hypercall, &mut self.memory, &ask, &memory);
        match answer.and_then(crate::call::Answer::accepted) {
            Ok(answer) => Ok(Ring::new(memory, answer.ring_id)),
            Err(error) => Err((error, memory)),
        }
    }

    /// Gives a ring up. Its memory comes back.
    pub fn destroy_ring<'r>(
        &mut self,
        ring: Ring<'r>,
    ) -> Result<RingMemory<'r>, (Error, Ring<'r>)> {
        let argument = Destroy {
            id: ring.id(),
            ..Destroy::new()
        };
        match self.call(&argument) {
            Ok(_) => Ok(ring.into_memory()),
            Err(error) => Err((error, ring)),
        }
    }

    /// Has a round's operations done: by one call if the hypervisor does them all in one, and
    /// by none while it polls the ring.
    ///
    /// On an error the ring itself could not go on. What was done before is done, its results
    /// are not known, and flushes of the round are owed still.
    pub fn enter<'r, 'm2>(&mut self, round: Round<'r, 'm2>) -> Result<Done<'r, 'm2>, Error> {
        let must_call = round.publish();
        if round.is_done() || (!must_call && round.wait()) {
            return Ok(round.done());
        }
        let ask = RingEnter {
            ring_id: round.ring().id(),
            ..RingEnter::new()
        };
        loop {
            let memory = round.ring().memory();
            let answer = call_with_ring(&self.hypercall, &mut self.memory, &ask, memory);
            let entered = answer.and_then(crate::call::Answer::accepted);
            if round.is_done() {
                return Ok(round.done());
            }
            let error = match entered {
                Ok(entered) if entered.completed > 0 => continue,
                // A call that does nothing and calls it success would be made for ever.
                Ok(_) => Error::Nonsense(Op::RingEnter),
                Err(error) => error,
            };
            round.withdraw();
            return Err(error);
        }
    }

    /// Makes a queue of events beside the guest's own.
    pub fn allocate_queue(&mut self, kind: QueueKind, depth: u32) -> Result<EventQueue, Error> {
        let answer = self.call(&QueueAllocate {
            kind: kind.as_u32(),
            depth,
            ..QueueAllocate::new()
        })?;
        Ok(EventQueue {
            id: answer.queue_id,
            kind,
        })
    }

    /// Gives a queue up that nothing is bound to. On error it comes back.
    pub fn destroy_queue(&mut self, queue: EventQueue) -> Result<(), (Error, EventQueue)> {
        let argument = Destroy {
            id: queue.id(),
            ..Destroy::new()
        };
        match self.call(&argument) {
            Ok(_) => Ok(()),
            Err(error) => Err((error, queue)),
        }
    }

    /// Lets a queue tell what happens to a device, where its table has no such queue.
    pub fn queue_device(&mut self, queue: &EventQueue, device: DeviceId) -> Result<(), Error> {
        self.queue_object(queue, device.0)
    }

    /// Lets a queue tell what happens to a table.
    pub fn queue_table(&mut self, queue: &EventQueue, table: &UserTable) -> Result<(), Error> {
        self.queue_object(queue, table.id())
    }

    fn queue_object(&mut self, queue: &EventQueue, object_id: u32) -> Result<(), Error> {
        self.call(&QueueBind {
            queue_id: queue.id(),
            object_id,
            ..QueueBind::new()
        })
        .map(drop)
    }

    /// Ends that a queue tells what happens to a device.
    pub fn unqueue_device(&mut self, queue: &EventQueue, device: DeviceId) -> Result<(), Error> {
        self.unqueue_object(queue, device.0)
    }

    /// Ends that a queue tells what happens to a table.
    pub fn unqueue_table(&mut self, queue: &EventQueue, table: &UserTable) -> Result<(), Error> {
        self.unqueue_object(queue, table.id())
    }

    fn unqueue_object(&mut self, queue: &EventQueue, object_id: u32) -> Result<(), Error> {
        self.call(&QueueUnbind {
            queue_id: queue.id(),
            object_id,
            ..QueueUnbind::new()
        })
        .map(drop)
    }

    /// Takes the lowest free PASID from `minimum` to `maximum`.
    pub fn allocate_pasid(&mut self, minimum: u32, maximum: u32) -> Result<GuestPasid, Error> {
        self.call(&PasidAllocate {
            minimum,
            maximum,
            ..PasidAllocate::new()
        })
        .map(|answer| GuestPasid(answer.pasid))
    }

    /// Gives a PASID back that nothing is bound to.
    pub fn free_pasid(&mut self, pasid: GuestPasid) -> Result<(), Error> {
        self.call(&PasidFree {
            pasid: pasid.0,
            ..PasidFree::new()
        })
        .map(drop)
    }
}
