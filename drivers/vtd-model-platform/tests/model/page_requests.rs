//! Devices that ask their guests for pages: from the touch of a page that is not mapped yet
//! to the answer, on nesting hardware and on shadows.

use crate::guest::ALL;
use crate::guests::{Change, House, Hypervisor, Tenant, Way};
use crate::rig::{FREEDOMS, device};
use iommu::{IommuError, PageRequestsServed, Quota};
use iommu_core::{AtsCapability, BackendError, Platform as _, ServiceError, SourceId, VmId};
use iommu_guest::{
    Capabilities, Errno, Error, Event, GuestPasid, PageGroup, PageRequest, Use, UserTable,
};
use std::sync::atomic::Ordering;
use vtd::{ModeRequest, PageRequestConfig};
use vtd_model::{
    Access, Config, Machine, Outcome, Owner, PageRequest as Asks, PageResponse, Promptness,
};

/// A function with a device-TLB.
const CACHING: u16 = 0x0420;

/// IQT (§11.4.9.2).
const QUEUE_TAIL: usize = 0x88;

/// What devices are told (§7.6.1).
pub(crate) const SUCCESS: u8 = 0;
pub(crate) const INVALID_REQUEST: u8 = 1;
const FAILURE: u8 = 15;

fn ways() -> Vec<Way> {
    let ats = Config::scalable_with_ats();
    let cannot_nest = Config {
        nested: false,
        ..ats.clone()
    };
    let second_only = Config {
        first_stage: false,
        first_stage_1g: false,
        first_stage_5_level: false,
        ..cannot_nest.clone()
    };
    let (first, second) = (ModeRequest::FirstStage, ModeRequest::SecondStage);
    vec![
        Way::nested("nested", ats.clone()),
        Way::nested("nested, all that a unit can have", Config::everything()),
        Way::nested(
            "nested, no drain of page requests",
            Config {
                page_request_drain: false,
                ..ats.clone()
            },
        ),
        Way::shadowed("shadowed by policy", ats, first).by_policy(),
        Way::shadowed("shadowed in a first stage", cannot_nest, first),
        Way::shadowed("shadowed in a second stage", second_only, second),
    ]
}

fn build<'h>(way: &Way, freedom: vtd_model::Freedom, host: &'h Hypervisor) -> House<'h> {
    House::with(way, freedom, host, |plan| {
        let mut plan = plan.ats_device(CACHING, 0, Promptness::Prompt);
        plan.page_requests = Some(PageRequestConfig {
            pages_log2: 0,
            message: None,
        });
        plan
    })
}

pub(crate) fn each(mut test: impl FnMut(&House)) {
    for way in ways() {
        for freedom in FREEDOMS {
            eprintln!("{}, {freedom:?}", way.name);
            let host = Hypervisor::default();
            let house = build(&way, freedom, &host);
            test(&house);
            house.assert_clean();
        }
    }
}

const ATS: AtsCapability = AtsCapability {
    queue_depth: 0,
    physical_function: SourceId::from_bits(CACHING),
};

/// A guest whose device may ask.
pub(crate) fn asking<'h>(house: &'h House<'h>, quota: Quota) -> Tenant<'h> {
    let tenant = house.guest_with(1, 64, CACHING, quota);
    house
        .iommu
        .allow_page_requests(tenant.vm, device(CACHING), ATS)
        .expect("it may ask");
    tenant
}

/// A table that the device asks for pages of, and the PASID that it is bound to.
pub(crate) struct Space {
    pub(crate) root: u64,
    pub(crate) table: UserTable,
    pub(crate) pasid: Option<GuestPasid>,
    /// The host's number of it: the lowest that is free.
    host_pasid: Option<u32>,
}

pub(crate) fn bound(tenant: &mut Tenant<'_>, by_pasid: bool) -> Space {
    let (root, table) = tenant.root();
    let pasid = by_pasid.then(|| {
        let first = tenant.client.allocate_pasid(500, 1000);
        first.expect("a PASID")
    });
    tenant
        .client
        .bind_asking(tenant.device, pasid, &table)
        .expect("bound");
    Space {
        root,
        table,
        pasid,
        host_pasid: by_pasid.then_some(1),
    }
}

