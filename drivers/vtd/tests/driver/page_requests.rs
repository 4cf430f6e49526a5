//! Devices that ask for pages.

use crate::fake::PRS;
use crate::world::*;
use iommu_core::*;
use vtd::{DeviceTlb, Event};

const NET: u16 = 0x0100;
const PQH: usize = 0xc0;
const PQT: usize = 0xc8;
const PQA: usize = 0xd0;

fn asking() -> World {
    unit(1 << 29 | 1 << 42)
}

/// A unit that has this besides.
fn unit(ecap: u64) -> World {
    let plan = Plan::rich();
    Plan {
        ecap: plan.ecap | ecap,
        ..plan
    }
    .boot()
}

/// Writes a request as hardware does, and moves the tail.
fn ask(world: &World, page: u64, group: u64, last: bool) {
    let queue = world.fake.get64(PQA) & !0xfff;
    let tail = world.fake.get64(PQT);
    let words = [
        1 | 1 << 8 | u64::from(NET) << 16 | 9 << 32,
        page << 12 | group << 3 | u64::from(last) << 2 | 1,
    ];
    for (n, word) in words.into_iter().enumerate() {
        let at = Hpa::new(queue + tail + 8 * n as u64);
        world.machine.memory.device_store(at, word);
    }
    world.fake.set64(PQT, (tail + 32) % 4096);
    world.fake.set32(PRS, world.fake.get32(PRS) | 1);
}

fn drained(world: &World) -> Vec<PageRequest> {
    let mut requests = Vec::new();
    world
        .driver
        .drain_page_requests(&mut |request| requests.push(*request));
    requests
}

#[test]
fn the_queue_is_set_up_and_its_event_unmasked() {
    let world = asking();
    assert_ne!(world.fake.get64(PQA) & !0xfff, 0);
    assert_eq!((world.fake.get64(PQH), world.fake.get64(PQT)), (0, 0));
    assert_eq!(world.fake.get32(0xe0), 0);
    assert_eq!(world.fake.get32(0xe8), 0xfee0_1000);
    assert!(
        world
            .driver
            .capabilities(device(NET))
            .unwrap()
            .page_requests
    );
}

#[test]
fn requests_are_told_in_order_and_once() {
    let world = asking();
    for n in 0..40 {
        ask(&world, 100 + n, n, n % 2 == 1);
    }
    let requests = drained(&world);
    let pages: Vec<_> = requests.iter().map(|r| r.address.as_u64() >> 12).collect();
    assert_eq!(pages, (100..140).collect::<Vec<_>>());
    assert_eq!(requests[3].slot, pasid_slot(NET, 9));
    assert_eq!((requests[3].group, requests[3].last), (3, true));
    assert_eq!(world.fake.get64(PQH), 40 * 32);
    assert!(drained(&world).is_empty());
}

#[test]
fn the_queue_wraps() {
    let world = asking();
    for round in 0..5 {
        for n in 0..100 {
            ask(&world, round * 100 + n, 0, true);
        }
        let requests = drained(&world);
        assert_eq!(requests.len(), 100);
        assert_eq!(requests[99].address, Iova::new((round * 100 + 99) << 12));
    }
}

#[test]
fn an_overflow_is_told_and_cleared_after_the_queue_is_empty() {
    let world = asking();
    ask(&world, 1, 0, true);
    world.fake.set32(PRS, 3);
    assert_eq!(drained(&world).len(), 1);
    assert!(
        world
            .machine
            .saw(|event| matches!(event, Event::PageRequestsLost { unit: UNIT }))
    );
}

#[test]
fn an_answer_goes_to_who_asked() {
    let world = asking();
    world.fake.take_executed();
    let answer = |code| {
        let response = PageResponse {
            slot: pasid_slot(NET, 9),
            group: 7,
            code,
        };
        world.driver.respond(&response).unwrap();
        world.fake.take_executed()
    };
    let low = 0x19 | u64::from(NET) << 16 | 9 << 32;
    assert_eq!(answer(ResponseCode::Success), [[low, 7 << 3]]);
    assert_eq!(
        answer(ResponseCode::InvalidRequest),
        [[low | 1 << 12, 7 << 3]]
    );
    assert_eq!(answer(ResponseCode::Failure), [[low | 15 << 12, 7 << 3]]);
}

