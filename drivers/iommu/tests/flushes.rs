//! What hardware is told: no more than the change demands, once a call.

mod common;

use common::machine::{LEAVES, ROOT};
use common::tables::FULL;
use common::{Bench, Setup};
use iommu_abi::{Errno, Invalidate};
use iommu_core::TableFormat::{FirstStage4, SecondStage4};

#[test]
fn a_new_mapping_costs_no_flush_where_absence_is_not_cached() {
    for (format, caching_mode, flushes) in [
        (FirstStage4, false, 0),
        (FirstStage4, true, 0),
        (SecondStage4, false, 0),
        (SecondStage4, true, 1),
    ] {
        let setup = Setup {
            caching_mode,
            ..Setup::new(format)
        };
        let (bench, table) = Bench::bound(setup);
        let before = bench.commits();
        bench.machine.ram.write(LEAVES + 8 * 20, 0x30_000 | FULL);
        bench.changed(table, &[(20 << 12, 1)]);
        assert_eq!(
            bench.commits() - before,
            flushes,
            "{format:?} {caching_mode}"
        );
        bench.check([20 << 12]);
        bench.end();
    }
}

#[test]
fn a_changed_leaf_is_forgotten_alone_and_keeps_the_tables_cached() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    bench.told();
    bench.machine.ram.write(LEAVES + 8 * 5, 0x30_000 | FULL);
    bench.changed(table, &[(0, 512)]);
    assert_eq!(bench.told(), (vec![(0x5000, 1, true)], 0));
    bench.machine.check_caches();
    bench.end();
}

#[test]
fn a_table_taken_out_is_forgotten_with_all_below_it() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    bench.told();
    bench.machine.ram.write(0x3000, 0);
    bench.changed(table, &[(0x5000, 1)]);
    assert_eq!(bench.told(), (vec![(0, 512, false)], 0));
    bench.machine.check_caches();
    bench.end();
}

#[test]
fn what_did_not_change_is_not_flushed() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let before = bench.commits();
    bench.changed(table, &[(0, 1 << 27), (0x5000, 1)]);
    assert_eq!(bench.commits(), before);
    bench.end();
}

#[test]
fn one_flush_for_a_call_whatever_its_number_of_ranges() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    for index in 0..512 {
        bench.machine.ram.write(LEAVES + 8 * index, 0x30_000 | FULL);
    }
    bench.changed(table, &[(0, 512)]);
    for count in [1u64, 7, 60, 256] {
        let ranges: Vec<(u64, u64)> = (0..count).map(|n| (n << 13, 1)).collect();
        for (address, _) in &ranges {
            bench.machine.ram.write(LEAVES + (address >> 9), 0);
        }
        bench.told();
        let before = bench.commits();
        bench.changed(table, &ranges);
        assert_eq!(bench.commits() - before, 1);
        let (told, wholesale) = bench.told();
        assert_eq!((told.len() as u64, wholesale), (count, 0));
        for (address, _) in &ranges {
            bench
                .machine
                .ram
                .write(LEAVES + (address >> 9), 0x31_000 | FULL);
        }
        bench.changed(table, &ranges);
    }
    bench.machine.check_caches();
    bench.end();
}

#[test]
fn neighbours_are_forgotten_as_one_range() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    bench.told();
    for index in 5..13 {
        bench.machine.ram.write(LEAVES + 8 * index, 0);
    }
    let ranges: Vec<(u64, u64)> = (5..13).map(|page| (page << 12, 1)).collect();
    bench.changed(table, &ranges);
    assert_eq!(bench.told(), (vec![(0x5000, 8, true)], 0));
    bench.end();
}

#[test]
fn everything_looks_at_everything_and_flushes_what_changed() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    bench.told();
    bench.machine.ram.write(LEAVES + 8 * 5, 0);
    bench.machine.ram.write(LEAVES + 8 * 7, 0x30_000 | FULL);
    let mut ask = Invalidate {
        ioas_id: table,
        granularity: 1,
        ..Invalidate::new()
    };
    assert_eq!(bench.machine.call(&mut ask), 0);
    assert_eq!(
        bench.told(),
        (vec![(0x5000, 1, true), (0x7000, 1, true)], 0)
    );
    bench.check([0x5000, 0x7000]);
    bench.end();
}

#[test]
fn an_exact_range_reads_only_the_entries_on_its_way() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    bench.machine.ram.take_reads();
    bench.changed(table, &[(0x5000, 1)]);
    assert_eq!(bench.machine.ram.take_reads(), 4);
    bench.changed(table, &[(0x5000, 8)]);
    assert_eq!(bench.machine.ram.take_reads(), 3 + 8);
    bench.end();
}

#[test]
fn a_table_that_nothing_is_bound_to_costs_nothing() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let table = bench.allocate(ROOT);
    bench.machine.ram.take_reads();
    bench.changed(table, &[(0, 1 << 27)]);
    assert_eq!((bench.machine.ram.take_reads(), bench.commits()), (0, 1));
    bench.end();
}

#[test]
fn a_bad_entry_is_named_those_before_it_are_done_and_those_after_it_are_not() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    for (bad, errno) in [
        ((0x6001, 1), Errno::EINVAL),
        ((0x6000, 0), Errno::EINVAL),
        ((0x6000, u64::MAX), Errno::EOVERFLOW),
        ((0x6000, 1 << 51), Errno::EINVAL),
        ((1 << 47, 1), Errno::EINVAL),
        ((0x7fff_ffff_f000, 2), Errno::EINVAL),
    ] {
        for page in 5..8 {
            bench.machine.ram.write(LEAVES + 8 * page, 0x30_000 | FULL);
        }
        bench.changed(table, &[(0x5000, 3)]);
        for page in 5..8 {
            bench.machine.ram.write(LEAVES + 8 * page, 0);
        }
        let before = bench.commits();
        let (result, ask) = bench.invalidate(table, &[(0x5000, 1), bad, (0x7000, 1)]);
        assert_eq!(Errno::from_register(result), Err(errno), "{bad:#x?}");
        assert_eq!(ask.completed, 1);
        assert_eq!(bench.commits() - before, 1);
        assert_eq!(bench.sees(0x5000), None);
        assert!(bench.sees(0x7000).is_some());
        // The rest, with the bad one put right.
        bench.changed(table, &[(0x6000, 1), (0x7000, 1)]);
        bench.check([0x5000, 0x6000, 0x7000]);
    }
    bench.end();
}

#[test]
fn flags_and_reserved_fields_of_entries_are_refused_when_unknown() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    bench.changed(table, &[(0x5000, 1)]);
    for (offset, value, errno) in [
        (16, 1u8, None),
        (16, 2, Some(Errno::EOPNOTSUPP)),
        (20, 1, Some(Errno::EOPNOTSUPP)),
    ] {
        bench.machine.ram.write_bytes((80 << 12) + 16, &[0; 8]);
        bench.machine.ram.write_bytes((80 << 12) + offset, &[value]);
        let mut ask = Invalidate {
            ioas_id: table,
            granularity: 2,
            entries: 80 << 12,
            entry_size: 24,
            entry_count: 1,
            model: 1,
            ..Invalidate::new()
        };
        let result = bench.machine.call(&mut ask);
        assert_eq!(Errno::from_register(result).err(), errno);
        assert_eq!(ask.completed, u32::from(errno.is_none()));
    }
    bench.end();
}
