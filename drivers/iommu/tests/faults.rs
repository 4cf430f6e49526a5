//! Faults reach the guest that they belong to, explained as nesting hardware would.

mod common;

use common::machine::{
    AT_INTERRUPTS, LEAVES, ON_INTERRUPTS, READ_ONLY as READ_ONLY_MEMORY, ROOT, VM, device,
};
use common::tables::{FULL, P, PS, READ_ONLY, RW};
use common::{Bench, Setup};
use iommu::Attribution;
use iommu_abi::{Bind, FaultEvent, FaultRead, FromBytes as _, PasidAllocate};
use iommu_core::TableFormat::{FirstStage4, SecondStage4};
use iommu_core::{Access, FaultKind, FaultReason, FaultRecord, Iova, Nanoseconds, Pasid};

const BUFFER: u64 = 82 << 12;

fn record(number: u8, address: u64, access: Access) -> FaultRecord {
    FaultRecord {
        unit: 0,
        device: device(number),
        pasid: None,
        kind: FaultKind::Dma {
            address: Iova::new(address),
            access,
        },
        // What a second-stage shadow reports for whatever is not there.
        reason: FaultReason::READ_DENIED,
        privileged: false,
        at: Nanoseconds(0),
    }
}

/// Reads events as a caller of version 1 does, whose elements have 64 bytes.
fn read(bench: &Bench, capacity: u32) -> (Vec<FaultEvent>, FaultRead) {
    let mut ask = FaultRead {
        buffer: BUFFER,
        entry_size: 64,
        capacity,
        ..FaultRead::new()
    };
    let count = bench.machine.call(&mut ask);
    assert_eq!(count, i64::from(ask.count));
    let events = (0..ask.count)
        .map(|index| {
            let at = BUFFER + 64 * u64::from(index);
            let mut bytes = bench.machine.ram.read_bytes(at, 64);
            bytes.resize(size_of::<FaultEvent>(), 0);
            FaultEvent::read_from_bytes(&bytes).unwrap()
        })
        .collect();
    (events, ask)
}

fn report(bench: &Bench, address: u64, access: Access) -> Attribution {
    bench
        .machine
        .policy
        .report(&record(4, address, access))
        .expect("the guest's device")
}

#[test]
fn the_reason_is_that_of_the_guests_own_table() {
    let (bench, _) = Bench::bound(Setup::new(SecondStage4));
    let ram = &bench.machine.ram;
    let leaf = |page: u64, value: u64| ram.write(LEAVES + 8 * page, value);
    leaf(20, 0x30_000 | P | RW);
    leaf(21, 0x30_000 | READ_ONLY);
    leaf(22, 0x600_000 | FULL);
    leaf(23, AT_INTERRUPTS << 12 | FULL);
    leaf(24, ON_INTERRUPTS << 12 | FULL);
    leaf(25, 1 << 51 | FULL);
    leaf(26, READ_ONLY_MEMORY << 12 | FULL);
    // Two things are wrong: the way comes before what it allows.
    leaf(29, 0x600_000 | READ_ONLY);
    ram.write(0x3000 + 8, 0x600_000 | FULL);
    ram.write(0x3000 + 16, 0x2000 | FULL | PS);
    ram.write(ROOT + 8, 0x2000 | READ_ONLY);
    ram.write(ROOT + 16, 0x2000 | FULL | PS);
    let (r, w) = (Access::READ, Access::WRITE);
    let entry = |table: u64, index: u64| Some(table + 8 * index);
    for (address, access, reason, level, at) in [
        (19 << 12, r, 0x71, 1, entry(LEAVES, 19)),
        (20 << 12, r, 0x81, 1, entry(LEAVES, 20)),
        (21 << 12, w, 0x85, 1, entry(LEAVES, 21)),
        (22 << 12, r, 0x79, 1, entry(LEAVES, 22)),
        (23 << 12, w, 0x79, 1, entry(LEAVES, 23)),
        (24 << 12, w, 0x79, 1, entry(LEAVES, 24)),
        (25 << 12, r, 0x72, 1, entry(LEAVES, 25)),
        (26 << 12, w, 0x85, 1, entry(LEAVES, 26)),
        (29 << 12, w, 0x79, 1, entry(LEAVES, 29)),
        (0x20_0000, r, 0x79, 2, entry(0x3000, 1)),
        (0x40_0000, r, 0x72, 2, entry(0x3000, 2)),
        (1 << 39 | 5 << 12, w, 0x85, 1, entry(LEAVES, 5)),
        (2 << 39, r, 0x72, 4, entry(ROOT, 2)),
        (3 << 39, r, 0x71, 4, entry(ROOT, 3)),
        (1 << 47, r, 0x80, 0, None),
    ] {
        let told = report(&bench, address, access);
        assert_eq!(told.reason, FaultReason(reason), "{address:#x}");
        assert_eq!(
            told.entry.map(|entry| entry.at.as_u64()),
            at,
            "{address:#x}"
        );
        assert_eq!(told.entry.map_or(0, |entry| entry.level), level);
        let (events, _) = read(&bench, 4);
        let [event] = events[..] else { panic!() };
        assert_eq!(event.reason, u32::from(reason));
        assert_eq!((event.address, event.device_id), (address, bench.device_id));
        assert_eq!(event.entry_address, at.unwrap_or(0));
        assert_eq!(event.flags & FaultEvent::ENTRY != 0, at.is_some());
    }
    bench.end();
}