pub(crate) fn each_space(quota: Quota, mut test: impl FnMut(&House, &mut Tenant<'_>, &Space)) {
    each(|house| {
        for by_pasid in [false, true] {
            let mut tenant = asking(house, quota);
            let space = bound(&mut tenant, by_pasid);
            test(house, &mut tenant, &space);
            house.iommu.destroy_guest(tenant.vm).expect("ended");
            for frame in tenant.guest.take_all() {
                house.platform.release(frame);
            }
            take_answers(house);
        }
    });
}

impl Space {
    pub(crate) fn asks(&self, address: u64, group: u16, last: bool) -> Asks {
        Asks {
            source: CACHING,
            pasid: self.host_pasid,
            address,
            read: true,
            write: true,
            execute: false,
            privileged: false,
            group,
            last,
        }
    }
}

/// Devices ask, and the hypervisor hears of it.
pub(crate) fn ask(house: &House, requests: &[Asks]) -> PageRequestsServed {
    for request in requests {
        house
            .platform
            .with_machine(|machine| machine.page_request(request));
    }
    house.platform.with_machine(|machine| machine.settle(100));
    house.iommu.serve_page_requests()
}

/// What devices were told since this was asked last: group, code, and by whom.
pub(crate) fn take_answers(house: &House) -> Vec<(u16, u8, bool)> {
    let told = |answer: PageResponse| (answer.group, answer.code, answer.automatic);
    taken(house).into_iter().map(told).collect()
}

fn taken(house: &House) -> Vec<PageResponse> {
    house.platform.with_machine(|machine| {
        machine.settle(100);
        Machine::take_responses(machine)
    })
}

pub(crate) fn events(tenant: &mut Tenant<'_>) -> Vec<PageRequest> {
    let mut all = Vec::new();
    tenant
        .client
        .read_events(|event| match event {
            Event::PageRequest(request) => all.push(request),
            other => panic!("{other:?}"),
        })
        .expect("events");
    all
}

/// The one group that the guest is told of.
pub(crate) fn group(tenant: &mut Tenant<'_>) -> PageGroup {
    let mut events = events(tenant);
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0).group.expect("the last of its group")
}

pub(crate) fn touch(house: &House, space: &Space, address: u64) -> Outcome {
    house.platform.with_machine(|machine| {
        machine.ats_access(CACHING, space.host_pasid, address, Access::Write)
    })
}

#[test]
fn a_device_touches_a_page_that_is_not_mapped_asks_and_goes_on_when_the_guest_has_mapped_it() {
    each_space(Quota::default(), |house, tenant, space| {
        for (round, page) in (3..6).enumerate() {
            let address = 0x7f00_1234_5000 + page * 0x1000;
            let touched = touch(house, space, address + 0x678);
            assert_eq!(touched.address(), None);
            let group = 40 + round as u16;
            assert_eq!(ask(house, &[space.asks(address, group, true)]).told, 1);
            // The guest's page-fault handler.
            let data = tenant.guest.data(page);
            for request in events(tenant) {
                assert_eq!(
                    (request.device, request.pasid),
                    (tenant.device, space.pasid)
                );
                assert_eq!(request.address, address);
                assert!(request.read && request.write && !request.privileged);
                tenant.guest.map(space.root, request.address, data, ALL);
                tenant.flush(&space.table, request.address, 1, Change::Mapped);
                let answer = request.group.expect("the last").served();
                assert_eq!(tenant.client.answer(&[answer]), Ok(1));
            }
            let answer = PageResponse {
                source: CACHING,
                pasid: space.host_pasid,
                group,
                code: SUCCESS,
                automatic: false,
            };
            assert_eq!(taken(house), [answer]);
            let again = touch(house, space, address + 0x678);
            let reached = tenant.guest.hpa(data).as_u64() + 0x678;
            assert_eq!(again.address(), Some(reached));
        }
    });
}

