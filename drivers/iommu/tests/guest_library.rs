//! The guest's library against the hypervisor itself.

mod common;

use common::machine::{LEAVES, ROOT, device as requester, rid};
use common::tables::FULL;
use common::{Bench, Setup};
use iommu_core::TableFormat::{FirstStage4, SecondStage4};
use iommu_core::{Access, FaultKind, FaultReason, FaultRecord, Iova, Nanoseconds, Pasid, Slot};
use iommu_guest::{
    AddressWidth, Capabilities, DeviceId, DirectorySize, Errno, Error, Event, FlushList, Format,
    LinuxEvent, LinuxFaultReason, Op, Rights, Use, Wishes,
};
use x86_64::structures::paging::{Page, PhysFrame};
use x86_64::{PhysAddr, VirtAddr};

fn page(number: u64) -> Page {
    Page::containing_address(VirtAddr::new(number << 12))
}

fn root() -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new(ROOT))
}

/// Of the device's, by its own id.
fn refused_write(reason: FaultReason) -> FaultRecord {
    FaultRecord {
        unit: 0,
        device: requester(4),
        pasid: None,
        kind: FaultKind::Dma {
            address: Iova::new(0x1_3000),
            access: Access::WRITE,
        },
        reason,
        privileged: false,
        at: Nanoseconds(0),
    }
}

#[test]
fn a_list_longer_than_a_page_holds_is_flushed_in_several_calls() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let mut guest = bench.machine.guest();
    let device = DeviceId::from_u32(bench.device_id);
    let table = guest
        .allocate_user_table(device, Format::X86_64Level4, root())
        .unwrap();
    guest.bind(device, &table).unwrap();
    let mut flush = FlushList::<u64, 256>::new(&table);
    for index in 0..256u64 {
        bench
            .machine
            .ram
            .write(LEAVES + 16 * index, 0x30_000 | FULL);
        let owed = table.mapped(Page::range_inclusive(page(2 * index), page(2 * index)));
        flush.add(owed.holding(index)).unwrap();
    }
    let released = guest.flush(&mut flush).unwrap();
    assert_eq!(released.as_slice(), (0..256).collect::<Vec<u64>>());
    assert!(flush.is_empty());
    bench.check((0..512).map(|page| page << 12));
    // The argument memory holds 160 ranges.
    assert_eq!(bench.machine.policy.figures().calls, 2 + 2);
}

#[test]
fn a_debt_that_was_dropped_is_paid_by_the_next_flush() {
    let bench = Bench::new(Setup::new(SecondStage4));
    let mut guest = bench.machine.guest();
    let device = DeviceId::from_u32(bench.device_id);
    let table = guest
        .allocate_user_table(device, Format::X86_64Level4, root())
        .unwrap();
    guest.bind(device, &table).unwrap();
    bench.machine.ram.write(LEAVES + 8 * 5, 0);
    drop(table.changed(Page::range_inclusive(page(5), page(5))));
    assert!(bench.sees(0x5000).is_some());
    let mut flush = FlushList::<(), 4>::new(&table);
    guest.flush(&mut flush).unwrap();
    assert_eq!(bench.sees(0x5000), None);
}

#[test]
fn pasids_faults_and_abilities_come_through() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let mut guest = bench.machine.guest();
    let device_id = DeviceId::from_u32(bench.device_id);
    let abilities = guest.device(device_id).unwrap();
    assert!(abilities.supports(Format::X86_64Level4));
    assert!(!abilities.supports(Format::X86_64Level5));
    let missing = guest
        .missing_for(Use::SharedVirtualAddressing, device_id)
        .unwrap();
    assert_eq!(missing, Capabilities::PAGE_REQUESTS);
    let for_pasid = guest.missing_for(Use::UserTableByPasid, device_id).unwrap();
    assert!(for_pasid.is_empty());
    assert_eq!(guest.probe_operation(Op::Bind), Ok(Some(7)));
    assert_eq!(guest.info().unwrap().shadow_pages.1, 0);

    let table = guest
        .allocate_user_table(device_id, Format::X86_64Level4, root())
        .unwrap();
    let mut ranges = Vec::new();
    assert_eq!(guest.ranges(&table, |range| ranges.push(range)), Ok(3));
    assert_eq!(ranges[1].first, 0xfef0_0000);
    let pasid = guest.allocate_pasid(40, 50).unwrap();
    assert_eq!(pasid.as_u32(), 40);
    guest.bind_pasid(device_id, pasid, &table).unwrap();
    let twice = guest.bind_pasid(device_id, pasid, &table).unwrap_err();
    assert_eq!(twice.errno(), Some(Errno::EBUSY));
    assert_eq!(guest.replace(device_id, Some(pasid), &table), Ok(true));
    guest.unbind_pasid(device_id, pasid).unwrap();
    guest.free_pasid(pasid).unwrap();

    let record = refused_write(FaultReason::CONTEXT_NOT_PRESENT);
    bench.machine.policy.report(&record).unwrap();
    let mut faults = Vec::new();
    let read = guest.read_faults(|fault| faults.push(fault)).unwrap();
    assert_eq!((read.read, read.lost, read.remaining), (1, 0, 0));
    assert_eq!((faults[0].device, faults[0].write), (device_id, true));
    assert_eq!((faults[0].address, faults[0].reason), (Some(0x1_3000), 2));
    guest.destroy_table(table).unwrap();
    assert_eq!(bench.machine.hardware.walk(rid(4), 0x5000), None);
    bench.end();
}

