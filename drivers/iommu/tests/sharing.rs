//! Shadow pages are shared by all that lead to them: what one table's invalidation changes
//! is right for all, and what falls out is forgotten by all.

mod common;

use common::machine::{LEAVES, ROOT, rid};
use common::tables::{FULL, READ_ONLY};
use common::{Bench, Setup};
use iommu_core::TableFormat::{FirstStage4, SecondStage3, SecondStage4};

/// A second root, that shares the level-2 table at 0x3000 with the first.
const OTHER_ROOT: u64 = 0x8000;

/// Two tables that share a level-2 table, each bound to a device of its own.
fn two_tables(setup: Setup) -> (Bench, u32, u32) {
    let (bench, first) = Bench::bound(setup);
    let other_device = bench.machine.assign(5);
    bench.machine.ram.write(OTHER_ROOT, 0x9000 | FULL);
    bench.machine.ram.write(0x9000, 0x3000 | FULL);
    let second = bench.allocate(OTHER_ROOT);
    assert_eq!(bench.bind(other_device, second), 0);
    (bench, first, second)
}

fn shadow_pages(bench: &Bench) -> u32 {
    let mut info = iommu_abi::Info::new();
    assert_eq!(bench.machine.call(&mut info), 0);
    info.shadow_pages_used
}

#[test]
fn a_table_that_shares_a_subtree_costs_only_its_own_pages() {
    for (format, alone, with_other) in [(FirstStage4, 4, 6), (SecondStage4, 4, 6)] {
        let (bench, _) = Bench::bound(Setup::new(format));
        assert_eq!(shadow_pages(&bench), alone);
        drop(bench);
        let (bench, ..) = two_tables(Setup::new(format));
        assert_eq!(shadow_pages(&bench), with_other);
        bench.end();
    }
}

#[test]
fn a_change_that_one_table_invalidates_is_forgotten_by_the_other() {
    for format in [FirstStage4, SecondStage4, SecondStage3] {
        let (bench, first, _) = two_tables(Setup::new(format));
        bench.machine.ram.write(LEAVES + 8 * 5, 0x30_000 | FULL);
        bench.changed(first, &[(0x5000, 1)]);
        bench.machine.check_translation(rid(4), ROOT, 0x5000);
        bench.machine.check_translation(rid(5), OTHER_ROOT, 0x5000);
        assert_eq!(bench.sees(0x5000), bench.host(0x30_000));
        bench.machine.check_caches();
        bench.end();
    }
}

#[test]
fn a_table_page_that_falls_out_of_both_is_forgotten_by_both_before_it_is_reused() {
    for format in [FirstStage4, SecondStage4, SecondStage3] {
        let (bench, first, _) = two_tables(Setup::new(format));
        // The level-2 entry goes; the level-1 shadow page falls out of both tables.
        bench.machine.ram.write(0x3000, 0);
        bench.changed(first, &[(0, 512)]);
        bench.machine.check_caches();
        assert_eq!(bench.sees(0x5000), None);
        bench.end();
    }
}

#[test]
fn a_page_bound_again_is_as_the_guest_has_it_now_and_not_as_the_other_table_knew_it() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    // The guest changes an entry and has not told the first table's devices yet.
    bench.machine.ram.write(LEAVES + 8 * 20, 0x31_000 | FULL);
    let other_device = bench.machine.assign(5);
    bench.machine.ram.write(OTHER_ROOT, 0x9000 | FULL);
    bench.machine.ram.write(0x9000, 0x3000 | FULL);
    let second = bench.allocate(OTHER_ROOT);
    assert_eq!(bench.bind(other_device, second), 0);
    bench
        .machine
        .check_translation(rid(5), OTHER_ROOT, 20 << 12);
    assert!(bench.machine.hardware.walk(rid(5), 20 << 12).is_some());
    bench.end();
}

#[test]
fn a_new_way_to_a_known_page_shows_all_that_the_guest_has_there() {
    let (bench, first, second) = two_tables(Setup::new(FirstStage4));
    let _ = first;
    // Another entry of the second table leads to the level-1 table, which the guest has
    // changed without telling; the range names one page of it only.
    bench.machine.ram.write(LEAVES + 8 * 21, 0x32_000 | FULL);
    bench.machine.ram.write(0x9000 + 8, 0xa000 | FULL);
    bench.machine.ram.write(0xa000, 0x4000 | FULL);
    bench.changed(second, &[(1 << 30, 1)]);
    let address = 1 << 30 | 21 << 12;
    bench.machine.check_translation(rid(5), OTHER_ROOT, address);
    assert!(bench.machine.hardware.walk(rid(5), address).is_some());
    bench.end();
}

#[test]
fn an_existing_child_below_a_new_page_shows_what_the_guest_has_there() {
    let (bench, _, second) = two_tables(Setup::new(FirstStage4));
    bench.machine.ram.write(LEAVES + 8 * 21, 0x32_000 | FULL);
    // A page 0xa000 that no shadow knows leads to 0x4000, which one knows.
    bench.machine.ram.write(0xa000 + 8 * 3, 0x4000 | FULL);
    bench.machine.ram.write(0x9000 + 8, 0xa000 | FULL);
    bench.changed(second, &[(1 << 30, 1 << 18)]);
    let address = 1 << 30 | 3 << 21 | 21 << 12;
    bench.machine.check_translation(rid(5), OTHER_ROOT, address);
    assert!(bench.machine.hardware.walk(rid(5), address).is_some());
    bench.end();
}

#[test]
fn rights_differ_by_the_way_although_the_page_is_shared() {
    for format in [FirstStage4, SecondStage4] {
        let (bench, _, second) = two_tables(Setup::new(format));
        bench.machine.ram.write(0x9000, 0x3000 | READ_ONLY);
        bench.changed(second, &[(0, 1 << 18)]);
        let write = |number| bench.machine.hardware.walk(rid(number), 0x5000).unwrap().1;
        assert_eq!((write(4), write(5)), (true, false));
        bench.machine.check_caches();
        bench.end();
    }
}

#[test]
fn the_same_root_bound_as_two_tables_is_told_twice() {
    let (bench, first) = Bench::bound(Setup::new(FirstStage4));
    let other_device = bench.machine.assign(5);
    let second = bench.allocate(ROOT);
    assert_eq!(bench.bind(other_device, second), 0);
    assert_eq!(shadow_pages(&bench), 4);
    bench.told();
    bench.machine.ram.write(LEAVES + 8 * 5, 0);
    bench.changed(first, &[(0x5000, 1)]);
    let (ranges, _) = bench.told();
    assert_eq!(ranges, [(0x5000, 1, true), (0x5000, 1, true)]);
    bench.machine.check_caches();
    bench.end();
}

#[test]
fn unbinding_one_of_two_devices_leaves_the_other_as_it_was() {
    let (bench, first) = Bench::bound(Setup::new(FirstStage4));
    let other_device = bench.machine.assign(5);
    assert_eq!(bench.bind(other_device, first), 0);
    assert_eq!(bench.unbind(bench.device_id), 0);
    assert_eq!(bench.machine.hardware.walk(rid(4), 0x5000), None);
    bench.machine.check_translation(rid(5), ROOT, 0x5000);
    assert!(bench.machine.hardware.walk(rid(5), 0x5000).is_some());
    assert_eq!(bench.unbind(other_device), 0);
    assert_eq!(shadow_pages(&bench), 0);
    bench.end();
}
