//! A unit that only does what firmware's translation still does, and the step that makes
//! it ready.

use super::memory::Memory;
use super::turn_on::{abandon, turn_on};
use super::{BringUpError, InterruptConfig, Ready, UnitConfig, UnitDescription};
use crate::Event;
use crate::abilities::Abilities;
use crate::mode::ModeChoice;
use crate::quirks::Corrections;
use crate::registers::Registers;
use crate::statistics::Counters;
use crate::unit::{Parts, TimeLimits, Unit};
use iommu_core::{Mmio, Observer, Platform};

/// A unit that does nothing but what firmware's translation still does.
#[derive(Debug)]
pub struct Quiesced<M> {
    pub(super) description: UnitDescription,
    pub(super) abilities: Abilities,
    pub(super) corrections: Corrections,
    pub(super) registers: Registers<M>,
    pub(super) limits: TimeLimits,
}

impl<M: Mmio> Quiesced<M> {
    /// Turns queue, interrupt remapping and fault event on, and makes empty tables that
    /// are not in force yet. Do this for all units before the first is enabled.
    pub fn prepare<P: Platform + Observer<Event>>(
        self,
        platform: &P,
        config: &UnitConfig,
    ) -> Result<Ready<M>, BringUpError> {
        let unit = self.description.index;
        let choice = self
            .abilities
            .choose(config.mode)
            .map_err(|error| BringUpError::Mode { unit, error })?;
        self.check_interrupts(config.interrupts)?;
        platform.observe(&Event::ModeChosen { unit, choice });
        let memory = Memory::allocate(platform, &self.abilities, choice, config)?;
        let limits = self.limits;
        let unit = self.assemble(choice, memory, config);
        let result = turn_on(&unit, platform, &limits, config);
        match result {
            Ok(()) => Ok(Ready { unit }),
            Err(error) => {
                abandon(unit, platform, &limits);
                Err(error)
            }
        }
    }

    fn check_interrupts(&self, wanted: Option<InterruptConfig>) -> Result<(), BringUpError> {
        let unit = self.description.index;
        let Some(wanted) = wanted else {
            return Ok(());
        };
        if !self.abilities.remaps_interrupts() {
            return Err(BringUpError::NoInterruptRemapping { unit });
        }
        if wanted.extended && !self.abilities.extends_interrupts() {
            return Err(BringUpError::NoExtendedInterrupts { unit });
        }
        Ok(())
    }

    fn assemble(self, choice: ModeChoice, memory: Memory, config: &UnitConfig) -> Unit<M> {
        Unit::new(Parts {
            segment: self.description.segment,
            abilities: self.abilities,
            corrections: self.corrections,
            choice,
            limits: self.limits,
            registers: self.registers,
            queue: memory.queue,
            tables: memory.tables,
            interrupts: memory.interrupts,
            page_requests: memory.page_requests,
            counters: Counters::default(),
            fault_message: config.fault_message,
            page_request_message: config.page_requests.and_then(|wanted| wanted.message),
        })
    }
}
