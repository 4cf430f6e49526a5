//! Queues of events as objects: which of them tells what, what they lose, and when they go.

mod common;

use common::machine::{LEAVES, ROOT, VM, device};
use common::ring::call;
use common::tables::FULL;
use common::{Bench, Machine, Setup};
use iommu::Quota;
use iommu_abi::{
    Argument, Bind, Destroy, Errno, FaultEvent, FaultEventKind, FaultRead, FromBytes as _,
    Invalidate, QueueAllocate, QueueBind, QueueKind, QueueUnbind,
};
use iommu_core::TableFormat::FirstStage4;
use iommu_core::{Access, FaultKind, FaultReason, FaultRecord, Iova, Nanoseconds, VmId};

const BUFFER: u64 = 82 << 12;

fn refused(errno: Errno) -> i64 {
    errno.to_register()
}

fn ask<A: Argument>(bench: &Bench, argument: A) -> i64 {
    let mut argument = argument;
    bench.machine.call(&mut argument)
}

fn allocate(bench: &Bench, kind: QueueKind, depth: u32) -> Result<u32, Errno> {
    let mut ask = QueueAllocate {
        kind: kind.as_u32(),
        depth,
        ..QueueAllocate::new()
    };
    let result = Errno::from_register(bench.machine.call(&mut ask));
    result.map(|_| ask.queue_id)
}

fn events(bench: &Bench, depth: u32) -> u32 {
    allocate(bench, QueueKind::Events, depth).unwrap()
}

fn bind(bench: &Bench, queue_id: u32, object_id: u32) -> i64 {
    ask(
        bench,
        QueueBind {
            queue_id,
            object_id,
            ..QueueBind::new()
        },
    )
}

fn unbind(bench: &Bench, queue_id: u32, object_id: u32) -> i64 {
    ask(
        bench,
        QueueUnbind {
            queue_id,
            object_id,
            ..QueueUnbind::new()
        },
    )
}

fn destroy(bench: &Bench, id: u32) -> i64 {
    ask(
        bench,
        Destroy {
            id,
            ..Destroy::new()
        },
    )
}

fn fault(bench: &Bench, number: u8, address: u64) {
    let record = FaultRecord {
        unit: 0,
        device: device(number),
        pasid: None,
        kind: FaultKind::Dma {
            address: Iova::new(address),
            access: Access::READ,
        },
        reason: FaultReason::FIRST_STAGE_NOT_PRESENT,
        privileged: false,
        at: Nanoseconds(0),
    };
    assert!(bench.machine.policy.report(&record).is_some());
}

fn read(bench: &Bench, queue_id: u32) -> (Vec<FaultEvent>, FaultRead) {
    let mut ask = FaultRead {
        buffer: BUFFER,
        entry_size: 80,
        capacity: 16,
        queue_id,
        ..FaultRead::new()
    };
    assert!(bench.machine.call(&mut ask) >= 0);
    let events = (0..u64::from(ask.count))
        .map(|index| {
            let bytes = bench.machine.ram.read_bytes(BUFFER + 80 * index, 80);
            FaultEvent::read_from_bytes(&bytes).unwrap()
        })
        .collect();
    (events, ask)
}

fn addresses(bench: &Bench, queue: u32) -> Vec<u64> {
    let (events, _) = read(bench, queue);
    events.iter().map(|event| event.address).collect()
}

fn notified(bench: &Bench) -> usize {
    std::mem::take(&mut *bench.machine.around.notified.lock().unwrap()).len()
}

#[test]
fn each_fault_is_told_by_the_queue_of_its_table_else_of_its_device_else_by_the_guests() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let second = bench.machine.assign(5);
    let other = bench.allocate(ROOT);
    assert_eq!(bench.bind(second, other), 0);
    let (of_table, of_device) = (events(&bench, 4), events(&bench, 4));
    assert_eq!(bind(&bench, of_table, table), 0);
    assert_eq!(bind(&bench, of_device, second), 0);
    fault(&bench, 4, 0x10_1000);
    fault(&bench, 5, 0x10_2000);
    assert_eq!(addresses(&bench, of_table), [0x10_1000]);
    assert_eq!(addresses(&bench, of_device), [0x10_2000]);
    assert_eq!(addresses(&bench, 0), []);
    // The table of the second device comes before the device.
    assert_eq!(bind(&bench, of_table, other), 0);
    fault(&bench, 5, 0x10_3000);
    assert_eq!(addresses(&bench, of_table), [0x10_3000]);
    // What is bound no more is told as before.
    assert_eq!(unbind(&bench, of_table, other), 0);
    assert_eq!(unbind(&bench, of_device, second), 0);
    fault(&bench, 5, 0x10_4000);
    assert_eq!(addresses(&bench, 0), [0x10_4000]);
    bench.end();
}