#[test]
fn a_table_that_is_bound_comes_back_from_a_refused_destroy() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let mut guest = bench.machine.guest();
    let device = DeviceId::from_u32(bench.device_id);
    let table = guest
        .allocate_user_table(device, Format::X86_64Level4, root())
        .unwrap();
    guest.bind(device, &table).unwrap();
    let (error, table) = guest.destroy_table(table).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EBUSY));
    guest.unbind(device).unwrap();
    assert!(guest.destroy_table(table).is_ok());
    bench.end();
}

#[test]
fn an_address_space_that_the_hypervisor_keeps_leads_where_it_was_told() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let mut guest = bench.machine.guest();
    let device = DeviceId::from_u32(bench.device_id);
    let at = |address| bench.machine.hardware.walk(rid(4), address);
    let wishes = Wishes {
        lowest: Some(0x10_0000),
        ..Wishes::default()
    };
    let space = guest.allocate_managed(device, &wishes).unwrap();
    guest.bind(device, &space).unwrap();
    let memory = PhysAddr::new(0x2_6000);
    let chosen = guest.map(&space, memory, 0x1000, Rights::Read).unwrap();
    assert!(chosen >= 0x10_0000, "{chosen:#x}");
    guest
        .map_at(&space, 0x40_0000, memory, 0x2000, Rights::ReadWrite)
        .unwrap();
    let first = bench.host(0x2_6000).unwrap();
    let second = bench.host(0x2_7000).unwrap();
    assert_eq!(at(chosen), Some((first, false)));
    assert_eq!(at(0x40_0000), Some((first, true)));
    assert_eq!(at(0x40_1000), Some((second, true)));
    assert_eq!(guest.unmap(&space, 0x40_0000, 0x2000), Ok(0x2000));
    assert_eq!(at(0x40_0000), None);
    assert_eq!(at(chosen), Some((first, false)));
    assert_eq!(guest.unmap_everything(&space), Ok(0x1000));
    assert_eq!(at(chosen), None);
    guest.unbind(device).unwrap();
    guest.destroy_space(space).unwrap();
    bench.end();
}

#[test]
fn a_table_bound_by_linux_structures_follows_what_is_flushed_by_them() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let mut guest = bench.machine.guest();
    let device = DeviceId::from_u32(bench.device_id);
    let pasid = guest.allocate_pasid(9, 9).unwrap();
    let bound = guest
        .linux_bind(device, pasid, root(), AddressWidth::Bits48)
        .unwrap();
    let twice = guest.linux_bind(device, pasid, root(), AddressWidth::Bits48);
    assert_eq!(twice.unwrap_err().errno(), Some(Errno::EBUSY));
    // The guest's first PASID is the machine's first.
    let slot = Slot {
        device: requester(4),
        pasid: Pasid::new(1),
    };
    let sees = |address| bench.machine.hardware.walk(slot, address);
    assert!(sees(0x5000).is_some());

    let mut flush = FlushList::<u64, 4>::new(bound.table());
    for number in [5, 7] {
        bench.machine.ram.write(LEAVES + 8 * number, 0);
        let owed = bound
            .table()
            .changed(Page::range_inclusive(page(number), page(number)));
        flush.add(owed.holding(number)).unwrap();
    }
    assert!(sees(0x5000).is_some(), "nothing was flushed yet");
    let released = guest.linux_flush(&bound, &mut flush).unwrap();
    assert_eq!(released.as_slice(), [5, 7]);
    drop(flush);
    assert_eq!((sees(0x5000), sees(0x7000)), (None, None));

    // A debt that was dropped is paid by the next flush, whatever that is of.
    bench.machine.ram.write(LEAVES + 8 * 9, 0);
    drop(
        bound
            .table()
            .changed(Page::range_inclusive(page(9), page(9))),
    );
    let mut empty = FlushList::<(), 1>::new(bound.table());
    assert!(sees(0x9000).is_some());
    guest.linux_flush(&bound, &mut empty).unwrap();
    drop(empty);
    assert_eq!(sees(0x9000), None);

    guest.linux_unbind(bound).unwrap();
    guest.free_pasid(pasid).unwrap();
    bench.end();
}

