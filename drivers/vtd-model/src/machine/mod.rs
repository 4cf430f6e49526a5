//! A machine: memory, units, devices, an oracle, and the public face of the model.

/// The parts of a machine that an exploration of one unit borrows.
macro_rules! surroundings {
    ($machine:ident, $unit:ident) => {
        crate::machine::prefetch::Surroundings {
            unit: &mut $machine.units[$unit],
            world: &$machine.world,
            devices: &mut $machine.devices,
        }
    };
}

mod build;
mod device;
pub(crate) mod drain;
mod face;
mod memory;
pub(crate) mod posted;
mod prefetch;
mod time;
mod translation;
pub(crate) mod unit;
pub(crate) mod world;

pub use build::Builder;
pub use device::Promptness;
pub use translation::Translations;
pub use world::{Freedom, Message, Origin};

use crate::oracle::Oracle;
use device::Device;
use prefetch::Prefetch;
pub(crate) use prefetch::{Discovered, Permitted};
use std::collections::BTreeMap;
use unit::Unit;
use world::World;

/// Remapping hardware with everything around it.
///
/// Made by [`Machine::builder`]. All functions take `&mut self`: an adapter that serves
/// several threads puts the machine behind a lock.
pub struct Machine {
    pub(crate) world: World,
    pub(crate) units: Vec<Unit>,
    pub(crate) devices: BTreeMap<u16, Device>,
    pub(crate) oracle: Oracle,
    /// Pessimist only: what each unit may have cached, by unit.
    prefetch: Vec<Prefetch>,
    /// Ticks after which an unanswered device-TLB invalidation times out.
    patience: u64,
    responses: Vec<crate::faults::page_request::PageResponse>,
}

impl Machine {
    pub(crate) fn prefetch_of(&self, unit: usize) -> &Prefetch {
        &self.prefetch[unit]
    }

    pub(crate) fn take_broken_rules(&mut self, unit: usize) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.prefetch[unit].broken)
    }

    /// Whether any unit may read this frame as a table.
    pub(crate) fn serves_any(&self, frame: u64) -> bool {
        self.prefetch
            .iter()
            .zip(&self.units)
            .any(|(prefetch, unit)| prefetch.serves(unit, frame).is_some())
    }
}
