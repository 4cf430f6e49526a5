//! Memory that leaves a guest: taken out, forgotten by hardware, and only then reused.

mod common;

use common::machine::{CONTIGUOUS, LEAVES, ROOT, VM, rid};
use common::tables::{FULL, PS};
use common::{Bench, Setup};
use iommu_abi::{Errno, IoasAllocate, IoasMap};
use iommu_core::TableFormat::{FirstStage4, SecondStage3, SecondStage4};
use iommu_core::{Access, AddressRange, Gpa};

const FORMATS: [iommu_core::TableFormat; 3] = [FirstStage4, SecondStage4, SecondStage3];

/// Takes guest pages away as a hypervisor does, and gives the host pages to somebody else.
fn take_away(bench: &Bench, first: u64, count: u64) -> u64 {
    let runs = bench.machine.ram.remove(first, count);
    let gone = AddressRange::of_pages(Gpa::new(first << 12), count).unwrap();
    let forgotten = bench.machine.policy.forget(VM, &gone, &runs).unwrap();
    bench.machine.ram.reuse(&runs);
    // From here on the test's hardware complains if a device can still reach it.
    bench.machine.hardware.cache_everything();
    bench.machine.check_caches();
    forgotten.entries
}

#[test]
fn a_page_that_leaves_is_out_of_reach_and_its_neighbours_are_not() {
    for format in FORMATS {
        let (bench, _) = Bench::bound(Setup::new(format));
        let before = bench.commits();
        assert_eq!(take_away(&bench, 0x25, 1), 1);
        assert_eq!(bench.commits() - before, 1);
        assert_eq!(bench.sees(0x5000), None);
        assert!(bench.sees(0x6000).is_some());
        bench.check([0x5000, 0x6000]);
        bench.end();
    }
}

#[test]
fn every_alias_of_it_goes_too() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    bench.machine.ram.write(LEAVES + 8 * 40, 0x25_000 | FULL);
    bench.machine.ram.write(0x3000 + 8 * 9, 0x4000 | FULL);
    bench.changed(table, &[(0, 1 << 18)]);
    assert_eq!(take_away(&bench, 0x25, 1), 2);
    for address in [5 << 12, 40 << 12, 9 << 21 | 5 << 12, 9 << 21 | 40 << 12] {
        assert_eq!(bench.sees(address), None);
    }
    bench.end();
}

#[test]
fn memory_that_no_table_leads_to_costs_no_flush() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    let before = bench.commits();
    assert_eq!(take_away(&bench, 0x40, 8), 0);
    assert_eq!(bench.commits(), before);
    bench.end();
}

#[test]
fn the_rest_of_a_large_page_stays() {
    for format in FORMATS {
        let (bench, table) = Bench::bound(Setup::new(format));
        bench
            .machine
            .ram
            .write(0x3000 + 8, CONTIGUOUS << 12 | FULL | PS);
        bench.changed(table, &[(0x20_0000, 512)]);
        take_away(&bench, CONTIGUOUS + 100, 2);
        bench.check((0..512).map(|page| 0x20_0000 + (page << 12)));
        assert_eq!(bench.sees(0x20_0000 + (100 << 12)), None);
        assert!(bench.sees(0x20_0000 + (102 << 12)).is_some());
        bench.end();
    }
}

#[test]
fn a_table_of_the_guests_that_leaves_leads_nowhere() {
    for format in [FirstStage4, SecondStage4] {
        let (bench, _) = Bench::bound(Setup::new(format));
        take_away(&bench, LEAVES >> 12, 1);
        assert_eq!(bench.sees(0x5000), None);
        bench.check([0x5000]);
        bench.end();
    }
}

#[test]
fn a_whole_guest_full_of_memory_can_leave_at_once() {
    let (bench, table) = Bench::bound(Setup::new(SecondStage4));
    for index in 0..512 {
        let page = index % 64;
        bench
            .machine
            .ram
            .write(LEAVES + 8 * index, page << 12 | FULL);
    }
    bench.changed(table, &[(0, 512)]);
    take_away(&bench, 0x20, 32);
    take_away(&bench, CONTIGUOUS, 1024);
    bench.check((0..512).map(|page| page << 12));
    bench.end();
}

