//! Counters of what the unit does (§10, §11.4.13): their registers, and counting.

use super::dispatch::Write;
use super::map::Source;
use crate::config::{EVENTS, Perfmon, WITH_LEVEL, WITH_TYPE};
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::tables::{bit, bits};
use crate::violation::Rule;

/// Something that a counter may count (table 49).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Happening {
    group: usize,
    event: u8,
    /// Which of the level filter's bits it is, if it has a level.
    level: Option<u8>,
    /// Which of the address type filter's bits it is.
    address_type: Option<u8>,
}

macro_rules! happenings {
    ($($name:ident $group:literal $event:literal;)*) => {
        #[allow(dead_code, reason = "the whole of table 49 that can happen here")]
        impl Happening {
            $(pub(crate) const $name: Self = Self {
                group: $group,
                event: $event,
                level: None,
                address_type: None,
            };)*
        }
    };
}

happenings! {
    CLOCK 0 0;
    REQUEST 0 1;
    MEMORY_READ 1 0;
    FLAG_UPDATE 1 3;
    PAGE_REQUEST_POSTED 1 6;
    PAGE_REQUEST_OVERFLOW 1 7;
    CONTEXT_LOOKUP 2 0;
    CONTEXT_HIT 2 1;
    PASID_LOOKUP 2 2;
    PASID_HIT 2 3;
    SECOND_LOOKUP 2 4;
    SECOND_HIT 2 5;
    FIRST_LOOKUP 2 6;
    FIRST_HIT 2 7;
    PERMISSION_TABLE_LOOKUP 2 8;
    PERMISSION_TABLE_HIT 2 9;
    IOTLB_LOOKUP 3 0;
    IOTLB_HIT 3 1;
    PERMISSION_LOOKUP 3 2;
    PERMISSION_HIT 3 3;
    INTERRUPT_LOOKUP 4 0;
    INTERRUPT_HIT_REMAPPED 4 1;
    INTERRUPT_HIT_POSTED 4 2;
}

impl Happening {
    /// At an entry of this level, or for a page of its size (1: 4 KiB).
    pub(crate) fn at_level(self, level: u8) -> Self {
        Self {
            level: Some(level - 1),
            ..self
        }
    }

    /// For a request of this type: 0 untranslated, 1 translation, 2 translated, 4 prefetch.
    pub(crate) fn of_type(self, address_type: u8) -> Self {
        Self {
            address_type: Some(address_type),
            ..self
        }
    }
}

/// Filters of a counter, in the order of their registers: requester, domain, PASID, address
/// type, level.
const FILTERS: usize = 5;
/// Index of the address type filter, and of the level filter.
const TYPE: usize = 3;
const LEVEL: usize = 4;
const FILTER_ENABLE: u32 = 1 << 31;

#[derive(Clone, Copy, Default, Debug)]
struct Counter {
    /// PERFCNTRCFG, with EN.
    configuration: u64,
    filters: [u32; FILTERS],
    value: u64,
}

impl Counter {
    fn enabled(&self) -> bool {
        bit(self.configuration, 0)
    }

    fn selected(&self) -> u64 {
        bits(self.configuration, 59, 32)
    }

    fn group(&self) -> usize {
        bits(self.configuration, 11, 8) as usize
    }

    fn counts(&self, happening: Happening) -> bool {
        let passes = |filter: usize, field: Option<u8>| {
            let filter = self.filters[filter];
            filter & FILTER_ENABLE == 0 || field.is_some_and(|field| filter & 1 << field != 0)
        };
        self.group() == happening.group
            && bit(self.selected(), happening.event)
            && passes(TYPE, happening.address_type)
            && passes(LEVEL, happening.level)
    }
}

/// All counters of a unit.
#[derive(Default, Debug)]
pub(crate) struct Counters {
    counters: Vec<Counter>,
    frozen: u64,
    overflowed: u64,
    /// PERFINTRSTS.PIS.
    interrupted: bool,
}

/// Why a counter cannot be enabled (§10.5): status code 16.
const REFUSED: u8 = 16;

impl Counters {
    pub(crate) fn new(perfmon: Option<Perfmon>) -> Self {
        let count = perfmon.map_or(0, |perfmon| usize::from(perfmon.counters));
        Self {
            counters: vec![Counter::default(); count],
            ..Self::default()
        }
    }

    /// Whether anybody counts.
    pub(crate) fn active(&self) -> bool {
        self.counters.iter().any(Counter::enabled)
    }

    /// All counters' bits.
    fn all(&self) -> u64 {
        u64::MAX >> (64 - self.counters.len().clamp(1, 64))
    }

    /// Carries out an enhanced command on counters; gives the status code.
    pub(crate) fn command(&mut self, command: u8, operand: u64, perfmon: &Perfmon) -> u8 {
        let all = self.all();
        let counter = usize::try_from(operand)
            .ok()
            .and_then(|at| self.counters.get_mut(at));
        match (command, counter) {
            (240, Some(counter)) => {
                if !may_count(counter, perfmon) {
                    return REFUSED;
                }
                counter.configuration |= 1;
            }
            (241, Some(counter)) => {
                counter.configuration &= !1;
                self.frozen &= !(1 << operand);
            }
            (240 | 241, None) => return REFUSED,
            (242, _) => {
                for counter in &mut self.counters {
                    (counter.configuration, counter.filters) = (0, [0; FILTERS]);
                }
                (self.frozen, self.overflowed) = (0, 0);
            }
            (243, _) => self.counters.iter_mut().for_each(|held| held.value = 0),
            (244, _) => self.frozen = all,
            (245, _) => self.frozen = 0,
            _ => return super::enhanced::UNDEFINED,
        }
        0
    }