#[test]
fn a_request_that_the_table_allows_by_now_keeps_its_meaning() {
    let (bench, _) = Bench::bound(Setup::new(SecondStage4));
    // The guest mapped the page between the fault and now.
    let told = report(&bench, 0x5000, Access::READ);
    assert_eq!(told.reason, FaultReason::FIRST_STAGE_NOT_PRESENT);
    let mut written = record(4, 0x5000, Access::WRITE);
    written.reason = FaultReason::WRITE_DENIED;
    let told = bench.machine.policy.report(&written).unwrap();
    assert_eq!(told.reason, FaultReason::SCALABLE_WRITE_DENIED);
    bench.end();
}

#[test]
fn an_event_says_who_where_what_and_through_which_table() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let told = report(&bench, 0x1_3000, Access::READ_WRITE);
    assert_eq!((told.vm, told.device_id), (VM, bench.device_id));
    assert_eq!((told.pasid, told.ioas_id), (None, Some(table)));
    let (events, ask) = read(&bench, 8);
    assert_eq!((ask.count, ask.lost, ask.remaining), (1, 0, 0));
    let event = events[0];
    assert_eq!((event.kind, event.access), (1, 3));
    assert_eq!((event.ioas_id, event.address), (table, 0x1_3000));
    assert_eq!(event.sequence, 1);
    assert_eq!(read(&bench, 8).1.count, 0);
    bench.end();
}

#[test]
fn a_blocked_device_of_the_guests_faults_without_a_table() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let mut fault = record(4, 0x5000, Access::READ);
    fault.reason = FaultReason::PASID_NOT_PRESENT;
    let told = bench.machine.policy.report(&fault).unwrap();
    assert_eq!(told.reason, FaultReason::PASID_NOT_PRESENT);
    assert_eq!((told.ioas_id, told.entry), (None, None));
    bench.end();
}

#[test]
fn a_device_of_nobody_is_the_hypervisors() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    let fault = record(9, 0x5000, Access::READ);
    assert_eq!(bench.machine.policy.report(&fault), None);
    assert_eq!(read(&bench, 8).1.count, 0);
    bench.end();
}

#[test]
fn a_pasid_is_told_in_the_guests_numbering() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let table = bench.allocate(ROOT);
    let mut pasid = PasidAllocate {
        minimum: 700,
        maximum: 900,
        ..PasidAllocate::new()
    };
    assert_eq!(bench.machine.call(&mut pasid), 0);
    assert_eq!(pasid.pasid, 700);
    let mut bind = Bind {
        flags: Bind::PASID,
        device_id: bench.device_id,
        ioas_id: table,
        pasid: 700,
        ..Bind::new()
    };
    assert_eq!(bench.machine.call(&mut bind), 0);
    let mut fault = record(4, 0x1_3000, Access::READ);
    // The first that the machine gave: the guest never sees it.
    fault.pasid = Pasid::new(1);
    let told = bench.machine.policy.report(&fault).unwrap();
    assert_eq!(told.pasid, Pasid::new(700));
    let (events, _) = read(&bench, 1);
    assert_eq!(events[0].pasid, 700);
    assert_ne!(events[0].flags & FaultEvent::PASID, 0);
    // The same address without a PASID goes through no table.
    let told = report(&bench, 0x1_3000, Access::READ);
    assert_eq!((told.pasid, told.ioas_id), (None, None));
    bench.end();
}