#[test]
fn a_group_is_told_whole_and_answered_once() {
    each_space(Quota::default(), |house, tenant, space| {
        let notified = house.host.notified.load(Ordering::Relaxed);
        let first = [
            space.asks(0x5000, 3, false),
            space.asks(0x9000, 4, false),
            space.asks(0x6000, 3, false),
        ];
        assert_eq!(ask(house, &first).told, 0);
        assert!(events(tenant).is_empty());
        let rest = [space.asks(0x7000, 3, true), space.asks(0xa000, 4, true)];
        assert_eq!(ask(house, &rest).told, 2);
        // The queue was empty once.
        let after = house.host.notified.load(Ordering::Relaxed);
        assert_eq!(after, notified + 1);
        let mut told = events(tenant);
        let pages: Vec<_> = told.iter().map(|request| request.address).collect();
        assert_eq!(pages, [0x5000, 0x6000, 0x7000, 0x9000, 0xa000]);
        let last: Vec<_> = told.iter().map(|request| request.group.is_some()).collect();
        assert_eq!(last, [false, false, true, false, true]);
        assert!(take_answers(house).is_empty(), "nobody has answered");
        let mut group = |place: usize| told[place].group.take().expect("last");
        let answers = [group(4).refused(), group(2).served()];
        assert_eq!(tenant.client.answer(&answers), Ok(2));
        assert_eq!(
            take_answers(house),
            [(4, INVALID_REQUEST, false), (3, SUCCESS, false)]
        );
        // Each cookie stands for one answer.
        assert_eq!(
            tenant.client.answer(&answers),
            Err(Error::AnswerRefused {
                index: 0,
                errno: Errno::ENOENT,
            })
        );
        assert!(take_answers(house).is_empty());
    });
}

#[test]
fn who_may_not_ask_is_refused_at_once() {
    each(|house| {
        let mut tenant = asking(house, Quota::default());
        let space = bound(&mut tenant, true);
        // A PASID that nobody has; one that is bound, but not for asking; the device itself.
        let (_, silent) = tenant.root();
        let other = tenant.client.allocate_pasid(1, 1).expect("a PASID");
        tenant.bind(Some(other), &silent);
        for pasid in [Some(9), Some(2), None] {
            let request = Asks {
                pasid,
                ..space.asks(0x5000, 7, true)
            };
            assert_eq!(ask(house, &[request]).told, 0);
            let answers = take_answers(house);
            let [(7, INVALID_REQUEST, _)] = answers[..] else {
                panic!("{pasid:?}: {answers:?}");
            };
            assert!(events(&mut tenant).is_empty());
        }
        assert_eq!(ask(house, &[space.asks(0x5000, 7, true)]).told, 1);
        let answer = group(&mut tenant).refused();
        tenant.client.answer(&[answer]).expect("answered");
        tenant.unbind(space.pasid);
        tenant.unbind(Some(other));
        // The unit says so itself where it has no entry for the requester.
        house.driver_faults();
    });
}

#[test]
fn however_many_requests_are_refused_they_cost_one_round() {
    each_space(Quota::default(), |house, tenant, space| {
        // Bound, and not for asking.
        let (_, silent) = tenant.root();
        tenant.unbind(space.pasid);
        tenant.bind(space.pasid, &silent);
        for (count, most) in [(1, 1_u32), (100, 100)] {
            let asked: Vec<_> = (0..count).map(|n| space.asks(0x5000, n, true)).collect();
            let rounds = || house.iommu.backend().statistics(0).expect("a unit").waits;
            let before = rounds();
            // Some are under way still, if it is left to chance.
            let served = ask(house, &asked);
            assert!((most.div_ceil(4)..=most).contains(&served.answered));
            assert_eq!(rounds(), before + 1);
            let answers = take_answers(house);
            assert_eq!(answers.len(), served.answered as usize);
            for (_, code, automatic) in answers {
                assert_eq!((code, automatic), (INVALID_REQUEST, false));
            }
            while house.iommu.serve_page_requests().requests != 0 {
                take_answers(house);
            }
        }
    });
}