#[test]
fn a_list_of_another_table_is_not_flushed_by_linux_structures() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let mut guest = bench.machine.guest();
    let device = DeviceId::from_u32(bench.device_id);
    let other = guest
        .allocate_user_table(device, Format::X86_64Level4, root())
        .unwrap();
    let pasid = guest.allocate_pasid(9, 9).unwrap();
    let bound = guest
        .linux_bind(device, pasid, root(), AddressWidth::Bits48)
        .unwrap();
    let mut list = FlushList::<(), 1>::new(&other);
    let refused = guest.linux_flush(&bound, &mut list);
    assert_eq!(refused, Err(Error::OtherTable));
    drop(list);
    let mut list = FlushList::<(), 1>::new(bound.table());
    assert!(guest.linux_flush(&bound, &mut list).is_ok());
    drop(list);
    guest.linux_unbind(bound).unwrap();
    guest.destroy_table(other).unwrap();
    bench.end();
}

#[test]
fn a_fault_by_linux_structures_says_what_the_native_one_says() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let mut guest = bench.machine.guest();
    let device_id = DeviceId::from_u32(bench.device_id);
    let record = refused_write(FaultReason::FIRST_STAGE_NOT_PRESENT);
    bench.machine.policy.report(&record).unwrap();
    let mut events = Vec::new();
    let read = guest.linux_read_events(|event| events.push(event)).unwrap();
    assert_eq!((read.read, read.lost, read.remaining), (1, 0, 0));
    let [LinuxEvent::Fault(fault)] = events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(fault.device, device_id);
    assert_eq!(fault.reason, LinuxFaultReason::PteFetch);
    assert_eq!((fault.address, fault.pasid), (Some(0x1_3000), None));
    assert_eq!(
        (fault.read, fault.write, fault.privileged),
        (false, true, false)
    );
    assert_eq!(guest.next_event(), Ok(None), "it was taken off the queue");
    bench.machine.policy.report(&record).unwrap();
    let Some(Event::Fault(fault)) = guest.next_event().unwrap() else {
        panic!("a fault waits");
    };
    assert_eq!((fault.address, fault.write), (Some(0x1_3000), true));
}

#[test]
fn changed_entries_of_a_pasid_table_are_looked_at_when_they_are_told() {
    const DIRECTORY: u64 = 40 << 12;
    const ENTRIES: u64 = 41 << 12;
    /// Present, and a first stage (PGTT 001).
    const FIRST_STAGE: u64 = 1 | 1 << 6;
    let bench = Bench::new(Setup::new(FirstStage4));
    let ram = &bench.machine.ram;
    let set = |pasid: u64, words: [u64; 3]| {
        for (word, at) in words.into_iter().zip((ENTRIES + 64 * pasid..).step_by(8)) {
            ram.write(at, word);
        }
    };
    ram.write(DIRECTORY, ENTRIES | 1);
    set(3, [FIRST_STAGE, 0, ROOT]);
    // A second stage: not the guest's to ask for.
    set(5, [1 | 2 << 6, 0, ROOT]);

    let mut guest = bench.machine.guest();
    let device = DeviceId::from_u32(bench.device_id);
    let directory = PhysFrame::containing_address(PhysAddr::new(DIRECTORY));
    let size = DirectorySize::from_pdts(0).unwrap();
    let (table, looked) = guest
        .bind_pasid_table(device, directory, size, false)
        .unwrap();
    assert_eq!((looked.bound, looked.refused), (1, 1));
    assert_eq!(looked.first_refused.map(|entry| entry.pasid), Some(5));

    set(4, [FIRST_STAGE, 0, ROOT]);
    set(5, [0; 3]);
    let looked = guest.look_at_entries(table.changed(4..=5)).unwrap();
    assert_eq!((looked.bound, looked.refused), (2, 0));
    assert_eq!(looked.first_refused, None);

    // What was dropped is owed still: the next look is at everything.
    set(3, [0; 3]);
    drop(table.changed(3..=3));
    let looked = guest.look_at_entries(table.changed(60..=60)).unwrap();
    assert_eq!(looked.bound, 1);
    guest.unbind_pasid_table(table).unwrap();
    bench.end();
}
