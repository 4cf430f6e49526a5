//! Taking our tables out of force: for a hand-over to someone else, for sleep, for the end.

use super::{Driver, Preparing, Translating};
use crate::Event;
use crate::bring_up::{BringUpError, program_fault_event, remap_interrupts};
use crate::queue::Descriptor;
use crate::queue::event::mask;
use crate::registers::{Fectl, Gsts};
use crate::unit::{Command, TimedOut, Unit};
use alloc::boxed::Box;
use core::error::Error;
use core::fmt;
use core::sync::atomic::Ordering;
use iommu_core::{FrameList, Mmio, Observer, Platform};

/// What is left when a unit could not be shut down: the driver, in whose other units the
/// tables may be out of force already. It can be tried again.
pub struct ShutDownFailure<P, M, S> {
    /// The driver.
    pub driver: Driver<P, M, S>,
    /// Why.
    pub error: BringUpError,
}

/// A failed step, boxed because the driver is in it.
pub type Failed<P, M, S> = Box<ShutDownFailure<P, M, S>>;

impl<P, M, S> fmt::Debug for ShutDownFailure<P, M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutDownFailure")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<P, M, S> fmt::Display for ShutDownFailure<P, M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<P, M, S> Error for ShutDownFailure<P, M, S> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Turns everything off, in the order that leaves no cache behind: caches, translation,
    /// interrupt remapping, queue. All memory goes back to the platform, what was in
    /// quarantine included: a unit that is off uses none.
    ///
    /// From then on devices reach all of memory: the caller stops them first.
    pub fn shut_down(self) -> Result<(), Failed<P, M, S>> {
        for unit in &self.units {
            if let Err(error) = unit.turn_off(&self.platform) {
                return Err(Box::new(ShutDownFailure {
                    driver: self,
                    error,
                }));
            }
        }
        self.dispose();
        Ok(())
    }

    fn dispose(self) {
        let platform = self.platform;
        for unit in self.units {
            unit.dispose(&platform);
        }
        let mut frames = self.paging.destroy_all(&platform);
        frames.append(self.parked.into_inner().into_frames());
        release_all(&platform, frames);
        let mut domains = self.domains.into_inner();
        for table in domains.attachments.take_retired() {
            platform.release(table);
        }
    }
}

impl<P: Platform + Observer<Event>, M: Mmio> Driver<P, M, Translating> {
    /// Before the platform sleeps: turns all units off and keeps all tables.
    ///
    /// The caller has stopped all devices.
    pub fn suspend(self) -> Result<Driver<P, M, Preparing>, Failed<P, M, Translating>> {
        for unit in &self.units {
            if let Err(error) = unit.turn_off(&self.platform) {
                return Err(Box::new(ShutDownFailure {
                    driver: self,
                    error,
                }));
            }
        }
        Ok(self.into_state())
    }
}

impl<P: Platform + Observer<Event>, M: Mmio> Driver<P, M, Preparing> {
    /// After the platform slept: makes queues, interrupt remapping and events work again,
    /// whose registers are lost. [`enable`](Self::enable) then puts the tables in force.
    pub fn resume(self) -> Result<Self, Failed<P, M, Preparing>> {
        for unit in &self.units {
            if let Err(error) = unit.turn_on_again(&self.platform) {
                return Err(Box::new(ShutDownFailure {
                    driver: self,
                    error,
                }));
            }
        }
        Ok(self)
    }
}

impl<M: Mmio> Unit<M> {
    /// Whether the command to turn translation off ends.
    pub(super) fn may_stop_translating(&self) -> Result<(), BringUpError> {
        if self.corrections.keeps_translating {
            return Err(BringUpError::KeepsTranslating { unit: self.index() });
        }
        Ok(())
    }

    fn turn_off<P: Platform + Observer<Event>>(&self, platform: &P) -> Result<(), BringUpError> {
        let status = self.registers.read32::<Gsts>();
        if status.tes() {
            self.may_stop_translating()?;
        }
        self.registers.write32(platform, Fectl::new().with_im(true));
        if self.queue.as_ref().is_some_and(|queue| queue.event.is_on()) {
            mask(&self.registers, platform, true);
        }
        if self.queue.is_none() || status.qies() {
            let mut everything = self.everything();
            if self.interrupts.is_some() {
                everything.push(Descriptor::InterruptCache(None));
            }
            self.invalidate(platform, &everything)
                .map_err(|error| BringUpError::of_queue(&self.registers, error))?;
        }
        if status.tes() {
            self.command(platform, Command::DisableTranslation)?;
        }
        self.translating.store(false, Ordering::Release);
        if status.ires() {
            self.command(platform, Command::DisableInterruptRemapping)?;
        }
        if status.qies() {
            self.stop_queue(platform)?;
        }
        platform.observe(&Event::TurnedOff { unit: self.index() });
        Ok(())
    }

    /// The last descriptor was a wait that completed, so the queue is empty (§6.5.2).
    fn stop_queue<P: Platform + Observer<Event>>(&self, platform: &P) -> Result<(), TimedOut> {
        self.command(platform, Command::DisableQueue)
    }

    fn turn_on_again<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
    ) -> Result<(), BringUpError> {
        if let Some(queue) = &self.queue {
            queue.restart(platform, &self.registers);
            self.command(platform, Command::EnableQueue)?;
            queue.event.program(&self.registers, platform);
        }
        if let Some(table) = &self.interrupts {
            remap_interrupts(self, table, platform, &self.limits)?;
        }
        if let Some(queue) = &self.page_requests {
            queue.program(&self.registers, platform, self.page_request_message);
        }
        if let Some(message) = self.fault_message {
            program_fault_event(&self.registers, platform, message);
        }
        Ok(())
    }

    fn dispose<P: Platform>(self, platform: &P) {
        if let Some(queue) = self.queue {
            queue.dispose(platform);
        }
        self.tables.into_inner().dispose(platform);
        if let Some(table) = self.interrupts {
            table.dispose(platform);
        }
        if let Some(queue) = self.page_requests {
            queue.dispose(platform);
        }
    }
}

fn release_all<P: Platform>(platform: &P, mut frames: FrameList) {
    while let Some(frame) = frames.pop() {
        platform.release(frame);
    }
}