#[test]
fn who_unbinds_does_not_wait_longer_because_others_ask_all_the_time() {
    each(|house| {
        let mut tenant = asking(house, Quota::default());
        let mut rounds = Vec::new();
        let (noisy, quiet) = (bound(&mut tenant, false), bound(&mut tenant, true));
        for floods in [false, true] {
            let flood: Vec<_> = (0..200).map(|n| noisy.asks(0x5000, n, true)).collect();
            // Whenever the unit is told something, its queue overflows.
            house.platform.before_writes(move |machine, _, offset, _| {
                if floods && offset == QUEUE_TAIL {
                    flood
                        .iter()
                        .for_each(|request| machine.page_request(request));
                    machine.settle(100);
                }
            });
            let waits = || house.iommu.backend().statistics(0).expect("a unit").waits;
            let before = waits();
            tenant.unbind(quiet.pasid);
            rounds.push(waits() - before);
            house.platform.before_writes(|_, _, _, _| ());
            house.iommu.serve_page_requests();
            take_answers(house);
            let again = tenant
                .client
                .bind_asking(tenant.device, quiet.pasid, &quiet.table);
            again.expect("bound");
        }
        // Each drain once more, and the answers to those that had no room.
        assert!(rounds[1] <= rounds[0] + 3, "{rounds:?}");
    });
}

#[test]
fn a_full_queue_makes_devices_try_again_and_leaves_a_mark() {
    let quota = Quota {
        fault_events: 4,
        ..Quota::default()
    };
    each_space(quota, |house, tenant, space| {
        let pair = |index| {
            [
                space.asks(0x5000, index, false),
                space.asks(0x6000, index, true),
            ]
        };
        assert_eq!(ask(house, &pair(1)).told, 1);
        assert_eq!(ask(house, &[space.asks(0x7000, 2, true)]).told, 1);
        // One place is left, and the group needs two.
        let served = ask(house, &pair(3));
        assert_eq!((served.told, served.answered), (0, 1));
        assert_eq!(take_answers(house), [(3, SUCCESS, false)]);
        let mut lost = 0;
        let mut groups = Vec::new();
        while groups.len() < 2 {
            let read = tenant.client.read_events(|event| {
                if let Event::PageRequest(request) = event {
                    groups.extend(request.group);
                }
            });
            lost += read.expect("events").lost;
        }
        assert_eq!(lost, 2);
        assert_eq!(ask(house, &pair(3)).told, 1);
        groups.push(
            events(tenant)
                .pop()
                .and_then(|last| last.group)
                .expect("last"),
        );
        let answers: Vec<_> = groups.into_iter().map(PageGroup::served).collect();
        assert_eq!(tenant.client.answer(&answers), Ok(3));
    });
}

#[test]
fn a_guest_that_does_not_answer_has_no_more_than_its_quota_waiting() {
    let quota = Quota {
        page_groups: 2,
        page_requests: 3,
        ..Quota::default()
    };
    each_space(quota, |house, tenant, space| {
        let groups: Vec<_> = (0..5).map(|n| space.asks(0x5000, n, true)).collect();
        let served = ask(house, &groups);
        assert_eq!((served.told, served.answered), (2, 3));
        let answers = take_answers(house);
        assert_eq!(answers, [2, 3, 4].map(|n| (n, SUCCESS, false)));
        // Groups of which a part had no room are not told in part.
        let torn: Vec<_> = (0..5).map(|n| space.asks(0x5000, 9, n == 4)).collect();
        let mut told = events(tenant);
        let answer = told.remove(0).group.expect("last").served();
        tenant.client.answer(&[answer]).expect("answered");
        take_answers(house);
        assert_eq!(ask(house, &torn).told, 0);
        assert_eq!(take_answers(house), [(9, SUCCESS, false)]);
        assert_eq!(ask(house, &torn[3..]).told, 1);
        assert_eq!(events(tenant).len(), 2);
    });
}

