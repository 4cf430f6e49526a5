//! A unit at work: its registers, its queue, its tables, behind one lock each.

mod by_register;
pub(crate) mod command;

pub(crate) use command::wait_until;
pub use command::{Command, TimeLimits, TimedOut};

use crate::Event;
use crate::abilities::Abilities;
use crate::fault::Watch;
use crate::irq_remap::InterruptTable;
use crate::mode::{Mode, ModeChoice};
use crate::page_request::PageRequestQueue;
use crate::queue::{ContextScope, Descriptor, IotlbScope, PasidScope, Queue, QueueError};
use crate::quirks::Corrections;
use crate::registers::{Gsts, Registers, Rtaddr};
use crate::slots::Tables;
use crate::statistics::Counters;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, Ordering};
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{Mmio, Observer, Platform, Segment};

/// An interrupt message, as the fault event is programmed with. Composed by whoever owns
/// the CPU's vectors; never remapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Message {
    /// Message address. Bits 63:32 hold bits 31:8 of a 32-bit APIC id.
    pub address: u64,
    /// Message data: the vector in bits 7:0.
    pub data: u16,
}

/// A unit of which everything but translation is on.
#[derive(Debug)]
pub(crate) struct Unit<M> {
    pub(crate) segment: Segment,
    pub(crate) abilities: Abilities,
    pub(crate) corrections: Corrections,
    pub(crate) choice: ModeChoice,
    pub(crate) limits: TimeLimits,
    pub(crate) registers: Registers<M>,
    /// `None`: the unit has none, and is told by registers.
    pub(crate) queue: Option<Queue>,
    pub(crate) tables: Mutex<Tables>,
    pub(crate) interrupts: Option<InterruptTable>,
    pub(crate) page_requests: Option<PageRequestQueue>,
    pub(crate) counters: Counters,
    pub(crate) fault_message: Option<Message>,
    pub(crate) page_request_message: Option<Message>,
    /// Whoever gives a command holds this until the command is done.
    pub(crate) commands: Mutex<()>,
    /// Whoever reads fault records holds this, and counts.
    pub(crate) faults: Mutex<Watch>,
    /// Our tables are in force.
    pub(crate) translating: AtomicBool,
    /// Bits of PASID that a test wants, whatever ECAP says.
    #[cfg(feature = "test-hooks")]
    pub(crate) extra_pasid_bits: core::sync::atomic::AtomicU8,
}

impl<M: Mmio> Unit<M> {
    pub(crate) fn index(&self) -> u16 {
        self.registers.unit()
    }

    pub(crate) fn mode(&self) -> Mode {
        self.choice.mode()
    }

    pub(crate) fn is_translating(&self) -> bool {
        self.translating.load(Ordering::Acquire)
    }

