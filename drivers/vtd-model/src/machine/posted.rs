//! Posted writes that are on their way (§6.5.4): translated now, in memory later.
//!
//! In the random mode one lands after some ticks, or when a drain covers it; in the
//! pessimist mode only then.

use super::Machine;
use super::drain::{Drain, Drained};
use super::prefetch::serving;
use super::unit::Unit;
use crate::caches::Range;
use crate::oracle::{Owner, name};
use crate::remapping::Request;
use crate::violation::Rule;

/// A write between translation and memory.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    source: u16,
    pasid: Option<u32>,
    address: u64,
    /// Domain id and PASID that its translation was tagged with, and whether a first stage
    /// took part; unknown without tables, and then any drain covers it.
    tags: Option<(u16, u32, bool)>,
    target: u64,
    bytes: Vec<u8>,
    drained: bool,
}

impl Posted {
    fn is_of(&self, whose: &Drained) -> bool {
        let Some((domain, pasid, has_first)) = self.tags else {
            return true;
        };
        let last = self.address + (self.bytes.len() as u64).saturating_sub(1);
        let meets = |range: Range| has_first || range.overlaps(self.address, last);
        whose.domain.is_none_or(|wanted| wanted == domain)
            && whose.pasid.is_none_or(|wanted| wanted == pasid)
            && whose.range.is_none_or(meets)
    }
}

impl Unit {
    /// A drain covers these writes: they land when it ends.
    pub(crate) fn drain_posted(&mut self, whose: &Drained, drain: Drain) {
        for posted in &mut self.posted {
            posted.drained |= drain.writes && posted.is_of(whose);
        }
    }

    /// The drain ends.
    pub(crate) fn land_drained(&mut self) {
        self.landing
            .extend(self.posted.extract_if(.., |posted| posted.drained));
    }
}

impl Machine {
    /// A device posts a write within one page: translated at once, in memory later. False
    /// if it is blocked. [`Machine::dma_write`] lands at once instead.
    pub fn post_write(
        &mut self,
        source: u16,
        pasid: Option<u32>,
        address: u64,
        bytes: &[u8],
    ) -> bool {
        let request = Request {
            pasid,
            ..Request::write(source, address)
        };
        let Some(target) = self.request(&request).address() else {
            return false;
        };
        let Some(unit) = self.unit_of(source) else {
            return false;
        };
        let tags = serving(&self.units[unit], &self.world, source, pasid);
        self.units[unit].posted.push(Posted {
            source,
            pasid,
            address,
            tags,
            target,
            bytes: bytes.to_vec(),
            drained: false,
        });
        true
    }

    /// Writes that have not landed yet.
    pub fn posted(&self) -> usize {
        self.units.iter().map(|unit| unit.posted.len()).sum()
    }

    /// Writes whose time has come reach memory; each must still be its owner's.
    pub(crate) fn land(&mut self, unit: usize) {
        for posted in std::mem::take(&mut self.units[unit].landing) {
            let last = posted.target + (posted.bytes.len() as u64).saturating_sub(1);
            self.landed_contained(&posted, last);
            self.write_bytes(posted.target, &posted.bytes);
        }
    }

    /// Random mode: any of them may land at any time.
    pub(crate) fn land_at_random(&mut self, unit: usize) {
        if self.world.pessimist || self.units[unit].posted.is_empty() {
            return;
        }
        let at = self.world.random.usize(..self.units[unit].posted.len());
        if self.world.random.u8(..4) == 0 {
            let posted = self.units[unit].posted.remove(at);
            self.units[unit].landing.push(posted);
        }
        self.land(unit);
    }

    fn landed_contained(&mut self, posted: &Posted, last: u64) {
        let ownership = &self.oracle.ownership;
        let Some(owner) = ownership.owner(posted.source, posted.pasid) else {
            return;
        };
        let foreign = ownership.foreign(posted.target, last, &[owner]);
        let Some((frame, other)) =
            foreign.filter(|(_, other)| owner != Owner::Host || *other == Owner::Nobody)
        else {
            return;
        };
        let message = format!(
            "a write of {} (of {owner:?}) to {:#x}, translated earlier, lands at {frame:#x}, which belongs to {other:?} by now: \
             needed before the memory changed hands: a drain of writes (DW, or type 6) that covers it, and a wait for it",
            name(posted.source),
            posted.address,
        );
        self.world.violate(Rule::Containment, "§6.5.4", message);
    }
}