#[test]
fn more_requests_than_the_units_queue_holds_are_answered_all_the_same() {
    let quota = Quota {
        fault_events: 300,
        page_groups: 300,
        ..Quota::default()
    };
    each_space(quota, |house, tenant, space| {
        let many: Vec<_> = (0..200).map(|n| space.asks(0x5000, n, true)).collect();
        let mut served = ask(house, &many);
        let mut told = 0;
        while served.requests > 0 {
            told += served.told as usize;
            served = ask(house, &[]);
        }
        assert!((1..200).contains(&told), "{told}");
        let mut groups = Vec::new();
        while groups.len() < told {
            groups.extend(events(tenant).into_iter().filter_map(|event| event.group));
        }
        let mut answers: Vec<_> = groups.into_iter().map(PageGroup::refused).collect();
        while !answers.is_empty() {
            let given = tenant.client.answer(&answers).expect("answered");
            answers.drain(..given);
        }
        let mut answered = take_answers(house);
        answered.sort_unstable();
        let indices: Vec<u16> = answered.iter().map(|(group, ..)| *group).collect();
        assert_eq!(indices, (0..200).collect::<Vec<_>>());
        // What the unit had no room for, it told to come again.
        for (_, code, automatic) in answered {
            assert_eq!(code, if automatic { SUCCESS } else { INVALID_REQUEST });
        }
        assert_eq!(ask(house, &[space.asks(0x5000, 300, true)]).told, 1);
    });
}

#[test]
fn unbinding_answers_what_waits_and_leaves_nothing_under_way() {
    each_space(Quota::default(), |house, tenant, space| {
        assert_eq!(ask(house, &[space.asks(0x5000, 1, true)]).told, 1);
        let told = group(tenant);
        // A group that is not whole, and one that has not reached the queue.
        ask(house, &[space.asks(0x6000, 2, false)]);
        let late = space.asks(0x7000, 3, true);
        house
            .platform
            .with_machine(|machine| machine.page_request(&late));
        tenant.unbind(space.pasid);
        let mut answers = take_answers(house);
        answers.sort_unstable();
        let waited = |index| (index, INVALID_REQUEST, false);
        assert_eq!(answers, [waited(1), waited(3)]);
        // Nothing of before is taken for a request of the next table's.
        let asking = tenant
            .client
            .bind_asking(tenant.device, space.pasid, &space.table);
        asking.expect("bound");
        assert_eq!(house.iommu.serve_page_requests().requests, 0);
        assert!(events(tenant).is_empty());
        let answered = tenant.client.answer(&[told.served()]);
        assert_eq!(answered.unwrap_err().errno(), Some(Errno::ENOENT));
        // The rest of the torn group stands for itself.
        assert_eq!(ask(house, &[space.asks(0x8000, 2, true)]).told, 1);
        assert_eq!(events(tenant).len(), 1);
    });
}

#[test]
fn a_replaced_table_leaves_groups_to_be_answered() {
    each_space(Quota::default(), |house, tenant, space| {
        assert_eq!(ask(house, &[space.asks(0x5000, 1, true)]).told, 1);
        let told = group(tenant);
        let (_, other) = tenant.root();
        let (device, pasid) = (tenant.device, space.pasid);
        tenant
            .client
            .replace(device, pasid, &other)
            .expect("replaced");
        // The new one was not bound for asking.
        let served = ask(house, &[space.asks(0x5000, 2, true)]);
        assert_eq!((served.told, served.answered), (0, 1));
        assert_eq!(take_answers(house), [(2, INVALID_REQUEST, false)]);
        assert_eq!(tenant.client.answer(&[told.served()]), Ok(1));
        assert_eq!(take_answers(house), [(1, SUCCESS, false)]);
    });
}

