//! A unit that was looked at, and what firmware left on in it.

use super::{BringUpError, DiscoveryError, Quiesced};
use crate::Event;
use crate::abilities::Abilities;
use crate::quirks::Corrections;
use crate::registers::{
    Cap, Ecap, Fectl, Fsts, Gsts, Iqh, Iqt, Pmen, Registers, Rtaddr, TableMode, Ver,
};
use crate::unit::command::wait_until;
use crate::unit::{Command, TimeLimits, TimedOut};
use iommu_core::{Hpa, Mmio, Observer, Platform, Segment};

/// What the caller knows of a unit before it is looked at: from the DMAR's DRHD.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UnitDescription {
    /// The caller's number for it; names the unit in events and errors.
    pub index: u16,
    /// The segment of its devices.
    pub segment: Segment,
    /// Where its registers are, for messages; they are reached through [`Mmio`].
    pub register_base: Hpa,
    /// Bits of physical address: the DMAR's host address width.
    pub host_bits: u8,
}

/// What firmware, or whoever ran before, left on.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FirmwareState {
    /// Translation.
    pub translation: bool,
    /// In scalable mode, if translation is on.
    pub scalable: bool,
    /// In abort-DMA mode, if translation is on.
    pub abort: bool,
    /// The invalidation queue.
    pub queue: bool,
    /// The queue stands still with an error.
    pub queue_error: bool,
    /// Interrupt remapping.
    pub interrupt_remapping: bool,
    /// Protected memory regions.
    pub protected_memory: bool,
    /// Faults are recorded.
    pub faults: bool,
}

/// A unit whose abilities are known. Nothing was written to it.
#[derive(Debug)]
pub struct Discovered<M> {
    description: UnitDescription,
    abilities: Abilities,
    corrections: Corrections,
    registers: Registers<M>,
}

impl<M: Mmio> Discovered<M> {
    /// Looks at the unit behind `mmio`.
    pub fn open<O: Observer<Event>>(
        description: UnitDescription,
        mmio: M,
        observer: &O,
    ) -> Result<Self, DiscoveryError> {
        let unit = description.index;
        let registers = Registers::new(mmio, unit);
        let abilities = Abilities {
            version: registers.read32::<Ver>(),
            cap: registers.read64::<Cap>(),
            ecap: registers.read64::<Ecap>(),
            host_bits: description.host_bits.min(52),
        };
        let words = [abilities.cap.into_bits(), abilities.ecap.into_bits()];
        if words == [0, 0] || words == [u64::MAX, u64::MAX] {
            return Err(DiscoveryError::Silent {
                unit,
                register_base: description.register_base,
            });
        }
        let needed = bytes_needed(&abilities);
        if needed > registers.size() {
            return Err(DiscoveryError::Beyond {
                unit,
                needed,
                mapped: registers.size(),
            });
        }
        if !abilities.has_queue() && !abilities.invalidates_by_register() {
            return Err(DiscoveryError::NoInvalidation {
                unit,
                version: abilities.version,
            });
        }
        observer.observe(&Event::Discovered {
            unit,
            register_base: description.register_base,
            version: abilities.version,
            capability: abilities.cap,
            extended_capability: abilities.ecap,
        });
        Ok(Self {
            description,
            abilities,
            corrections: Corrections::default(),
            registers,
        })
    }

    /// The same unit, with what is known of it beside its registers taken into account.
    #[must_use]
    pub fn corrected(mut self, corrections: Corrections) -> Self {
        corrections.apply(&mut self.abilities);
        self.corrections = corrections;
        self
    }

    /// What the caller said of it.
    pub fn description(&self) -> &UnitDescription {
        &self.description
    }

    /// What it can do.
    pub fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// What is on now.
    pub fn firmware_state(&self) -> FirmwareState {
        let gsts = self.registers.read32::<Gsts>();
        let fsts = self.registers.read32::<Fsts>();
        let ttm = self.registers.read64::<Rtaddr>().ttm();
        let has_regions = self.abilities.protected_regions();
        FirmwareState {
            translation: gsts.tes(),
            scalable: gsts.tes() && ttm == TableMode::Scalable,
            abort: gsts.tes() && ttm == TableMode::Abort,
            queue: gsts.qies(),
            queue_error: fsts.iqe() || fsts.ite() || fsts.ice(),
            interrupt_remapping: gsts.ires(),
            protected_memory: has_regions && self.registers.read32::<Pmen>().prs(),
            faults: fsts.ppf() || fsts.pfo(),
        }
    }

    /// Turns off what firmware left on, except translation and protected memory, which
    /// keep protecting until our tables are in force.
    pub fn quiesce<P: Platform + Observer<Event>>(
        self,
        platform: &P,
        limits: TimeLimits,
    ) -> Result<Quiesced<M>, BringUpError> {
        let state = self.firmware_state();
        platform.observe(&Event::Firmware {
            unit: self.description.index,
            state,
        });
        let registers = &self.registers;
        registers.write32(platform, Fectl::new().with_im(true));
        if state.interrupt_remapping {
            registers.command(platform, &limits, Command::DisableInterruptRemapping)?;
        }
        if state.queue {
            self.stop_queue(platform, &limits)?;
        }
        clear_faults(registers, &self.abilities, platform);
        Ok(Quiesced {
            description: self.description,
            abilities: self.abilities,
            corrections: self.corrections,
            registers: self.registers,
            limits,
        })
    }

    /// Lets firmware's queue run empty, if it still runs, and turns it off.
    fn stop_queue<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        limits: &TimeLimits,
    ) -> Result<(), TimedOut> {
        let registers = &self.registers;
        let empty =
            || registers.read64::<Iqh>().into_bits() == registers.read64::<Iqt>().into_bits();
        let stands_still = || {
            let status = registers.read32::<Fsts>();
            status.iqe() || status.ite()
        };
        let waited = wait_until(platform, limits.command, || empty() || stands_still());
        if waited.is_err() || !empty() {
            platform.observe(&Event::FirmwareQueueNotEmpty {
                unit: registers.unit(),
            });
        }
        registers.command(platform, limits, Command::DisableQueue)
    }
}

/// Bytes of registers that the unit has, as far as the driver uses them.
fn bytes_needed(abilities: &Abilities) -> usize {
    let records = abilities.cap.fault_records().saturating_mul(16);
    let faults = abilities.cap.fault_records_at().saturating_add(records);
    let invalidation = if abilities.has_queue() {
        0
    } else {
        abilities.ecap.invalidate_address_at().saturating_add(16)
    };
    faults.max(invalidation).max(0x100)
}

/// Clears all fault records, then what FSTS keeps (§7.2).
fn clear_faults<M: Mmio, P: Observer<Event>>(
    registers: &Registers<M>,
    abilities: &Abilities,
    platform: &P,
) {
    for index in 0..abilities.cap.fault_records() {
        crate::fault::clear_record(registers, abilities, platform, index);
    }
    let status = registers.read32::<Fsts>();
    let cleared = status.into_bits() & fsts_write_one_to_clear().into_bits();
    if cleared != 0 {
        registers.write32(platform, Fsts::from_bits(cleared));
    }
}

fn fsts_write_one_to_clear() -> Fsts {
    Fsts::new()
        .with_pfo(true)
        .with_iqe(true)
        .with_ice(true)
        .with_ite(true)
}
