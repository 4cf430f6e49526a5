//! Page requests that are told by a queue of their own.

use crate::guests::Tenant;
use crate::page_requests::{INVALID_REQUEST, SUCCESS, ask, each_space, events, take_answers};
use iommu::Quota;
use iommu_guest::{Errno, Event, EventQueue, PageRequest, QueueKind};
use std::sync::atomic::Ordering;

fn told_by(tenant: &mut Tenant<'_>, queue: &EventQueue) -> Vec<PageRequest> {
    let mut all = Vec::new();
    tenant
        .client
        .read_queue(queue, |event| match event {
            Event::PageRequest(request) => all.push(request),
            other => panic!("{other:?}"),
        })
        .expect("events");
    all
}

fn requests(tenant: &mut Tenant<'_>, depth: u32) -> EventQueue {
    tenant
        .client
        .allocate_queue(QueueKind::PageRequests, depth)
        .expect("a queue")
}

#[test]
fn the_queue_of_a_table_tells_of_its_page_requests_and_the_answer_goes_its_way() {
    each_space(Quota::default(), |house, tenant, space| {
        let queue = requests(tenant, 8);
        let notified = || house.host.notified.load(Ordering::Relaxed);
        tenant
            .client
            .queue_table(&queue, &space.table)
            .expect("bound");
        let before = notified();
        let group = [space.asks(0x5000, 3, false), space.asks(0x6000, 3, true)];
        assert_eq!(ask(house, &group).told, 1);
        assert_eq!(notified(), before + 1);
        assert!(events(tenant).is_empty());
        let mut told = told_by(tenant, &queue);
        assert_eq!(told.len(), 2);
        let answer = told[1].group.take().expect("the last").served();
        assert_eq!(tenant.client.answer(&[answer]), Ok(1));
        assert_eq!(take_answers(house), [(3, SUCCESS, false)]);
        // Unbound, it is the guest's own queue again.
        tenant
            .client
            .unqueue_table(&queue, &space.table)
            .expect("unbound");
        assert_eq!(ask(house, &[space.asks(0x7000, 4, true)]).told, 1);
        assert!(told_by(tenant, &queue).is_empty());
        let mut told = events(tenant);
        let answer = told[0].group.take().expect("the last").refused();
        tenant.client.answer(&[answer]).expect("answered");
        tenant.client.destroy_queue(queue).expect("destroyed");
        take_answers(house);
    });
}

#[test]
fn a_queue_without_room_makes_its_devices_try_again_and_no_others() {
    each_space(Quota::default(), |house, tenant, space| {
        let queue = requests(tenant, 1);
        tenant
            .client
            .queue_table(&queue, &space.table)
            .expect("bound");
        let pair = [space.asks(0x5000, 3, false), space.asks(0x6000, 3, true)];
        let served = ask(house, &pair);
        assert_eq!((served.told, served.answered), (0, 1));
        assert_eq!(take_answers(house), [(3, SUCCESS, false)]);
        // One that fits is told, with a mark.
        assert_eq!(ask(house, &[space.asks(0x7000, 4, true)]).told, 1);
        let mut told = told_by(tenant, &queue);
        let answer = told[0].group.take().expect("the last").refused();
        tenant.client.answer(&[answer]).expect("answered");
        take_answers(house);
    });
}

#[test]
fn what_a_queue_told_and_nobody_answered_is_answered_when_it_goes() {
    each_space(Quota::default(), |house, tenant, space| {
        let queue = requests(tenant, 8);
        tenant
            .client
            .queue_table(&queue, &space.table)
            .expect("bound");
        // One is read, one is not.
        assert_eq!(ask(house, &[space.asks(0x5000, 3, true)]).told, 1);
        let mut told = told_by(tenant, &queue);
        assert_eq!(ask(house, &[space.asks(0x6000, 4, true)]).told, 1);
        let busy = tenant.client.destroy_queue(queue).expect_err("bound still");
        assert_eq!(busy.0.errno(), Some(Errno::EBUSY));
        let queue = busy.1;
        assert!(take_answers(house).is_empty());
        tenant
            .client
            .unqueue_table(&queue, &space.table)
            .expect("unbound");
        tenant.client.destroy_queue(queue).expect("destroyed");
        let invalid = |group| (group, INVALID_REQUEST, false);
        assert_eq!(take_answers(house), [invalid(3), invalid(4)]);
        // The cookie names nothing any more.
        let answer = told[0].group.take().expect("the last").served();
        let late = tenant.client.answer(&[answer]).expect_err("too late");
        assert_eq!(late.errno(), Some(Errno::ENOENT));
        assert!(take_answers(house).is_empty());
    });
}
