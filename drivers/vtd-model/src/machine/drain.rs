//! Requests between translation and memory (§6.5.4): what was translated before an
//! invalidation may still be on its way, until a drain that covers it has completed.
//!
//! The pessimist keeps every translation that an invalidation took out of the IOTLB until
//! then. Requests of a device-TLB are drained by its own answers, which is modelled there.

use super::unit::Unit;
use super::world::World;
use crate::caches::{Range, Translation};

/// Which requests an IOTLB invalidation waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Drain {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
}

impl Drain {
    /// Both.
    pub(crate) const ALL: Self = Self {
        reads: true,
        writes: true,
    };
    /// Neither.
    pub(crate) const NONE: Self = Self {
        reads: false,
        writes: false,
    };

    /// DR and DW of a type 2 descriptor or of IOTLB: without meaning from version 2 on,
    /// where everything is always drained.
    pub(crate) fn asked(reads: bool, writes: bool, config: &crate::config::Config) -> Self {
        if config.major >= 2 {
            return Self::ALL;
        }
        Self {
            reads: reads && config.draining,
            writes: writes && config.draining,
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            reads: self.reads || other.reads,
            writes: self.writes || other.writes,
        }
    }
}

/// Whose requests: domain, PASID and input addresses, as far as they matter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drained {
    pub(crate) domain: Option<u16>,
    pub(crate) pasid: Option<u32>,
    pub(crate) range: Option<Range>,
}

/// Requests that used a translation which is no longer cached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Underway {
    pub(crate) source: u16,
    pub(crate) key: u32,
    pub(crate) address: u64,
    pub(crate) entry: Translation,
    /// What the next wait descriptor waits for.
    pub(crate) drained: Drain,
}

impl Underway {
    fn is_of(&self, whose: &Drained) -> bool {
        let mapping = &self.entry.mapping;
        let last = if mapping.is_unity() {
            u64::MAX
        } else {
            self.address | ((1 << mapping.shift) - 1)
        };
        // A range names addresses of one stage; what both take part in goes by domain.
        let meets = |range: Range| mapping.has_first || range.overlaps(self.address, last);
        whose
            .domain
            .is_none_or(|domain| domain == self.entry.domain)
            && whose.pasid.is_none_or(|pasid| pasid == self.entry.pasid)
            && whose.range.is_none_or(meets)
    }
}

impl Unit {
    /// An invalidation took translations out of the IOTLB: requests that used them are
    /// under way, and those that it names will be drained as it says.
    pub(crate) fn invalidated(&mut self, world: &World, whose: Drained, drain: Drain) {
        let buried = self.caches.iotlb.exhume();
        self.drain_posted(&whose, drain);
        if !world.pessimist || !self.config.draining {
            return;
        }
        self.underway.extend(
            buried
                .into_iter()
                .filter(|(.., entry)| entry.fault.is_none())
                .map(|(source, key, address, entry)| Underway {
                    source,
                    key,
                    address,
                    entry,
                    drained: Drain::NONE,
                }),
        );
        for held in self.underway.iter_mut().filter(|held| held.is_of(&whose)) {
            held.drained = held.drained.or(drain);
        }
    }

    /// A wait descriptor completes, or a register command: what was to be drained has
    /// arrived.
    pub(crate) fn drains_complete(&mut self) {
        self.underway.retain(|held| held.drained != Drain::ALL);
        self.land_drained();
    }
}
