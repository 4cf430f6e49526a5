//! Availability: what must work, and what must have stayed cached.

use super::judge::name;
use crate::caches::{Caches, NO_PASID};
use crate::choice::Chooser;
use crate::machine::Machine;
use crate::remapping::{Effects, Outcome, Walker};
use crate::violation::Rule;

/// A mapping that the driver has promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Expectation {
    pub(crate) source: u16,
    pub(crate) pasid: Option<u32>,
    pub(crate) address: u64,
    pub(crate) bytes: u64,
    pub(crate) target: u64,
    pub(crate) write: bool,
}

/// A moment, to ask later what has stayed cached since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(pub(super) u64);

impl Machine {
    /// From now on requests of this source to `address..address + bytes` must reach
    /// `target` onwards, writes too if `write`. Checked now, after every step that touches
    /// their tables, and by [`Machine::sweep`].
    pub fn expect(
        &mut self,
        source: u16,
        pasid: Option<u32>,
        address: u64,
        bytes: u64,
        target: u64,
        write: bool,
    ) {
        let expectation = Expectation {
            source,
            pasid,
            address,
            bytes,
            target,
            write,
        };
        self.check_expectation(&expectation, true);
        self.oracle.expectations.push(expectation);
    }

    /// Ends every expectation that touches `address..address + bytes` of this source: the
    /// driver is about to unmap.
    pub fn release(&mut self, source: u16, pasid: Option<u32>, address: u64, bytes: u64) {
        self.oracle.expectations.retain(|held| {
            let apart = held.address + held.bytes <= address || address + bytes <= held.address;
            held.source != source || held.pasid != pasid || apart
        });
    }

    /// Checks everything: every expectation, page by page, and every cached translation.
    pub fn sweep(&mut self) {
        for unit in 0..self.units.len() {
            self.rebuild_unit(unit);
        }
        for expectation in self.oracle.expectations.clone() {
            self.check_expectation(&expectation, true);
        }
        self.check_frames(0, u64::MAX);
    }

    /// After a store: the pages of each expectation whose tables lie near it.
    pub(crate) fn expectations_near(&mut self, hpa: u64, _len: u64) {
        if self.oracle.expectations.is_empty() || !self.serves_any(hpa >> 12) {
            return;
        }
        for expectation in self.oracle.expectations.clone() {
            self.check_expectation(&expectation, false);
        }
    }

    fn check_expectation(&mut self, expectation: &Expectation, every_page: bool) {
        let pages = expectation.bytes.div_ceil(0x1000).max(1);
        let some = [0, pages / 2, pages - 1];
        let all = if every_page { 0..pages } else { 0..0 };
        for page in all.chain(some.into_iter().filter(|_| !every_page)) {
            self.check_page(expectation, page * 0x1000);
        }
    }

    fn check_page(&mut self, expectation: &Expectation, offset: u64) {
        let accesses = if expectation.write {
            &Self::ACCESSES[..]
        } else {
            &Self::ACCESSES[..1]
        };
        for access in accesses {
            let request = Self::plain(
                expectation.source,
                expectation.pasid,
                expectation.address + offset,
                *access,
            );
            let expected = Outcome::Memory {
                address: expectation.target + offset,
            };
            let wrong = self
                .possible(&request)
                .into_iter()
                .find(|outcome| *outcome != expected);
            if let Some(wrong) = wrong
                && self.oracle.told.insert((
                    expectation.source,
                    expectation.pasid.unwrap_or(NO_PASID),
                    request.address,
                    u64::MAX,
                ))
            {
                let message = format!(
                    "{:?} of {}{} at {:#x} must reach {:#x}, and may end as {wrong:?}",
                    access,
                    name(expectation.source),
                    expectation
                        .pasid
                        .map_or(String::new(), |pasid| format!(" with PASID {pasid:#x}")),
                    request.address,
                    expectation.target + offset,
                );
                self.world.violate(Rule::Availability, "§3.4", message);
            }
        }
    }

    /// Marks this moment.
    pub fn mark(&mut self) -> Mark {
        let mark = Mark(self.world.step);
        self.world.step += 1;
        mark
    }

    /// Whether a translation of this page has been in the unit's IOTLB without a break
    /// since the mark (pessimist mode, where everything that may be cached is).
    pub fn survived(&self, mark: Mark, source: u16, pasid: Option<u32>, address: u64) -> bool {
        let unit = self.unit_of(source).unwrap_or(0);
        self.units
            .get(unit)
            .is_some_and(|unit| unit.caches.survived(source, pasid, address, mark.0))
    }

    /// Demands that a translation outside of what was invalidated is still cached.
    pub fn must_have_survived(
        &mut self,
        mark: Mark,
        source: u16,
        pasid: Option<u32>,
        address: u64,
    ) {
        if !self.survived(mark, source, pasid, address) {
            let message = format!(
                "the translation of {address:#x} for {} was invalidated without need",
                name(source)
            );
            self.world.violate(Rule::TooMuch, "", message);
        }
    }

    /// Where memory alone, without any cache, leads this request.
    pub(crate) fn uncached(
        &self,
        unit: usize,
        source: u16,
        pasid: Option<u32>,
        address: u64,
    ) -> Option<u64> {
        let unit = &self.units[unit];
        let nothing = Caches::default();
        Self::ACCESSES.iter().find_map(|access| {
            let mut explorer = crate::choice::Explorer::default();
            let mut effects = Effects::default();
            let walker = unit.walker(&self.world, Chooser::Explore(&mut explorer), &mut effects);
            let mut walker = Walker {
                caches: &nothing,
                ..walker
            };
            walker
                .answer(&Self::plain(source, pasid, address, *access))
                .address()
        })
    }
}
