//! What runs out is an error that undoes.

mod common;

use common::machine::{LEAVES, ROOT, VM};
use common::tables::FULL;
use common::{Bench, Setup};
use iommu_abi::{Errno, Info};
use iommu_core::TableFormat::{FirstStage4, SecondStage4};

#[test]
fn a_bind_beyond_the_quota_of_shadow_pages_leaves_nothing() {
    for (pages, fits) in [(4, true), (3, false), (1, false), (0, false)] {
        let bench = Bench::new(Setup::new(FirstStage4).quota(|quota| quota.shadow_pages = pages));
        let table = bench.allocate(ROOT);
        let result = bench.bind(bench.device_id, table);
        if fits {
            assert_eq!(result, 0);
            assert!(bench.sees(0x5000).is_some());
        } else {
            assert_eq!(result, Errno::EDQUOT.to_register());
            assert_eq!(bench.sees(0x5000), None);
            assert_eq!(bench.machine.platform.outstanding(), 0);
        }
        bench.end();
    }
}

#[test]
fn an_invalidation_beyond_the_quota_names_the_range_and_maps_nothing_there() {
    let (bench, table) =
        Bench::bound(Setup::new(FirstStage4).quota(|quota| quota.shadow_pages = 5));
    for (index, page) in [(1, 0xa000), (2, 0xb000)] {
        bench.machine.ram.write(0x3000 + 8 * index, page | FULL);
        bench.machine.ram.write(page, 0x30_000 | FULL);
    }
    let (result, ask) = bench.invalidate(table, &[(0x20_0000, 1), (0x40_0000, 1), (0x5000, 1)]);
    assert_eq!(result, Errno::EDQUOT.to_register());
    assert_eq!(ask.completed, 1);
    assert!(bench.sees(0x20_0000).is_some());
    assert_eq!(bench.sees(0x40_0000), None);
    assert!(bench.sees(0x5000).is_some());
    // Room is made, and the rest goes through.
    bench.machine.ram.write(0x3000 + 8, 0);
    bench.changed(table, &[(0x20_0000, 1), (0x40_0000, 1)]);
    assert!(bench.sees(0x40_0000).is_some());
    bench.machine.check_caches();
    bench.end();
}

#[test]
fn what_led_elsewhere_leads_nowhere_when_there_is_no_page_for_the_new_table() {
    let (bench, table) =
        Bench::bound(Setup::new(SecondStage4).quota(|quota| quota.shadow_pages = 4));
    bench.machine.ram.write(0xa000, 0x30_000 | FULL);
    bench.machine.ram.write(0x3000, 0xa000 | FULL);
    let (result, _) = bench.invalidate(table, &[(0, 512)]);
    assert_eq!(result, Errno::EDQUOT.to_register());
    assert_eq!(bench.sees(0x5000), None);
    bench.machine.check_caches();
    // The old page is free now.
    bench.changed(table, &[(0, 512)]);
    assert!(bench.sees(0).is_some());
    bench.end();
}

#[test]
fn objects_bindings_and_devices_have_quotas() {
    let setup = Setup::new(FirstStage4).quota(|quota| {
        quota.objects = 3;
        quota.bindings = 1;
    });
    let (bench, _) = Bench::bound(setup);
    let second = bench.machine.assign(5);
    assert_eq!(second, 3);
    let mut one_more = bench.user_table(ROOT);
    assert_eq!(
        bench.machine.call(&mut one_more),
        Errno::EDQUOT.to_register()
    );
    let device = common::machine::device(6);
    assert!(bench.machine.policy.assign(VM, device, 0).is_err());
    assert_eq!(bench.bind(second, 2), Errno::EDQUOT.to_register());
    assert_eq!(bench.unbind(bench.device_id), 0);
    assert_eq!(bench.bind(second, 2), 0);
    bench.end();
}

/// Fails the n-th allocation of `act` for every n until none fails, on a fresh machine
/// each time.
fn fail_each(
    prepare: impl Fn() -> (Bench, u32),
    act: impl Fn(&Bench, u32) -> i64,
    after_failure: impl Fn(&Bench),
) {
    for n in 1.. {
        let (bench, table) = prepare();
        bench.machine.platform.fail_allocation(n);
        let result = act(&bench, table);
        if bench.machine.platform.failure_is_pending() {
            assert!(n > 2, "nothing was allocated");
            assert!(result >= 0);
            bench.machine.platform.fail_allocation(0);
            bench.end();
            return;
        }
        assert_eq!(result, Errno::ENOMEM.to_register(), "allocation {n}");
        after_failure(&bench);
        bench.machine.check_caches();
        // The same again succeeds.
        assert!(act(&bench, table) >= 0);
        bench.end();
    }
}

#[test]
fn a_bind_whose_nth_allocation_fails_leaves_nothing_for_every_n() {
    for format in [FirstStage4, SecondStage4] {
        fail_each(
            || {
                let bench = Bench::new(Setup::new(format));
                bench.machine.ram.write(0x3000 + 8, 0xa000 | FULL);
                bench.machine.ram.write(0x2000 + 8, 0xb000 | FULL);
                let table = bench.allocate(ROOT);
                (bench, table)
            },
            |bench, table| bench.bind(bench.device_id, table),
            |bench| {
                assert_eq!(bench.machine.platform.outstanding(), 0);
                assert_eq!(bench.sees(0x5000), None);
            },
        );
    }
}

#[test]
fn an_invalidation_whose_nth_allocation_fails_leaves_what_was_for_every_n() {
    fail_each(
        || {
            let (bench, table) = Bench::bound(Setup::new(FirstStage4));
            bench.machine.ram.write(0xa000, 0xb000 | FULL);
            bench.machine.ram.write(0xb000, 0xc000 | FULL);
            bench.machine.ram.write(0xc000, 0x30_000 | FULL);
            bench.machine.ram.write(ROOT + 8, 0xa000 | FULL);
            (bench, table)
        },
        |bench, table| bench.invalidate(table, &[(1 << 39, 1 << 27)]).0,
        |bench| {
            let mut info = Info::new();
            assert_eq!(bench.machine.call(&mut info), 0);
            assert_eq!(info.shadow_pages_used, 4);
            bench.check([0x5000]);
            assert!(bench.sees(0x5000).is_some());
            assert_eq!(bench.sees(1 << 39), None);
        },
    );
}

#[test]
fn work_is_bounded_and_a_long_array_is_done_in_parts() {
    let setup = Setup::new(FirstStage4).quota(|quota| quota.shadow_pages = 600);
    let (bench, table) = Bench::bound(setup);
    bench
        .machine
        .hardware
        .lazy
        .store(true, std::sync::atomic::Ordering::Relaxed);
    // Each of these entries is a new way to 512 entries of 512 entries.
    for index in 0..512 {
        bench.machine.ram.write(LEAVES + 8 * index, 0x30_000 | FULL);
    }
    let ranges: Vec<(u64, u64)> = (0..600).map(|n| ((n % 512) << 12, 1)).collect();
    let (result, ask) = bench.invalidate(table, &ranges);
    let mut info = Info::new();
    bench.machine.call(&mut info);
    assert_eq!(result, i64::from(info.invalidate_entries));
    assert_eq!(ask.completed, info.invalidate_entries);
    bench.end();
}