#[test]
fn pasid_0_in_a_record_means_a_request_without_one() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let mut fault = record(4, 0x1_3000, Access::READ);
    fault.pasid = Some(Pasid::ZERO);
    let told = bench.machine.policy.report(&fault).unwrap();
    assert_eq!((told.pasid, told.ioas_id), (None, Some(table)));
    bench.end();
}

#[test]
fn a_device_that_was_taken_back_is_nobodys() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    bench.machine.policy.take_back(VM, device(4)).unwrap();
    let fault = record(4, 0x1_3000, Access::READ);
    assert_eq!(bench.machine.policy.report(&fault), None);
    assert_eq!(read(&bench, 8).1.count, 0);
    bench.end();
}

#[test]
fn the_guest_is_notified_when_its_queue_was_empty_and_only_then() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    let notified = || bench.machine.around.notified.lock().unwrap().len();
    report(&bench, 0x1_3000, Access::READ);
    report(&bench, 0x1_4000, Access::READ);
    assert_eq!(notified(), 1);
    // One is left: the guest is still at it.
    assert_eq!(read(&bench, 1).1.remaining, 1);
    report(&bench, 0x1_5000, Access::READ);
    assert_eq!(notified(), 1);
    read(&bench, 8);
    report(&bench, 0x1_6000, Access::READ);
    assert_eq!(notified(), 2);
    bench.end();
}

#[test]
fn a_full_queue_counts_what_it_loses() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4).quota(|quota| quota.fault_events = 3));
    for page in 0..5 {
        let told = report(&bench, (0x20 + page) << 12, Access::READ);
        assert_eq!(told.lost, page >= 3);
    }
    let (events, ask) = read(&bench, 2);
    assert_eq!((ask.count, ask.lost, ask.remaining), (2, 2, 1));
    assert_eq!(events[0].address, 0x20_000);
    report(&bench, 0x30_000, Access::READ);
    let (events, ask) = read(&bench, 8);
    assert_eq!((events.len(), ask.lost), (2, 0));
    assert_eq!(
        events[1].flags & FaultEvent::LOST_BEFORE,
        FaultEvent::LOST_BEFORE
    );
    assert_eq!(events[1].sequence, 6);
    bench.end();
}

#[test]
fn events_that_cannot_be_written_stay_on_the_queue() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    report(&bench, 0x1_3000, Access::READ);
    for (buffer, works) in [
        (0x600_000, false),
        (READ_ONLY_MEMORY << 12, false),
        (BUFFER, true),
    ] {
        let mut ask = FaultRead {
            buffer,
            entry_size: 64,
            capacity: 1,
            ..FaultRead::new()
        };
        assert_eq!(bench.machine.call(&mut ask) == 1, works, "{buffer:#x}");
    }
    bench.end();
}

#[test]
fn a_shorter_event_is_cut_and_a_longer_one_filled_up() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    report(&bench, 0x1_3000, Access::READ);
    report(&bench, 0x1_4000, Access::READ);
    bench.machine.ram.write_bytes(BUFFER, &[0xff; 160]);
    let mut ask = FaultRead {
        buffer: BUFFER,
        entry_size: 96,
        capacity: 1,
        ..FaultRead::new()
    };
    assert_eq!(bench.machine.call(&mut ask), 1);
    let bytes = bench.machine.ram.read_bytes(BUFFER + 80, 24);
    assert_eq!(bytes[..16], [0; 16]);
    assert_eq!(bytes[16..], [0xff; 8]);
    bench.end();
}