#[test]
fn a_guest_that_dies_leaves_no_device_waiting_and_its_successor_nothing() {
    each(|house| {
        let mut tenant = asking(house, Quota::default());
        let space = bound(&mut tenant, true);
        assert_eq!(ask(house, &[space.asks(0x5000, 1, true)]).told, 1);
        ask(house, &[space.asks(0x6000, 2, false)]);
        let late = space.asks(0x7000, 3, true);
        house
            .platform
            .with_machine(|machine| machine.page_request(&late));
        assert_eq!(house.host.asking.load(Ordering::Relaxed), 1);
        house.iommu.destroy_guest(tenant.vm).expect("ended");
        assert_eq!(house.host.asking.load(Ordering::Relaxed), 0);
        let mut answers = take_answers(house);
        answers.sort_unstable();
        let waited = |index| (index, INVALID_REQUEST, false);
        assert_eq!(answers, [waited(1), waited(3)]);
        for frame in tenant.guest.take_all() {
            house.platform.release(frame);
        }
        // The next owner of the device and of the PASID hears of nothing.
        house
            .platform
            .with_machine(|machine| machine.assign(CACHING, None, Owner::Guest(1)));
        let mut successor = asking(house, Quota::default());
        let theirs = bound(&mut successor, true);
        assert_eq!(house.iommu.serve_page_requests().requests, 0);
        assert!(events(&mut successor).is_empty());
        assert_eq!(ask(house, &[theirs.asks(0x5000, 1, true)]).told, 1);
        assert_eq!(events(&mut successor).len(), 1);
        house.iommu.destroy_guest(successor.vm).expect("ended");
    });
}

#[test]
fn a_device_that_is_taken_back_does_not_ask_any_more() {
    each(|house| {
        let mut tenant = asking(house, Quota::default());
        let space = bound(&mut tenant, true);
        assert_eq!(ask(house, &[space.asks(0x5000, 1, true)]).told, 1);
        house
            .iommu
            .take_back(tenant.vm, device(CACHING))
            .expect("taken");
        assert_eq!(take_answers(house), [(1, INVALID_REQUEST, false)]);
        assert_eq!(house.host.asking.load(Ordering::Relaxed), 0);
        assert_eq!(ask(house, &[space.asks(0x5000, 1, true)]).requests, 0);
        let answers = take_answers(house);
        assert!(
            matches!(answers[..], [(1, INVALID_REQUEST, true)]),
            "{answers:?}"
        );
        house.driver_faults();
    });
}

#[test]
fn a_stop_marker_is_no_request() {
    each_space(Quota::default(), |house, tenant, space| {
        let Some(pasid) = space.host_pasid else {
            return;
        };
        let marker = Asks::stop_marker(CACHING, pasid);
        assert_eq!(ask(house, &[marker]), PageRequestsServed::default());
        assert!(take_answers(house).is_empty());
        assert!(events(tenant).is_empty());
        // The same with something to ask is one.
        let request = Asks {
            read: true,
            ..marker
        };
        assert_eq!(ask(house, &[request]).told, 1);
    });
}

#[test]
fn only_who_asks_for_itself_can_be_made_to_stop_asking() {
    for (physical, allowed) in [(CACHING, true), (0x0400, false)] {
        each(|house| {
            let mut tenant = house.guest(1, 64, CACHING);
            let ats = AtsCapability {
                physical_function: SourceId::from_bits(physical),
                ..ATS
            };
            house
                .iommu
                .allow_page_requests(tenant.vm, device(CACHING), ats)
                .expect("it may ask");
            let space = bound(&mut tenant, true);
            ask(house, &[space.asks(0x5000, 1, true)]);
            let answer = [group(&mut tenant).failed()];
            let given = tenant.client.answer(&answer);
            if allowed {
                assert_eq!(given, Ok(1));
                assert_eq!(take_answers(house), [(1, FAILURE, false)]);
            } else {
                assert_eq!(given.unwrap_err().errno(), Some(Errno::EOPNOTSUPP));
                assert!(take_answers(house).is_empty(), "it waits still");
            }
            tenant.unbind(space.pasid);
            take_answers(house);
        });
    }
}