#[test]
fn memory_that_comes_back_is_mapped_when_the_guest_says_so() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    take_away(&bench, 0x25, 1);
    bench
        .machine
        .ram
        .add(0x25, 1, 0xa_0000, Access::READ_WRITE, None);
    bench.changed(table, &[(0x5000, 1)]);
    assert_eq!(bench.sees(0x5000), Some(0xa_0000 << 12));
    bench.end();
}

#[test]
fn memory_that_is_added_shows_where_tables_lead_to_it_already() {
    for format in FORMATS {
        let (bench, table) = Bench::bound(Setup::new(format));
        bench
            .machine
            .ram
            .write(0x3000 + 8, (0x2000 << 12) | FULL | PS);
        bench
            .machine
            .ram
            .write(LEAVES + 8 * 20, (0x2001 << 12) | FULL);
        bench.changed(table, &[(0, 1 << 18)]);
        assert_eq!(bench.sees(0x20_1000), None);
        bench
            .machine
            .ram
            .add(0x2000, 4, 0xb_0000, Access::READ_WRITE, Some(3));
        bench.machine.policy.memory_grew(VM).unwrap();
        assert!(bench.sees(0x20_1000).is_some());
        bench.check((0..5).map(|page| 0x20_0000 + (page << 12)));
        bench.check([20 << 12]);
        bench.end();
    }
}

#[test]
fn a_mapping_that_the_hypervisor_keeps_gets_a_hole() {
    let bench = Bench::new(Setup::new(SecondStage4));
    let mut space = IoasAllocate {
        device_id: bench.device_id,
        ..IoasAllocate::new()
    };
    assert_eq!(bench.machine.call(&mut space), 0);
    let mut map = IoasMap {
        flags: IoasMap::FIXED_IOVA | IoasMap::READABLE | IoasMap::WRITEABLE,
        ioas_id: space.ioas_id,
        gpa: 0x20_000,
        length: 8 << 12,
        iova: 0x10_0000,
        ..IoasMap::new()
    };
    assert_eq!(bench.machine.call(&mut map), 0);
    assert_eq!(bench.bind(bench.device_id, space.ioas_id), 0);
    take_away(&bench, 0x23, 2);
    for page in 0..8u64 {
        let seen = bench.sees(0x10_0000 + (page << 12));
        assert_eq!(seen, bench.host(0x20_000 + (page << 12)), "page {page}");
        assert_eq!(seen.is_none(), (3..5).contains(&page));
    }
    bench.end();
}

#[test]
fn what_hardware_does_not_confirm_is_not_given_away() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    let runs = bench.machine.ram.remove(0x25, 1);
    let gone = AddressRange::of_pages(Gpa::new(0x25_000), 1).unwrap();
    bench.machine.hardware.fail_next("commit");
    let refused = bench.machine.policy.forget(VM, &gone, &runs);
    assert!(refused.is_err());
    assert_ne!(bench.machine.hardware.parked(), (0, 0));
    let _ = (ROOT, rid(4));
}

#[test]
fn what_an_earlier_flush_left_cached_is_forgotten_before_it_is_given_away() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    // The guest takes the page out of its table, and hardware does not confirm.
    bench.machine.ram.write(LEAVES + 8 * 5, 0);
    bench.machine.hardware.fail_next("commit");
    let (result, _) = bench.invalidate(table, &[(5 << 12, 1)]);
    assert_eq!(result, Errno::ETIMEDOUT.to_register());
    assert_ne!(bench.machine.hardware.stale(), []);
    let runs = bench.machine.ram.remove(0x25, 1);
    let gone = AddressRange::of_pages(Gpa::new(0x25_000), 1).unwrap();
    // No table leads there any more; a cache does.
    bench.machine.hardware.fail_next("reclaim");
    assert!(bench.machine.policy.forget(VM, &gone, &runs).is_err());
    let forgotten = bench.machine.policy.forget(VM, &gone, &runs).unwrap();
    assert_eq!(forgotten.entries, 0);
    bench.machine.ram.reuse(&runs);
    bench.machine.hardware.cache_everything();
    bench.machine.check_caches();
}
