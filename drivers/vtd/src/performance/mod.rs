//! Performance monitoring (§10): counters of what a unit does, for whoever tunes or looks
//! for a fault. Mechanism alone: which events are worth counting is the caller's business.
//!
//! Counters are configured by registers and turned on and off by enhanced commands, of
//! which a unit takes one at a time, beside all its other commands (§6.9).

mod error;
mod layout;

pub use error::PerformanceError;
pub use layout::{EventGroup, PerformanceCapabilities};

use crate::Event;
use crate::driver::Driver;
use crate::registers::enhanced_command::{Eccap3, Ecmd, Ecrsp};
use crate::registers::performance::{
    CounterConfiguration, CounterFilter, Perfintraddr, Perfintrctl, Perfintrdata, Perfintrsts,
    Perfintruaddr,
};
use crate::unit::{Message, Unit, wait_until};
use iommu_core::{Mmio, Observer, Platform};
use layout::Layout;

/// What a counter shall count.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Count {
    /// Index of the event group.
    pub group: u8,
    /// Events of the group, a bit each; with more than one their sum is counted, and no
    /// filter is allowed.
    pub events: u32,
    /// Raise the unit's performance interrupt when the counter overflows.
    pub interrupt: bool,
    /// Freeze all counters when this one overflows.
    pub freeze: bool,
    /// Count only requests of one kind.
    pub filter: Option<Filter>,
}

/// Which occurrences count (§10.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Filter {
    /// Those of one requester.
    Requester(u16),
    /// Those of one domain id.
    Domain(u16),
    /// Those of one PASID.
    Pasid(u32),
    /// Those of these address types: bit 0 untranslated, 1 translation, 2 translated.
    AddressTypes(u8),
    /// Those at these levels of page tables, a bit each from level 1 on.
    Levels(u8),
}

impl Filter {
    /// Offset of its register from the counter's configuration, its bit in PERFCAP's list of
    /// filters, and its value.
    const fn register(self) -> (usize, u8, u32) {
        match self {
            Self::Requester(source) => (0x08, 0, source as u32),
            Self::Domain(domain) => (0x0c, 1, domain as u32),
            Self::Pasid(pasid) => (0x10, 2, pasid & 0xf_ffff),
            Self::AddressTypes(types) => (0x14, 3, types as u32),
            Self::Levels(levels) => (0x18, 4, levels as u32),
        }
    }

    /// The registers of all filters.
    const REGISTERS: [(usize, u8); 5] = [(0x08, 0), (0x0c, 1), (0x10, 2), (0x14, 3), (0x18, 4)];
}

/// The counters of one unit.
#[derive(Debug)]
pub struct Performance<'d, P, M> {
    platform: &'d P,
    unit: &'d Unit<M>,
    layout: Layout,
}

/// Enhanced commands of performance monitoring (§11.4.14), and their bits in ECCAP_3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Enable = 240,
    Disable = 241,
    ResetConfiguration = 242,
    ResetValues = 243,
    Freeze = 244,
    Unfreeze = 245,
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// The counters of a unit.
    pub fn performance(&self, unit: u16) -> Result<Performance<'_, P, M>, PerformanceError> {
        let unit = self.unit(unit).ok_or(PerformanceError::NoUnit(unit))?;
        Ok(Performance {
            platform: self.platform(),
            unit,
            layout: Layout::discover(&unit.registers, &unit.abilities)?,
        })
    }
}

