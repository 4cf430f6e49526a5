//! What a unit can count, and where its counters lie: read once, held against the registers
//! that are mapped.

use super::{Count, PerformanceError};
use crate::abilities::Abilities;
use crate::registers::Registers;
use crate::registers::performance::{
    CounterCapability, Perfcap, Perfcfgoff, Perfcntroff, Perfevntcap, Perffrzoff, Perfovfoff,
};
use iommu_core::Mmio;

/// What a unit's counters can do (§11.4.13.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PerformanceCapabilities {
    /// How many there are.
    pub counters: u16,
    /// Bits of a counter, unless it says otherwise itself.
    pub width: u8,
    /// Groups of events.
    pub groups: u8,
    /// Filters, a bit each: requester, domain id, PASID, address type, page-table level.
    pub filters: u8,
    /// A counter can be given a value while it counts.
    pub writable_while_counting: bool,
    /// An overflow can freeze all counters.
    pub freeze_on_overflow: bool,
    /// An overflow can interrupt.
    pub interrupt_on_overflow: bool,
    /// Counters differ in what they can do.
    pub counters_differ: bool,
}

impl PerformanceCapabilities {
    pub(super) const fn has_filter(&self, bit: u8) -> bool {
        self.filters & (1u8 << (bit & 7)) != 0
    }
}

/// The events of a group that a unit can count, a bit each (table 49).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EventGroup {
    /// Which there are.
    pub events: u32,
}

/// Where everything lies, in bytes from the unit's base.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) capabilities: PerformanceCapabilities,
    configurations: usize,
    freezes: usize,
    overflows: usize,
    counters: usize,
    stride: usize,
}

/// Bytes of a counter's configuration registers.
const CONFIGURATION: usize = 0x100;
/// A counter's own capabilities, within those.
const OWN_CAPABILITIES: usize = 0x80;
/// PERFEVNTCAP of the first group.
const GROUPS: usize = 0x380;

impl Layout {
    pub(super) fn discover<M: Mmio>(
        registers: &Registers<M>,
        abilities: &Abilities,
    ) -> Result<Self, PerformanceError> {
        if !abilities.ecap.pms() || !abilities.cap.ecmds() {
            return Err(PerformanceError::NoCounters);
        }
        let found = registers.read64::<Perfcap>();
        if found.counters() == 0 {
            return Err(PerformanceError::NoCounters);
        }
        let layout = Self {
            capabilities: PerformanceCapabilities {
                counters: found.counters(),
                width: found.width().clamp(1, 64),
                groups: found.event_groups(),
                filters: found.filters(),
                writable_while_counting: found.cwe(),
                freeze_on_overflow: found.gfs(),
                interrupt_on_overflow: found.pis(),
                counters_differ: found.pcc(),
            },
            configurations: registers.read32::<Perfcfgoff>().offset() as usize,
            freezes: registers.read32::<Perffrzoff>().offset() as usize,
            overflows: registers.read32::<Perfovfoff>().offset() as usize,
            counters: registers.read32::<Perfcntroff>().offset() as usize,
            stride: 1 << found.stride().saturating_add(10),
        };
        layout.check_window(registers.size())
    }

    /// Firmware may have said that the unit's registers end before.
    fn check_window(self, size: usize) -> Result<Self, PerformanceError> {
        let last = self.capabilities.counters.saturating_sub(1);
        let words = usize::from(last >> 6).saturating_mul(8);
        let ends = [
            self.configuration(last)?.saturating_add(CONFIGURATION),
            self.freezes.saturating_add(words).saturating_add(8),
            self.overflows.saturating_add(words).saturating_add(8),
            self.counter(last)?.saturating_add(8),
        ];
        match ends.into_iter().find(|end| *end > size) {
            Some(offset) => Err(PerformanceError::BeyondRegisters { offset }),
            None => Ok(self),
        }
    }

    fn known(&self, counter: u16) -> Result<usize, PerformanceError> {
        if counter < self.capabilities.counters {
            Ok(usize::from(counter))
        } else {
            Err(PerformanceError::NoCounter(counter))
        }
    }

    pub(super) fn configuration(&self, counter: u16) -> Result<usize, PerformanceError> {
        let offset = self.known(counter)?.saturating_mul(CONFIGURATION);
        Ok(self.configurations.saturating_add(offset))
    }

    pub(super) fn counter(&self, counter: u16) -> Result<usize, PerformanceError> {
        let offset = self.known(counter)?.saturating_mul(self.stride);
        Ok(self.counters.saturating_add(offset))
    }

    /// The register that tells whether a counter is frozen, and its bit there.
    pub(super) fn freeze(&self, counter: u16) -> Result<(usize, u64), PerformanceError> {
        self.bit(self.freezes, counter)
    }

    /// The register that tells whether a counter has overflown, and its bit there.
    pub(super) fn overflow(&self, counter: u16) -> Result<(usize, u64), PerformanceError> {
        self.bit(self.overflows, counter)
    }

    fn bit(&self, first: usize, counter: u16) -> Result<(usize, u64), PerformanceError> {
        let index = self.known(counter)?;
        let at = first.saturating_add((index >> 6).saturating_mul(8));
        Ok((at, 1u64 << (index & 63)))
    }

    pub(super) fn group<M: Mmio>(&self, registers: &Registers<M>, index: u8) -> Option<EventGroup> {
        if index >= self.capabilities.groups || index > 15 {
            return None;
        }
        let at = GROUPS.saturating_add(usize::from(index).saturating_mul(8));
        let events = Perfevntcap::from_bits(registers.read64_at(at)).events();
        Some(EventGroup { events })
    }

    /// The bits that a counter has.
    pub(super) fn mask<M: Mmio>(&self, registers: &Registers<M>, counter: u16) -> u64 {
        let own = self.own_capability(registers, counter);
        let width = own.map_or(self.capabilities.width, |own| own.width());
        u64::MAX >> 64u32.saturating_sub(u32::from(width.clamp(1, 64)))
    }

    fn own_capability<M: Mmio>(
        &self,
        registers: &Registers<M>,
        counter: u16,
    ) -> Option<CounterCapability> {
        if !self.capabilities.counters_differ {
            return None;
        }
        let at = self
            .configuration(counter)
            .ok()?
            .saturating_add(OWN_CAPABILITIES);
        Some(CounterCapability::from_bits(registers.read32_at(at))).filter(|own| own.pcc())
    }

    /// What can be known beforehand of the unit's checks (§10.5). What a counter that differs
    /// from the others can do is left to the unit.
    pub(super) fn check<M: Mmio>(
        &self,
        registers: &Registers<M>,
        counter: u16,
        count: &Count,
    ) -> Result<(), PerformanceError> {
        self.known(counter)?;
        let group = self.group(registers, count.group);
        let events = group.map_or(0, |group| group.events);
        let several = count.events.count_ones() > 1;
        let filter = count.filter.map(super::Filter::register);
        let fits = count.events != 0
            && count.events & !events == 0
            && !(several && filter.is_some())
            && filter.is_none_or(|(_, bit, _)| self.capabilities.has_filter(bit))
            && (!count.freeze || self.capabilities.freeze_on_overflow)
            && (!count.interrupt || self.capabilities.interrupt_on_overflow);
        if fits {
            Ok(())
        } else {
            Err(PerformanceError::Unsupported)
        }
    }
}
