//! Page requests on their way into the queue (§7.4.1, §7.5).

use super::page_request::{PageRequest, PageResponse};
use super::{Condition, Record, RecordKind};
use crate::caches::Range;
use crate::choice::Chooser;
use crate::machine::drain::{Drain, Drained};
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::registers::{Happening, Removal, Source};
use crate::remapping::{Effects, Mode};
use crate::tables::pasid::{Entry, Granular};
use crate::violation::Rule;

const SLOT: u64 = 32;
/// Ticks that the pessimist keeps a request on its way, unless it is drained.
const HELD_BACK: u64 = 16;

impl Unit {
    /// A page request arrives. Gives the answer that hardware makes up by itself, if any
    /// (table 31), and what its implicit invalidation removed (table 27).
    pub(crate) fn receive_page_request(
        &mut self,
        world: &mut World,
        request: &PageRequest,
    ) -> (Option<PageResponse>, Removal) {
        let answer = |code| {
            let owed = request.last && !request.is_stop_marker();
            owed.then_some(PageResponse {
                source: request.source,
                pasid: request.pasid,
                group: request.group,
                code,
                automatic: true,
            })
        };
        let entry = match self.page_request_entry(world, request) {
            Ok(entry) => entry,
            Err(()) => return (answer(1), Removal::Nothing),
        };
        let queue = &mut self.registers.page_queue;
        if queue.overflow {
            self.count_overflow(world, request);
            return (answer(0), Removal::Nothing);
        }
        if queue.is_full() {
            if request.is_stop_marker() {
                if !self.config.stop_markers {
                    world.violate(
                        Rule::Order,
                        "§11.4.3",
                        "a stop marker meets a full page request queue, and SMS is 0",
                    );
                }
                return (None, Removal::Nothing);
            }
            let fresh = !queue.pending;
            queue.overflow = true;
            if fresh {
                self.raise(world, Source::PageRequest);
            }
            self.count_overflow(world, request);
            return (answer(0), Removal::Nothing);
        }
        self.count(world, &[Happening::PAGE_REQUEST_POSTED]);
        let removal = self.implicit_invalidation(world, &entry, request);
        let arrived = world.time;
        self.registers
            .page_queue
            .accepted
            .push((request.words(), arrived));
        (None, removal)
    }

    /// An answer was made up because the queue had no place.
    fn count_overflow(&mut self, world: &mut World, request: &PageRequest) {
        if request.last {
            self.count(world, &[Happening::PAGE_REQUEST_OVERFLOW]);
        }
    }

    /// How many requests a tick of the pessimist's writes: those that have been under way for
    /// as long as it can hold them back; all where nothing could drain them.
    pub(crate) fn due_page_requests(&self, world: &World) -> usize {
        let drained = self.config.page_request_drain;
        let due = |arrived: u64| !drained || arrived + HELD_BACK <= world.time;
        let accepted = &self.registers.page_queue.accepted;
        accepted.iter().take_while(|(_, at)| due(*at)).count()
    }

    /// Writes up to `most` accepted requests where software sees them.
    pub(crate) fn deliver_page_requests(&mut self, world: &mut World, most: usize) {
        let count = self.registers.page_queue.accepted.len().min(most);
        let accepted = self.registers.page_queue.accepted.drain(..count);
        let words: Vec<_> = accepted.collect();
        for (request, _) in words {
            let queue = &mut self.registers.page_queue;
            let at = queue.base() + queue.tail;
            queue.tail = (queue.tail + SLOT) % queue.bytes();
            let fresh = !queue.pending && !queue.overflow;
            queue.pending = true;
            let bytes: Vec<u8> = request.iter().flat_map(|word| word.to_le_bytes()).collect();
            if world.hardware_store(at, &bytes).is_none() {
                world.violate(
                    Rule::Value,
                    "§11.4.11.3",
                    format!("page request queue at {at:#x} is no memory"),
                );
            }
            if fresh {
                self.raise(world, Source::PageRequest);
            }
        }
    }

    /// The PASID entry that serves the request; on a fault it is logged.
    fn page_request_entry(
        &mut self,
        world: &mut World,
        request: &PageRequest,
    ) -> Result<(Entry, u32), ()> {
        let mut effects = Effects::default();
        let mut random = std::mem::take(&mut world.random);
        let mut walker = self.walker(world, Chooser::Random(&mut random), &mut effects);
        let found = find_entry(&mut walker, request);
        let fpd = walker.fpd;
        world.random = random;
        found.map_err(|condition| {
            if !(fpd && condition.qualified()) {
                self.log(
                    world,
                    &Record {
                        condition,
                        source: request.source,
                        info: request.address,
                        pasid: request.pasid,
                        privileged: request.privileged,
                        execute: request.execute,
                        kind: RecordKind::PageRequest,
                        address_type: 0,
                    },
                );
            }
        })
    }

    /// §6.5.3.1: translations of the address go, so that the retry sees the tables.
    fn implicit_invalidation(
        &mut self,
        world: &World,
        entry: &(Entry, u32),
        request: &PageRequest,
    ) -> Removal {
        let (entry, tag) = entry;
        let range = Range::masked(request.address & !0xfff, 0);
        let domain = entry.domain;
        match entry.kind {
            Granular::First => self.caches.drop_pasid_pages(domain, *tag, range, false),
            Granular::Second | Granular::PassThrough => {
                self.caches.drop_domain_pages(domain, range, false)
            }
            Granular::Nested => self.caches.drop_domain(domain),
        }
        // Implicit: nothing is promised about draining (DR and DW are 0 in table 27).
        self.invalidated(world, Drained::default(), Drain::NONE);
        let range = (entry.kind != Granular::Nested).then_some(range);
        Removal::Domain {
            domain,
            range,
            first: entry.kind == Granular::First,
        }
    }
}

fn find_entry(
    walker: &mut crate::remapping::Walker<'_>,
    request: &PageRequest,
) -> Result<(Entry, u32), Condition> {
    if let Some(condition) = walker.latched.fault(walker.config) {
        return Err(condition);
    }
    if walker.latched.mode() == Mode::Legacy {
        return Err(Condition::Rta3);
    }
    let context = walker.scalable_context(request.source)?;
    if !context.page_requests {
        return Err(Condition::Sct8);
    }
    let (tag, _) = walker.tag(&context, request.pasid, false)?;
    let entry = walker.pasid_entry(request.source, &context, tag)?;
    Ok((entry, tag))
}