#[test]
fn each_queue_is_announced_when_it_was_empty_and_loses_by_itself() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let small = events(&bench, 2);
    assert_eq!(bind(&bench, small, table), 0);
    notified(&bench);
    for page in 0..4 {
        fault(&bench, 4, 0x10_0000 + (page << 12));
    }
    assert_eq!(notified(&bench), 1);
    let (told, ask) = read(&bench, small);
    assert_eq!((told.len(), ask.lost, ask.remaining), (2, 2, 0));
    fault(&bench, 4, 0x20_0000);
    assert_eq!(notified(&bench), 1);
    let (told, ask) = read(&bench, small);
    assert_ne!(told[0].flags & FaultEvent::LOST_BEFORE, 0);
    assert_eq!((told[0].sequence, ask.lost), (5, 0));
    // The guest's own lost nothing.
    assert_eq!(read(&bench, 0).1.lost, 0);
    bench.end();
}

#[test]
fn a_queue_of_page_requests_tells_no_faults() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let requests = allocate(&bench, QueueKind::PageRequests, 4).unwrap();
    assert_eq!(bind(&bench, requests, table), 0);
    fault(&bench, 4, 0x10_1000);
    assert_eq!(addresses(&bench, requests), []);
    assert_eq!(addresses(&bench, 0), [0x10_1000]);
    // One of each kind may be bound.
    let faults = events(&bench, 4);
    assert_eq!(bind(&bench, faults, table), 0);
    let third = events(&bench, 4);
    assert_eq!(bind(&bench, third, table), refused(Errno::EBUSY));
    bench.end();
}

#[test]
fn a_queue_in_use_is_busy_and_goes_when_nothing_is_bound_to_it() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let queue = events(&bench, 4);
    assert_eq!(bind(&bench, queue, table), 0);
    assert_eq!(bind(&bench, queue, bench.device_id), 0);
    fault(&bench, 4, 0x10_1000);
    assert_eq!(destroy(&bench, queue), refused(Errno::EBUSY));
    assert_eq!(unbind(&bench, queue, bench.device_id), 0);
    assert_eq!(destroy(&bench, queue), refused(Errno::EBUSY));
    // The table goes, and with it what bound the queue to it.
    assert_eq!(destroy(&bench, table), refused(Errno::EBUSY));
    assert_eq!(bench.unbind(bench.device_id), 0);
    assert_eq!(destroy(&bench, table), 0);
    assert_eq!(destroy(&bench, queue), 0);
    assert_eq!(destroy(&bench, queue), refused(Errno::ENOENT));
    // A new object of the same handle has nothing of it.
    let again = bench.allocate(ROOT);
    assert_eq!(again, table);
    assert_eq!(bench.bind(bench.device_id, again), 0);
    fault(&bench, 4, 0x10_2000);
    assert_eq!(addresses(&bench, 0), [0x10_2000]);
    bench.end();
}

#[test]
fn a_device_that_is_taken_back_leaves_its_queue() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    let queue = events(&bench, 4);
    assert_eq!(bind(&bench, queue, bench.device_id), 0);
    bench.machine.policy.take_back(VM, device(4)).unwrap();
    assert_eq!(destroy(&bench, queue), 0);
    bench.end();
}

#[test]
fn handles_of_another_kind_or_of_another_guest_do_not_exist() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let queue = events(&bench, 4);
    let missing = refused(Errno::ENOENT);
    for (queue_id, object_id) in [
        (table, table),
        (queue, queue),
        (queue, 0),
        (queue, 60),
        (0, table),
        (u32::MAX, table),
    ] {
        assert_eq!(bind(&bench, queue_id, object_id), missing);
        assert_eq!(unbind(&bench, queue_id, object_id), missing);
    }
    assert_eq!(unbind(&bench, queue, table), missing);
    let read = FaultRead {
        queue_id: table,
        buffer: BUFFER,
        entry_size: 80,
        ..FaultRead::new()
    };
    assert_eq!(ask(&bench, read), missing);
    // The same handle of another guest's.
    let machine = &bench.machine;
    let ram = other_guest(machine);
    let read = FaultRead {
        queue_id: queue,
        ..read
    };
    assert_eq!(call(machine, OTHER, &ram, &read).0, missing);
    let destroy = Destroy {
        id: queue,
        ..Destroy::new()
    };
    assert_eq!(call(machine, OTHER, &ram, &destroy).0, missing);
    assert_eq!(ask(&bench, destroy), 0);
    machine.policy.destroy_guest(OTHER).unwrap();
    bench.end();
}