#[test]
fn what_a_guest_is_told_of_asking_is_true() {
    each(|house| {
        let mut tenant = house.guest(1, 64, CACHING);
        let all = Capabilities::PAGE_REQUESTS;
        let (device_id, vm) = (tenant.device, tenant.vm);
        let missing = tenant
            .client
            .missing_for(Use::SharedVirtualAddressing, device_id);
        assert_eq!(missing, Ok(all));
        let (_, table) = tenant.root();
        let refused = tenant.client.bind_asking(device_id, None, &table);
        assert_eq!(refused.unwrap_err().errno(), Some(Errno::EOPNOTSUPP));
        // Not while something is bound, and not if the device cannot be made to.
        tenant.bind(None, &table);
        let allow = || house.iommu.allow_page_requests(vm, device(CACHING), ATS);
        assert_eq!(allow(), Err(IommuError::InUse(device(CACHING))));
        tenant.unbind(None);
        house.host.cannot_ask.store(true, Ordering::Relaxed);
        let silent = ServiceError::TimedOut(device(CACHING));
        assert_eq!(
            allow(),
            Err(IommuError::Backend(BackendError::Device(silent)))
        );
        house.host.cannot_ask.store(false, Ordering::Relaxed);
        let missing = tenant
            .client
            .missing_for(Use::SharedVirtualAddressing, device_id);
        assert_eq!(missing, Ok(all));
        assert_eq!(allow(), Ok(()));
        assert_eq!(allow(), Ok(()), "it may already");
        assert_eq!(house.host.asking.load(Ordering::Relaxed), 1);
        let missing = tenant
            .client
            .missing_for(Use::SharedVirtualAddressing, device_id);
        assert_eq!(missing, Ok(Capabilities::empty()));
        let described = tenant.client.device(device_id).expect("a device");
        assert!(described.capabilities.contains(all));
        tenant
            .client
            .bind_asking(device_id, None, &table)
            .expect("bound");
        tenant.unbind(None);
        let strange = house
            .iommu
            .allow_page_requests(VmId(1), device(crate::rig::ONE), ATS);
        assert_eq!(strange, Err(IommuError::NotOwned(device(crate::rig::ONE))));
    });
}

#[test]
fn a_unit_without_page_requests_lets_nobody_ask() {
    let host = Hypervisor::default();
    let way = Way::nested("nested", Config::scalable());
    let house = House::new(&way, FREEDOMS[0], &host);
    let mut tenant = house.guest(1, 64, crate::rig::ONE);
    let refused = house
        .iommu
        .allow_page_requests(tenant.vm, device(tenant.source), ATS);
    let unsupported = BackendError::Unsupported(device(tenant.source));
    assert_eq!(refused, Err(IommuError::Backend(unsupported)));
    let device_id = tenant.device;
    let missing = tenant
        .client
        .missing_for(Use::SharedVirtualAddressing, device_id);
    assert_eq!(missing, Ok(Capabilities::PAGE_REQUESTS));
}

#[test]
fn a_device_that_does_not_answer_cannot_keep_its_guest_from_dying() {
    for way in ways() {
        for freedom in FREEDOMS {
            let host = Hypervisor::default();
            let house = build(&way, freedom, &host);
            let mut tenant = asking(&house, Quota::default());
            let space = bound(&mut tenant, true);
            ask(&house, &[space.asks(0x5000, 1, true)]);
            house
                .platform
                .with_machine(|machine| machine.set_promptness(CACHING, Promptness::Never));
            let ended = house.iommu.destroy_guest(tenant.vm);
            assert!(matches!(ended, Err(IommuError::Flush(_))), "{ended:?}");
            house.assert_blocked(&tenant.read(0x5000));
            // It was cut off, and what it may still use is never used for anything.
            crate::rig::assert_clean(&house.platform);
            assert_ne!(
                house.iommu.backend().quarantined(),
                vtd::Quarantined::default()
            );
        }
    }
}
