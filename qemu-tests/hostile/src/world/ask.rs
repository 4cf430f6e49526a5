//! Devices that ask for pages (§7.4): what they ask of whom, what their guests read of it, and
//! the answers, of which every group gets one.
//!
//! A device asks while the hypervisor has it programmed so. What it asks is up to its guest, so
//! most of it is nonsense: groups that never end, that share a number, for PASIDs that are
//! another's, for pages that are there already.

use super::table::LEAVES;
use super::{Life, World, device_id};
use crate::belief::Told;
use crate::ram::lock;
use iommu_abi::{
    FaultEvent, FaultEventKind, FaultRead, FromBytes, LinuxFaultPageRequest, LinuxFaultRead,
    LinuxFaultType, NO_ID, Op,
};
use iommu_core::{AtsCapability, SourceId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use vtd_model::{Machine, PageRequest};

/// Events that one call reads at most.
const MOST_EVENTS: u32 = 16;

/// What all devices have asked so far, and what is owed to them.
#[derive(Default)]
pub(super) struct Asking(Mutex<Ledger>);

#[derive(Default)]
struct Ledger {
    /// Answers that are owed: by who asked, its PASID and its group.
    owed: BTreeMap<(u16, Option<u32>, u16), u64>,
    /// On whose behalf (by number of its life) which device asked for which page, in which
    /// group.
    asked: BTreeSet<(u32, u16, u64, u32)>,
    /// Groups so far.
    groups: u64,
}

/// A page request as its guest reads of it.
struct Event {
    told: Told,
    page: u64,
    last: bool,
}

impl World {
    /// Lets a device that was just assigned ask, if it is of that kind. Says whether it may.
    pub(super) fn let_ask(&self, device: usize, guest: usize) -> bool {
        let state = &self.devices[device];
        let ats = AtsCapability {
            queue_depth: 0,
            physical_function: SourceId::from_bits(state.source),
        };
        let vm = self.guests[guest].vm;
        self.setting.devices[device].asks
            && self.iommu.allow_page_requests(vm, state.id, ats).is_ok()
    }

    /// Whether a device goes by translations of its own now.
    pub(super) fn caches(&self, device: usize) -> bool {
        let plan = &self.setting.devices[device];
        let on = || self.around.while_asking(plan.source, || ()).is_some();
        plan.late.is_some() && (!plan.asks || on())
    }

    /// A device asks for a few pages, if it may.
    pub(super) fn ask(&self, device: usize, random: &mut fastrand::Rng) {
        let source = self.devices[device].source;
        let guest = *lock(&self.devices[device].guest);
        let Some(guest) = guest else { return };
        let Some(life) = self.life(guest) else { return };
        let Some(requests) = self.group(device, guest, &life, random) else {
            return;
        };
        self.around.while_asking(source, || {
            let Some(owner) = super::number_of(*lock(&self.devices[device].owner)) else {
                return;
            };
            self.note_asked(owner, &requests);
            self.floor.model.as_hardware(|machine| {
                for request in &requests {
                    machine.page_request(request);
                }
            });
        });
        self.take_answers();
    }

    /// Requests of a group, which need not be whole. Seldom any where nothing is bound.
    fn group(
        &self,
        device: usize,
        guest: usize,
        life: &Life,
        random: &mut fastrand::Rng,
    ) -> Option<Vec<PageRequest>> {
        let plan = &self.setting.devices[device];
        let pasid = self.asks_for(plan.source, life, random)?;
        let unit = &self.setting.units[plan.unit];
        if let Some(pasid) = pasid.filter(|_| unit.config.stop_markers && random.u8(..16) == 0) {
            return Some(vec![PageRequest::stop_marker(plan.source, pasid)]);
        }
        let polite = self.setting.guests[guest].polite;
        let group = if polite {
            // A device that makes no mistake does not use a number twice at a time.
            (lock(&self.asking.0).groups % 512) as u16
        } else {
            random.u16(..12)
        };
        let whole = random.u8(..8) != 0;
        let count = 1 + random.usize(..4);
        let requests = (0..count)
            .map(|place| PageRequest {
                source: plan.source,
                pasid,
                address: match random.u8(..16) {
                    0 => random.u64(..) & !0xfff,
                    _ => LEAVES[random.usize(..LEAVES.len())] << 12,
                },
                read: true,
                write: random.bool(),
                execute: false,
                privileged: random.u8(..16) == 0,
                group,
                last: whole && place + 1 == count,
            })
            .collect();
        Some(requests)
    }

    /// Mostly a slot that is bound: by which PASID of the host, if any.
    fn asks_for(
        &self,
        source: u16,
        life: &Life,
        random: &mut fastrand::Rng,
    ) -> Option<Option<u32>> {
        let belief = lock(&life.belief).clone();
        let mut devices = belief.devices.iter();
        let handle = devices.find(|known| known.source == source)?.handle;
        let bound = |pasid: bool| {
            let mut slots = belief.bound.iter();
            slots.any(|slot| slot.device == handle && slot.pasid.is_some() == pasid)
        };
        match (bound(false), bound(true), random.u8(..16)) {
            (false, false, chance) => match (random.u8(..8), chance < 8) {
                (0, true) => Some(None),
                (0, false) => Some(Some(random.u32(1..16))),
                _ => None,
            },
            (.., 0) => Some(Some(random.u32(1..16))),
            (true, false, _) | (true, true, 1..9) => Some(None),
            // The host's number of it the guest does not know either.
            _ => Some(random.choice(self.sharing.of(life.owner))),
        }
    }

    fn note_asked(&self, owner: u32, requests: &[PageRequest]) {
        let mut ledger = lock(&self.asking.0);
        let mut tally = lock(&self.tally);
        for request in requests.iter().filter(|request| request.read) {
            let (source, group) = (request.source, request.group);
            let page = request.address & !0xfff;
            ledger.asked.insert((owner, source, page, group.into()));
            tally.asked += 1;
            if request.last {
                ledger.groups += 1;
                tally.groups += 1;
                *ledger
                    .owed
                    .entry((source, request.pasid, group))
                    .or_default() += 1;
            }
        }
    }

    /// Answers reach devices. Nobody is answered who is owed nothing.
    pub(super) fn take_answers(&self) {
        let answers = self.floor.model.as_hardware(Machine::take_responses);
        for answer in answers {
            let key = (answer.source, answer.pasid, answer.group);
            let owed = {
                let mut ledger = lock(&self.asking.0);
                let owed = ledger.owed.entry(key).or_default();
                std::mem::replace(owed, owed.saturating_sub(1))
            };
            if owed == 0 && !self.setting.sick {
                self.find(format!("nobody asked, and was answered: {answer:x?}"));
            }
            let mut tally = lock(&self.tally);
            if answer.automatic {
                tally.answered_by_units += 1;
            } else {
                tally.answered_by_software += 1;
            }
        }
    }

    /// The hypervisor takes requests from the units.
    pub(super) fn serve_page_requests(&self) -> String {
        let served = self.iommu.serve_page_requests();
        self.take_answers();
        format!(
            "{} page requests, {} groups told, {} answered",
            served.requests, served.told, served.answered
        )
    }

    /// All that was under way arrives, and nobody waits any more. Guests are gone.
    pub(super) fn end_asking(&self) {
        for _ in 0..4 {
            self.floor.model.as_hardware(|machine| machine.settle(64));
            self.serve_page_requests();
        }
        let ledger = lock(&self.asking.0);
        let waiting = ledger.owed.iter().find(|(_, count)| **count != 0);
        if let Some(((source, pasid, group), count)) = waiting.filter(|_| !self.setting.sick) {
            self.find(format!(
                "when all guests are gone, {} waits for {count} answers, PASID {pasid:?}, group {group}",
                device_id(*source)
            ));
        }
    }

    /// A guest looks at the events that a call gave it.
    pub(crate) fn read_events(&self, guest: usize, life: &Life, op: Op, back: &[u8]) {
        let events = match op {
            Op::FaultRead => native(life, back),
            Op::LinuxFaultRead => of_linux(life, back),
            _ => return,
        };
        let mut belief = lock(&life.belief);
        for Event { told, page, last } in events {
            if last {
                belief.tell(told);
                lock(&self.tally).told += 1;
            }
            let known = belief.devices.iter();
            let source = known.filter(|known| known.handle == told.device);
            let source = source.map(|known| known.source).next();
            // Who does harm may have overwritten what it reads.
            let Some(owner) = life.number().filter(|_| self.setting.guests[guest].polite) else {
                continue;
            };
            let asked = source.is_some_and(|source| {
                let ledger = lock(&self.asking.0);
                ledger.asked.contains(&(owner, source, page, told.group))
            });
            if !asked {
                self.find(format!(
                    "guest {guest} reads of {page:#x} in {told:?}, which its device did not ask for"
                ));
            }
        }
    }
}

fn native(life: &Life, back: &[u8]) -> Vec<Event> {
    let Ok((read, _)) = FaultRead::read_from_prefix(back) else {
        return Vec::new();
    };
    let element = read.entry_size.into();
    let events = elements::<FaultEvent>(life, read.buffer, element, read.count);
    let asked = events
        .into_iter()
        .filter(|event| event.kind == FaultEventKind::PageRequest.as_u32());
    asked
        .map(|event| Event {
            told: Told {
                device: event.device_id,
                pasid: (event.flags & FaultEvent::PASID != 0).then_some(event.pasid),
                group: event.group,
                cookie: event.cookie,
                queue: read.queue_id,
            },
            page: event.address,
            last: event.flags & FaultEvent::LAST != 0,
        })
        .collect()
}

fn of_linux(life: &Life, back: &[u8]) -> Vec<Event> {
    type Request = LinuxFaultPageRequest;
    let Ok((read, _)) = LinuxFaultRead::read_from_prefix(back) else {
        return Vec::new();
    };
    let events = elements::<Request>(life, read.buffer, 64, read.count);
    let asked = events
        .into_iter()
        .filter(|event| event.kind == LinuxFaultType::PageReq.as_u32());
    asked
        .map(|event| Event {
            told: Told {
                device: read.device_id,
                pasid: (event.flags & Request::PASID_VALID != 0).then_some(event.pasid),
                group: event.grpid,
                cookie: 0,
                queue: NO_ID,
            },
            page: event.addr,
            last: event.flags & Request::LAST_PAGE != 0,
        })
        .collect()
}

/// What a call wrote into the guest's memory.
fn elements<E: FromBytes>(life: &Life, buffer: u64, element: u64, count: u32) -> Vec<E> {
    (0..u64::from(count.min(MOST_EVENTS)))
        .filter_map(|place| {
            let at = buffer.wrapping_add(element.wrapping_mul(place));
            E::read_from_bytes(&life.ram.read(at, size_of::<E>())).ok()
        })
        .collect()
}