    pub(crate) fn command<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        command: Command,
    ) -> Result<(), TimedOut> {
        let _one_at_a_time = self.commands.lock(platform);
        self.registers.command(platform, &self.limits, command)
    }

    /// Carries `descriptors` out, and waits for them.
    pub(crate) fn invalidate<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        descriptors: &[Descriptor],
    ) -> Result<(), QueueError> {
        match &self.queue {
            Some(queue) => {
                let mut left = descriptors.iter().copied();
                self.submit(platform, queue, false, &mut || left.next())
            }
            None => descriptors
                .iter()
                .try_for_each(|one| self.invalidate_by_register(platform, *one)),
        }
    }

    /// The same, and page requests that came before are in their queue on return (§7.10).
    pub(crate) fn invalidate_and_drain<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        descriptors: &[Descriptor],
    ) -> Result<(), QueueError> {
        let Some(queue) = &self.queue else {
            return self.invalidate(platform, descriptors);
        };
        self.invalidate_behind_requests(platform, queue, descriptors)?;
        if self.abilities.drains_page_requests() && self.lost_page_requests() {
            // Behind the answers that hardware gave for want of room.
            self.invalidate_behind_requests(platform, queue, descriptors)?;
        }
        Ok(())
    }

    /// The same by a queue, waiting for the page requests that were received before too,
    /// where the unit can.
    pub(crate) fn invalidate_behind_requests<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        queue: &Queue,
        descriptors: &[Descriptor],
    ) -> Result<(), QueueError> {
        let drain = self.abilities.drains_page_requests();
        let mut left = descriptors.iter().copied();
        self.submit(platform, queue, drain, &mut || left.next())
    }

    /// Gives answers to page requests, and waits for all of them.
    pub(crate) fn answer<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        queue: &Queue,
        answers: &mut dyn FnMut() -> Option<Descriptor>,
    ) -> Result<(), QueueError> {
        self.submit(platform, queue, false, answers)
    }

    fn submit<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        queue: &Queue,
        drain_page_requests: bool,
        source: &mut dyn FnMut() -> Option<Descriptor>,
    ) -> Result<(), QueueError> {
        let begun = platform.now();
        loop {
            let ticket = queue.submit(
                platform,
                &self.registers,
                &self.counters,
                drain_page_requests,
                source,
            );
            if let Some(ticket) = ticket {
                queue.wait(
                    platform,
                    &self.registers,
                    &self.counters,
                    ticket,
                    self.limits.flush,
                )?;
                if !ticket.more {
                    return Ok(());
                }
            }
            let waited = platform.now().since(begun);
            if waited > self.limits.flush {
                return Err(QueueError::TimedOut(waited));
            }
            platform.relax();
        }
    }

    /// Makes our root table the one in use (§6.6, §11.4.5). Translation may be on: then old
    /// and new tables must translate alike what is in flight.
    pub(crate) fn set_root_table<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
    ) -> Result<(), SwitchError> {
        self.flush_write_buffer(platform)?;
        let root = self.tables.lock(platform).root();
        self.registers.write64(
            platform,
            Rtaddr::new()
                .with_ttm(self.mode().table_mode())
                .with_rta(crate::tables::frame_number(root)),
        );
        self.command(platform, Command::SetRootTable)?;
        if self.abilities.root_change_invalidates() {
            return Ok(());
        }
        self.invalidate(platform, &self.everything())
            .map_err(SwitchError::Queue)
    }

    /// What drops all that DMA remapping caches, in the order that is required (§6.6).
    pub(crate) fn everything(&self) -> ArrayVec<Descriptor, 5> {
        let mut all = ArrayVec::new();
        all.push(Descriptor::ContextCache(ContextScope::Global));
        if self.mode().is_scalable() {
            all.push(Descriptor::PasidCache(PasidScope::Global));
        }
        all.push(Descriptor::Iotlb(IotlbScope::Global));
        if self.mode().is_scalable() && self.abilities.ecap.hpts() {
            all.push(Descriptor::HostPermissionCache);
        }
        all
    }

    /// Drains the chipset's write buffer where that is needed (§6.8).
    pub(crate) fn flush_write_buffer<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
    ) -> Result<(), TimedOut> {
        if !self.abilities.needs_write_buffer_flush() {
            return Ok(());
        }
        self.command(platform, Command::FlushWriteBuffer)
    }

    /// Before it is enabled: the root table of whoever ran before, if the unit translates.
    pub(crate) fn root_left_in_force(&self) -> Option<Rtaddr> {
        let translates = self.registers.read32::<Gsts>().tes();
        translates.then(|| self.registers.read64::<Rtaddr>())
    }

    /// Whether firmware's tables have to go out of force before ours can come in: the table
    /// mode may change under translation only on a unit with ESRTPS (§11.4.5).
    pub(crate) fn needs_translation_window(&self) -> bool {
        let status = self.registers.read32::<Gsts>();
        let mode = self.registers.read64::<Rtaddr>().ttm();
        status.tes()
            && mode != self.mode().table_mode()
            && !self.abilities.root_change_invalidates()
    }

    pub(crate) fn new(parts: Parts<M>) -> Self {
        Self {
            segment: parts.segment,
            abilities: parts.abilities,
            corrections: parts.corrections,
            choice: parts.choice,
            limits: parts.limits,
            registers: parts.registers,
            queue: parts.queue,
            tables: Mutex::new(Rank::Tables, parts.tables),
            interrupts: parts.interrupts,
            page_requests: parts.page_requests,
            counters: parts.counters,
            fault_message: parts.fault_message,
            page_request_message: parts.page_request_message,
            commands: Mutex::new(Rank::Registers, ()),
            faults: Mutex::new(Rank::Faults, Watch::default()),
            translating: AtomicBool::new(false),
            #[cfg(feature = "test-hooks")]
            extra_pasid_bits: core::sync::atomic::AtomicU8::new(0),
        }
    }
}

/// What a unit is made of.
pub(crate) struct Parts<M> {
    pub(crate) segment: Segment,
    pub(crate) abilities: Abilities,
    pub(crate) corrections: Corrections,
    pub(crate) choice: ModeChoice,
    pub(crate) limits: TimeLimits,
    pub(crate) registers: Registers<M>,
    /// `None`: the unit has none, and is told by registers.
    pub(crate) queue: Option<Queue>,
    pub(crate) tables: Tables,
    pub(crate) interrupts: Option<InterruptTable>,
    pub(crate) page_requests: Option<PageRequestQueue>,
    pub(crate) counters: Counters,
    pub(crate) fault_message: Option<Message>,
    pub(crate) page_request_message: Option<Message>,
}

/// Why our tables did not come into force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SwitchError {
    TimedOut(TimedOut),
    Queue(QueueError),
}

impl From<TimedOut> for SwitchError {
    fn from(error: TimedOut) -> Self {
        Self::TimedOut(error)
    }
}
