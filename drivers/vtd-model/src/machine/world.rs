//! What the units of a machine share: memory, time, chance, and the list of violations.

use crate::memory::{HostMemory, Image};
use crate::violation::{Rule, Violation};
use std::sync::Arc;

/// How hardware's freedom is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freedom {
    /// Each choice is drawn from a seeded generator.
    Random(u64),
    /// Caches hold everything that they might, invalidations run as late and in as bad an
    /// order as allowed, and a request has the set of all its possible outcomes. The seed
    /// decides which of them `request` carries out.
    Pessimist(u64),
}

/// A message-signalled interrupt that arrives at the processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Address, with the upper 32 bits of FEUADDR and its like.
    pub address: u64,
    /// Data.
    pub data: u32,
    /// Who sent it.
    pub origin: Origin,
}

/// Where a message comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Fault event of a unit (§7.3).
    FaultEvent(usize),
    /// Invalidation completion event of a unit (§6.5.2.10).
    InvalidationEvent(usize),
    /// Page request event of a unit (§7.5).
    PageRequestEvent(usize),
    /// Performance monitoring event of a unit (§10.6).
    PerformanceEvent(usize),
    /// A device, unchanged by remapping.
    Device(u16),
    /// A device, through a remapping entry.
    Remapped(u16),
    /// Notification of a posted interrupt (§5.2.3).
    Notification(u16),
}

pub(crate) struct World {
    pub(crate) memory: Arc<dyn HostMemory>,
    pub(crate) image: Image,
    pub(crate) violations: Vec<Violation>,
    pub(crate) messages: Vec<Message>,
    /// Ticks.
    pub(crate) time: u64,
    /// Steps: everything that changes what hardware may do counts one.
    pub(crate) step: u64,
    pub(crate) random: fastrand::Rng,
    pub(crate) pessimist: bool,
}

/// More violations than this are counted by the first ones; a loop must not fill memory.
const MOST_VIOLATIONS: usize = 1000;

impl World {
    pub(crate) fn violate(
        &mut self,
        rule: Rule,
        section: &'static str,
        message: impl Into<String>,
    ) {
        if self.violations.len() < MOST_VIOLATIONS {
            self.violations
                .push(Violation::new(rule, section, message.into(), self.time));
        }
    }

    /// Hardware writes to memory, coherently.
    pub(crate) fn hardware_store(&mut self, hpa: u64, bytes: &[u8]) -> Option<()> {
        crate::memory::write_bytes(&*self.memory, hpa, bytes)?;
        self.image.stored(&*self.memory, hpa, bytes.len() as u64);
        Some(())
    }
}