#[test]
fn a_unit_without_page_requests_says_so() {
    let world = Plan::first_stage().boot();
    assert!(
        !world
            .driver
            .capabilities(device(NET))
            .unwrap()
            .page_requests
    );
    assert!(drained(&world).is_empty());
    let response = PageResponse {
        slot: slot(NET),
        group: 0,
        code: ResponseCode::Success,
    };
    assert_eq!(
        world.driver.respond(&response).unwrap_err(),
        BackendError::Unsupported(device(NET))
    );
}

#[test]
fn only_a_device_that_may_ask_has_its_entry_opened() {
    let world = asking();
    let domain = world.domain();
    world.attach(slot(NET), Attachment::Domain(domain));
    for (page_requests, expected) in [(false, 1 << 2), (true, 1 << 2 | 1 << 4)] {
        let settings = DeviceTlb {
            queue_depth: 0,
            physical_function: SourceId::from_bits(NET),
            page_requests,
        };
        world
            .driver
            .enable_device_tlb(device(NET), settings, || Ok::<(), ()>(()))
            .unwrap();
        let bits = world.context(NET).unwrap()[0] & (1 << 2 | 1 << 4);
        assert_eq!(bits, expected);
    }
}

/// Low words of the waits since the last look.
fn waits(world: &World) -> Vec<u64> {
    let executed = std::mem::take(&mut world.fake.state().executed);
    let low = executed.iter().map(|words| words[0]);
    low.filter(|low| low & 0xf == 5).collect()
}

/// An attached device that may ask for pages, or not.
fn attached(page_requests: bool) -> (World, DomainHandle) {
    attached_on(asking(), page_requests)
}

fn attached_on(world: World, page_requests: bool) -> (World, DomainHandle) {
    let domain = world.domain();
    world.attach(pasid_slot(NET, 9), Attachment::Domain(domain));
    let settings = DeviceTlb {
        queue_depth: 0,
        physical_function: SourceId::from_bits(NET),
        page_requests,
    };
    let turned_on = world
        .driver
        .enable_device_tlb(device(NET), settings, || Ok::<(), ()>(()));
    turned_on.unwrap();
    waits(&world);
    (world, domain)
}

/// PD of a wait (§6.5.2.9).
const DRAIN: u64 = 1 << 7;

#[test]
fn page_requests_are_drained_when_a_device_that_asks_for_pages_leaves() {
    for asks in [true, false] {
        let (world, domain) = attached(asks);
        // A change of translations is no reason.
        world.map(domain, 5);
        world.commit(world.driver.unmap(domain, pages(5, 1)).unwrap());
        assert!(waits(&world).iter().all(|wait| wait & DRAIN == 0));
        world.detach(pasid_slot(NET, 9));
        let told = waits(&world);
        let [wait] = told[..] else {
            panic!("{told:x?}")
        };
        assert_eq!(wait & DRAIN != 0, asks);
    }
}

#[test]
fn a_drain_that_found_the_queue_full_is_done_once_more() {
    let (world, _) = attached(true);
    world.fake.set32(PRS, 2);
    world.detach(pasid_slot(NET, 9));
    let told = waits(&world);
    assert_eq!(told.iter().filter(|wait| *wait & DRAIN != 0).count(), 2);
}

#[test]
fn turning_a_device_that_asks_off_drains_too() {
    let (world, _) = attached(true);
    let turned_off = world
        .driver
        .disable_device_tlb(device(NET), || Ok::<(), ()>(()));
    turned_off.unwrap();
    assert_ne!(waits(&world)[0] & DRAIN, 0);
}

#[test]
fn a_unit_that_cannot_drain_is_not_told_to() {
    let (world, _) = attached_on(unit(1 << 29), true);
    world.detach(pasid_slot(NET, 9));
    let told = waits(&world);
    let [wait] = told[..] else {
        panic!("{told:x?}")
    };
    assert_eq!(wait & DRAIN, 0);
}