impl<P: Platform + Observer<Event>, M: Mmio> Performance<'_, P, M> {
    /// What the unit can count.
    pub fn capabilities(&self) -> PerformanceCapabilities {
        self.layout.capabilities
    }

    /// What a group of events can count, by the unit's word; `None` if there is no such
    /// group.
    pub fn group(&self, index: u8) -> Option<EventGroup> {
        self.layout.group(&self.unit.registers, index)
    }

    /// Says what a counter shall count. It stands still, and is told so by
    /// [`PerformanceError::Counting`] if it does not.
    pub fn configure(&self, counter: u16, count: &Count) -> Result<(), PerformanceError> {
        let at = self.standing_still(counter)?;
        self.layout.check(&self.unit.registers, counter, count)?;
        let configuration = CounterConfiguration::new()
            .with_es(count.events)
            .with_egi(count.group & 0xf)
            .with_io(count.interrupt)
            .with_gfo(count.freeze);
        let wanted = count.filter.map(Filter::register);
        for (offset, bit) in Filter::REGISTERS {
            if !self.layout.capabilities.has_filter(bit) {
                continue;
            }
            let filter = match wanted {
                Some((register, _, value)) if register == offset => {
                    CounterFilter::new().with_value(value).with_en(true)
                }
                _ => CounterFilter::new(),
            };
            self.unit.registers.write32_at(
                self.platform,
                "PERFCNTR_FLTR",
                at.saturating_add(offset),
                filter.into_bits(),
            );
        }
        self.unit
            .registers
            .write64_at(self.platform, "PERFCNTRCFG", at, configuration.into_bits());
        Ok(())
    }

    /// Starts a counter; the unit checks its configuration first (§10.5).
    pub fn enable(&self, counter: u16) -> Result<(), PerformanceError> {
        self.layout.configuration(counter)?;
        self.command(Order::Enable, counter)
    }

    /// Stops a counter, which keeps its value.
    pub fn disable(&self, counter: u16) -> Result<(), PerformanceError> {
        self.layout.configuration(counter)?;
        self.command(Order::Disable, counter)
    }

    /// The value of a counter, which may be counting.
    pub fn read(&self, counter: u16) -> Result<u64, PerformanceError> {
        let at = self.layout.counter(counter)?;
        Ok(self.unit.registers.read64_at(at) & self.layout.mask(&self.unit.registers, counter))
    }

    /// Gives a counter a value, such as one just before its overflow. Bits above its width
    /// are ignored.
    pub fn set(&self, counter: u16, value: u64) -> Result<(), PerformanceError> {
        let at = self.layout.counter(counter)?;
        if !self.layout.capabilities.writable_while_counting {
            self.standing_still(counter)?;
        }
        self.unit
            .registers
            .write64_at(self.platform, "PERFCNTR", at, value);
        Ok(())
    }

    /// Stops all counters at the same moment.
    pub fn freeze(&self) -> Result<(), PerformanceError> {
        self.command(Order::Freeze, 0)
    }

    /// Lets all counters go on.
    pub fn unfreeze(&self) -> Result<(), PerformanceError> {
        self.command(Order::Unfreeze, 0)
    }

    /// Stops all counters and forgets what they count, and what overflowed.
    pub fn reset_configuration(&self) -> Result<(), PerformanceError> {
        self.command(Order::ResetConfiguration, 0)
    }

    /// Makes all counters 0.
    pub fn reset_values(&self) -> Result<(), PerformanceError> {
        self.command(Order::ResetValues, 0)
    }

    /// Whether a counter was frozen, by command or by an overflow.
    pub fn is_frozen(&self, counter: u16) -> Result<bool, PerformanceError> {
        let (at, bit) = self.layout.freeze(counter)?;
        Ok(self.unit.registers.read64_at(at) & bit != 0)
    }

    /// Whether a counter has overflown since this was asked last.
    pub fn take_overflow(&self, counter: u16) -> Result<bool, PerformanceError> {
        let (at, bit) = self.layout.overflow(counter)?;
        let overflown = self.unit.registers.read64_at(at) & bit != 0;
        if overflown {
            self.unit
                .registers
                .write64_at(self.platform, "PERFOVFSTS", at, bit);
        }
        Ok(overflown)
    }

    /// What an overflow of a counter that is configured so sends; `None` keeps it back.
    pub fn set_interrupt(&self, message: Option<Message>) -> Result<(), PerformanceError> {
        if !self.layout.capabilities.interrupt_on_overflow {
            return Err(PerformanceError::Unsupported);
        }
        let registers = &self.unit.registers;
        let Some(message) = message else {
            registers.write32(self.platform, Perfintrctl::new().with_im(true));
            return Ok(());
        };
        registers.write32(self.platform, Perfintrdata::new().with_imd(message.data));
        registers.write32(
            self.platform,
            Perfintraddr::from_bits(message.address as u32 & !3),
        );
        registers.write32(
            self.platform,
            Perfintruaddr::new().with_mua((message.address >> 32) as u32),
        );
        // Last: clearing IM may send a message that waits.
        registers.write32(self.platform, Perfintrctl::new());
        Ok(())
    }

    /// Answers the interrupt: from now on another one is sent. Ask the counters afterwards
    /// ([`take_overflow`](Self::take_overflow)), so that none that overflows meanwhile is
    /// missed. Says whether one was to be answered.
    pub fn acknowledge(&self) -> bool {
        let registers = &self.unit.registers;
        let raised = registers.read32::<Perfintrsts>().pis();
        if raised {
            registers.write32(self.platform, Perfintrsts::new().with_pis(true));
        }
        raised
    }

    /// Where a counter is configured, if it does not count.
    fn standing_still(&self, counter: u16) -> Result<usize, PerformanceError> {
        let at = self.layout.configuration(counter)?;
        let configuration = CounterConfiguration::from_bits(self.unit.registers.read64_at(at));
        if configuration.en() {
            return Err(PerformanceError::Counting(counter));
        }
        Ok(at)
    }

    /// One enhanced command, and its answer.
    fn command(&self, order: Order, counter: u16) -> Result<(), PerformanceError> {
        let registers = &self.unit.registers;
        let known = registers.read64::<Eccap3>();
        let supported = match order {
            Order::Enable => known.ecnts(),
            Order::Disable => known.dcnts(),
            Order::ResetConfiguration => known.rcfgs(),
            Order::ResetValues => known.rcnts(),
            Order::Freeze => known.fcnts(),
            Order::Unfreeze => known.ufcnts(),
        };
        if !supported {
            return Err(PerformanceError::Unsupported);
        }
        let _one_at_a_time = self.unit.commands.lock(self.platform);
        let limit = self.unit.limits.command;
        let answered = || !registers.read64::<Ecrsp>().ip();
        // One that was given up may still be under way.
        wait_until(self.platform, limit, answered).map_err(PerformanceError::TimedOut)?;
        let command = Ecmd::new()
            .with_cmd(order as u8)
            .with_oa(u64::from(counter));
        registers.write64(self.platform, command);
        wait_until(self.platform, limit, answered).map_err(PerformanceError::TimedOut)?;
        match registers.read64::<Ecrsp>().sc() {
            0 => Ok(()),
            status => Err(PerformanceError::Refused(status)),
        }
    }
}
