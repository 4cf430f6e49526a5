//! The guest's library against the hypervisor itself.

mod common;

use common::machine::{LEAVES, ROOT, device, rid};
use common::tables::FULL;
use common::{Bench, Setup};
use iommu_core::TableFormat::{FirstStage4, SecondStage4};
use iommu_core::{Access, FaultKind, FaultReason, FaultRecord, Iova, Nanoseconds};
use iommu_guest::{Capabilities, DeviceId, Errno, FlushList, Format, Op, Use};
use x86_64::structures::paging::{Page, PhysFrame};
use x86_64::{PhysAddr, VirtAddr};

fn page(number: u64) -> Page {
    Page::containing_address(VirtAddr::new(number << 12))
}

fn root() -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new(ROOT))
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

    let record = FaultRecord {
        unit: 0,
        device: device(4),
        pasid: None,
        kind: FaultKind::Dma {
            address: Iova::new(0x1_3000),
            access: Access::WRITE,
        },
        reason: FaultReason::CONTEXT_NOT_PRESENT,
        privileged: false,
        at: Nanoseconds(0),
    };
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