const OTHER: VmId = VmId(4);

fn other_guest(machine: &Machine) -> std::sync::Arc<common::memory::GuestRam> {
    let ram = std::sync::Arc::new(common::memory::GuestRam::default());
    ram.add(0, 96, 0xa_0000, Access::READ_WRITE, Some(3));
    let quota = Quota::default();
    machine
        .policy
        .create_guest(OTHER, quota, ram.clone())
        .unwrap();
    ram
}

#[test]
fn queues_and_what_they_hold_are_bounded() {
    let setup = Setup::new(FirstStage4).quota(|quota| {
        quota.queues = 3;
        quota.queue_events = 10;
    });
    let bench = Bench::new(setup);
    let kind = QueueKind::Events;
    assert_eq!(allocate(&bench, kind, 0), Err(Errno::EINVAL));
    assert_eq!(allocate(&bench, kind, 11), Err(Errno::EDQUOT));
    assert_eq!(allocate(&bench, kind, u32::MAX), Err(Errno::EDQUOT));
    let first = events(&bench, 8);
    assert_eq!(allocate(&bench, kind, 3), Err(Errno::EDQUOT));
    events(&bench, 1);
    events(&bench, 1);
    assert_eq!(allocate(&bench, kind, 1), Err(Errno::EDQUOT));
    assert_eq!(destroy(&bench, first), 0);
    events(&bench, 8);
    let unknown = QueueAllocate {
        kind: 3,
        depth: 1,
        ..QueueAllocate::new()
    };
    assert_eq!(ask(&bench, unknown), refused(Errno::EOPNOTSUPP));
    bench.end();
}

#[test]
fn an_invalidation_that_hardware_did_not_confirm_is_an_event_of_its_table() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let queue = events(&bench, 4);
    assert_eq!(bind(&bench, queue, table), 0);
    let change = |page: u64| {
        bench.machine.ram.write(LEAVES + 8 * page, 0x3_0000 | FULL);
        bench.invalidate(table, &[(page << 12, 1)]).0
    };
    assert_eq!(change(5), 1);
    assert_eq!(addresses(&bench, queue), []);
    notified(&bench);
    bench.machine.hardware.fail_next("commit");
    assert_eq!(change(6), refused(Errno::ETIMEDOUT));
    assert_eq!(notified(&bench), 1);
    let (told, _) = read(&bench, queue);
    let [event] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(event.kind, FaultEventKind::Invalidation.as_u32());
    assert_eq!(event.ioas_id, table);
    assert_eq!(event.reason, Errno::ETIMEDOUT.as_u32());
    assert_eq!(event.flags, FaultEvent::IOAS);
    // A caller of old is told by its call, and of nothing else.
    assert_eq!(unbind(&bench, queue, table), 0);
    bench.machine.hardware.fail_next("commit");
    assert_eq!(change(7), refused(Errno::ETIMEDOUT));
    assert_eq!(read(&bench, 0).1.count, 0);
    // It is no different when it was refused: nothing was told to hardware.
    assert_eq!(bind(&bench, queue, table), 0);
    let wrong = Invalidate {
        ioas_id: table,
        granularity: 9,
        ..Invalidate::new()
    };
    assert_eq!(ask(&bench, wrong), refused(Errno::EOPNOTSUPP));
    assert_eq!(read(&bench, queue).1.count, 0);
    bench.machine.policy.destroy_guest(VM).unwrap();
}

#[test]
fn a_guest_that_dies_takes_its_queues_with_it() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let queue = events(&bench, 4);
    assert_eq!(bind(&bench, queue, table), 0);
    fault(&bench, 4, 0x10_1000);
    let machine = &bench.machine;
    machine.policy.destroy_guest(VM).unwrap();
    let quota = bench.machine.setup.quota;
    machine
        .policy
        .create_guest(VM, quota, machine.ram.clone())
        .unwrap();
    assert_eq!(destroy(&bench, queue), refused(Errno::ENOENT));
    assert_eq!(read(&bench, 0).1.count, 0);
    assert_eq!(machine.assign(4), bench.device_id);
    assert_eq!(events(&bench, 4), 2);
    let bind = Bind {
        device_id: bench.device_id,
        ioas_id: 2,
        ..Bind::new()
    };
    assert_eq!(ask(&bench, bind), refused(Errno::ENOENT));
    bench.end();
}