    /// Counts; says whether an interrupt is asked for.
    fn count(&mut self, happening: Happening, perfmon: &Perfmon) -> bool {
        let mut interrupt = false;
        let limit = u64::MAX >> (64 - perfmon.width.clamp(1, 64));
        for at in 0..self.counters.len() {
            let counter = &mut self.counters[at];
            if !counter.enabled() || bit(self.frozen, at as u8) || !counter.counts(happening) {
                continue;
            }
            counter.value = counter.value.wrapping_add(1) & limit;
            if counter.value == 0 {
                interrupt |= bit(counter.configuration, 1);
                let freezes = bit(counter.configuration, 2);
                self.overflowed |= 1 << at;
                if freezes {
                    self.frozen = self.all();
                }
            }
        }
        interrupt
    }
}

/// The checks of §10.5.
fn may_count(counter: &Counter, perfmon: &Perfmon) -> bool {
    let (selected, group) = (counter.selected(), counter.group());
    let Some(supported) = EVENTS.get(group) else {
        return false;
    };
    let filtered = |filter: usize| counter.filters[filter] & FILTER_ENABLE != 0;
    let pairs = |filter: usize, with: &[u64; 5]| !filtered(filter) || selected & !with[group] == 0;
    let any = (0..FILTERS).any(filtered);
    selected != 0
        && selected & !supported == 0
        && !(any && selected.count_ones() > 1)
        && (!bit(counter.configuration, 1) || perfmon.interrupt_on_overflow)
        && (!bit(counter.configuration, 2) || perfmon.freeze_on_overflow)
        && !(0..TYPE).any(filtered)
        && pairs(TYPE, &WITH_TYPE)
        && pairs(LEVEL, &WITH_LEVEL)
}

/// A movable register of the counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// PERFINTRSTS.
    Status,
    /// PERFFRZSTS.
    Freeze,
    /// PERFOVFSTS.
    Overflow,
    /// PERFCNTRCFG of a counter.
    Configuration(usize),
    /// A filter of a counter.
    Filter(usize, usize),
    /// PERFCNTR.
    Value(usize),
}

impl Unit {
    /// Counts what happened.
    pub(crate) fn count(&mut self, world: &mut World, happenings: &[Happening]) {
        let Some(perfmon) = self.config.perfmon else {
            return;
        };
        for happening in happenings {
            let counters = &mut self.registers.counters;
            if counters.count(*happening, &perfmon)
                && !std::mem::replace(&mut counters.interrupted, true)
            {
                self.raise(world, Source::Performance);
            }
        }
    }

    /// Somewhere to note what happens, if anybody counts.
    pub(crate) fn happenings(&self) -> Option<Vec<Happening>> {
        self.registers.counters.active().then(Vec::new)
    }

    pub(crate) fn read_counter(&self, place: Place) -> u64 {
        let held = &self.registers.counters;
        let counter = |at: usize| held.counters.get(at).copied().unwrap_or_default();
        match place {
            Place::Status => u64::from(held.interrupted),
            Place::Freeze => held.frozen,
            Place::Overflow => held.overflowed,
            Place::Configuration(at) => counter(at).configuration,
            Place::Filter(at, filter) => u64::from(counter(at).filters[filter]),
            Place::Value(at) => counter(at).value,
        }
    }

    pub(crate) fn write_counter(&mut self, world: &mut World, place: Place, write: Write) {
        let Some(perfmon) = self.config.perfmon else {
            return;
        };
        self.counter_reserved(world, place, write, &perfmon);
        let limit = u64::MAX >> (64 - perfmon.width.clamp(1, 64));
        let held = &mut self.registers.counters;
        match place {
            Place::Status => {
                if write.value & 1 != 0 {
                    held.interrupted = false;
                    self.registers.performance_event.served();
                }
            }
            Place::Overflow => held.overflowed &= !write.value,
            Place::Freeze => {
                let message = "write of PERFFRZSTS, which is read-only";
                world.violate(Rule::Reserved, "§11.4.13.12", message);
            }
            Place::Configuration(at) | Place::Filter(at, _) | Place::Value(at) => {
                let counter = &mut held.counters[at];
                let writable = matches!(place, Place::Value(_)) && perfmon.writable_while_enabled;
                if counter.enabled() && !writable {
                    let message = format!("{place:?} written while counter {at} is enabled");
                    world.violate(Rule::Busy, "§11.4.13", message);
                    return;
                }
                match place {
                    Place::Configuration(_) => {
                        let value = write.over(counter.configuration);
                        counter.configuration = value & 0x0fff_ffff_0000_0f06;
                    }
                    Place::Filter(_, filter) => {
                        let mask = filter_fields(filter);
                        counter.filters[filter] = write.value as u32 & mask;
                    }
                    _ => counter.value = write.over(counter.value) & limit,
                }
            }
        }
    }

    fn counter_reserved(&self, world: &mut World, place: Place, write: Write, perfmon: &Perfmon) {
        let overflow = u64::from(!perfmon.interrupt_on_overflow) << 1
            | u64::from(!perfmon.freeze_on_overflow) << 2;
        let reserved = match place {
            Place::Status => 0xffff_fffe,
            Place::Configuration(_) => 0xf000_0000_ffff_f0f8 | overflow,
            Place::Filter(_, filter) => u64::from(!filter_fields(filter)),
            // Bits above the width may be written (§10.3).
            Place::Freeze | Place::Overflow | Place::Value(_) => 0,
        };
        let name = format!("{place:?}");
        self.reserved(world, &name, "§11.4.13", write.value, reserved);
    }
}

fn filter_fields(filter: usize) -> u32 {
    FILTER_ENABLE | [0xffff, 0xffff, 0x3f_ffff, 0x17, 0x1f][filter]
}
