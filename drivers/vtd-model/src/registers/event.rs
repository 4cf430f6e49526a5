//! The control, data and address registers of the events (§11.4.7.2 to .5, §11.4.9.5 to
//! .8, §11.4.11.5 to .8, §11.4.13.8 to .11) and the logic behind them (§6.5.2.10, §7.3, §7.5).

use super::map::{Field, Source};
use crate::machine::unit::Unit;
use crate::machine::world::{Message, Origin, World};

const MASK: u32 = 1 << 31;
const PENDING: u32 = 1 << 30;

/// One set of event registers.
#[derive(Debug)]
pub(crate) struct Event {
    masked: bool,
    pending: bool,
    data: u32,
    address: u32,
    upper: u32,
}

impl Default for Event {
    fn default() -> Self {
        Self {
            masked: true,
            pending: false,
            data: 0,
            address: 0,
            upper: 0,
        }
    }
}

impl Event {
    pub(crate) fn read(&self, field: Field) -> u32 {
        match field {
            Field::Control => u32::from(self.masked) << 31 | u32::from(self.pending) << 30,
            Field::Data => self.data,
            Field::Address => self.address,
            Field::Upper => self.upper,
        }
    }

    /// A new condition: the message, if it may be sent at once.
    pub(crate) fn raise(&mut self) -> bool {
        self.pending = self.masked;
        !self.masked
    }

    /// Software has served every condition.
    pub(crate) fn served(&mut self) {
        self.pending = false;
    }
}

impl Unit {
    pub(crate) fn event(&self, source: Source) -> &Event {
        match source {
            Source::Fault => &self.registers.fault_event,
            Source::Invalidation => &self.registers.invalidation_event,
            Source::PageRequest => &self.registers.page_event,
            Source::Performance => &self.registers.performance_event,
        }
    }

    pub(crate) fn event_mut(&mut self, source: Source) -> &mut Event {
        match source {
            Source::Fault => &mut self.registers.fault_event,
            Source::Invalidation => &mut self.registers.invalidation_event,
            Source::PageRequest => &mut self.registers.page_event,
            Source::Performance => &mut self.registers.performance_event,
        }
    }

    /// Sends the event's message. It is never remapped (§5.1.6).
    pub(crate) fn send(&self, world: &mut World, source: Source) {
        let event = self.event(source);
        let origin = match source {
            Source::Fault => Origin::FaultEvent(self.index),
            Source::Invalidation => Origin::InvalidationEvent(self.index),
            Source::PageRequest => Origin::PageRequestEvent(self.index),
            Source::Performance => Origin::PerformanceEvent(self.index),
        };
        let address = u64::from(event.upper) << 32 | u64::from(event.address);
        world.messages.push(Message {
            address,
            data: event.data,
            origin,
        });
    }

    pub(crate) fn raise(&mut self, world: &mut World, source: Source) {
        if self.event_mut(source).raise() {
            self.send(world, source);
        }
    }

    pub(crate) fn write_event(
        &mut self,
        world: &mut World,
        source: Source,
        field: Field,
        value: u32,
    ) {
        let (name, section) = match source {
            Source::Fault => ("FE", "§11.4.7.2"),
            Source::Invalidation => ("IE", "§11.4.9.5"),
            Source::PageRequest => ("PE", "§11.4.11.5"),
            Source::Performance => ("PERFINTR", "§11.4.13.8"),
        };
        let reserved = match field {
            Field::Control => !(MASK | PENDING),
            Field::Data => 0xffff_0000,
            Field::Address => 3,
            Field::Upper => 0,
        };
        self.reserved(
            world,
            &format!("{name} {field:?}"),
            section,
            u64::from(value),
            u64::from(reserved),
        );
        let event = self.event_mut(source);
        match field {
            Field::Control => {
                event.masked = value & MASK != 0;
                if !event.masked && std::mem::take(&mut event.pending) {
                    self.send(world, source);
                }
            }
            Field::Data => event.data = value & !reserved,
            Field::Address => event.address = value & !reserved,
            Field::Upper => event.upper = value,
        }
    }
}
