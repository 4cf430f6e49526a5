//! A call that looks at large tables stops when its work is done, so that others get their
//! turn, and goes on where it was.

mod common;

use common::machine::{ROOT, VM};
use common::tables::FULL;
use common::{Bench, Setup};
use iommu::Progress;
use iommu_abi::{Argument, Info, IntoBytes as _, Invalidate, InvalidateRange};
use iommu_core::Gpa;
use iommu_core::TableFormat::{FirstStage4, SecondStage3, SecondStage4};

/// The guest's table of level 2, and tables of level 1 that it did not have at first.
const MIDDLE: u64 = 0x3000;
const TABLES: u64 = 300;
/// Guest pages for them.
const FIRST: u64 = 0x900;
/// Where arguments lie.
const ARGUMENT: u64 = 0x5c_000;
/// Entries that one part looks at: the budget, and the tables that it was in at the end and
/// goes through again.
const MOST: u64 = (1 << 16) + 4 * 512;

/// The guest makes many tables, each with one page. It has not told yet.
fn grown() -> (Bench, u32) {
    grown_on(Setup::new(FirstStage4))
}

fn grown_on(setup: Setup) -> (Bench, u32) {
    let (bench, table) = Bench::bound(setup.quota(|quota| quota.shadow_pages = 1024));
    let ram = &bench.machine.ram;
    for number in 0..TABLES {
        let page = (FIRST + number) << 12;
        ram.write(page + 8 * 7, (0x20 + number % 8) << 12 | FULL);
        ram.write(MIDDLE + 8 * (1 + number), page | FULL);
    }
    ram.take_reads();
    (bench, table)
}

fn address(number: u64) -> u64 {
    (1 + number) << 21 | 7 << 12
}

fn everything(ioas_id: u32) -> Invalidate {
    Invalidate {
        ioas_id,
        granularity: 1,
        ..Invalidate::new()
    }
}

/// Does a call to its end; how many entries each part looked at.
fn parts(bench: &Bench, argument: &Invalidate, mut between: impl FnMut()) -> (i64, Vec<u64>) {
    let ram = &bench.machine.ram;
    ram.write_bytes(ARGUMENT, argument.as_bytes());
    let mut progress = Progress::default();
    let mut reads = Vec::new();
    loop {
        ram.take_reads();
        let op = u64::from(Invalidate::OP.as_u32());
        let policy = &bench.machine.policy;
        let result = policy.call_part(VM, op, Gpa::new(ARGUMENT), &mut progress);
        reads.push(ram.take_reads());
        assert!(reads.len() < 20, "no end: {reads:?}");
        match result {
            Some(result) => return (result, reads),
            None => between(),
        }
    }
}

fn sees_all(bench: &Bench) -> bool {
    (0..TABLES).step_by(13).all(|number| {
        let host = bench.host((0x20 + number % 8) << 12);
        host.is_some() && bench.sees(address(number)) == host
    })
}

#[test]
fn an_invalidation_of_everything_stops_when_its_work_is_done_and_goes_on() {
    for format in [FirstStage4, SecondStage4, SecondStage3] {
        let (bench, table) = grown_on(Setup::new(format));
        let (result, reads) = parts(&bench, &everything(table), || {});
        assert_eq!(result, 0);
        assert!(reads.len() >= 3, "{reads:?}");
        assert!(reads.iter().all(|&reads| reads <= MOST), "{reads:?}");
        let whole = (TABLES + 3) * 512;
        let all: u64 = reads.iter().sum();
        let again = reads.len() as u64 * 4 * 512;
        assert!((whole..=whole + again).contains(&all), "{reads:?}");
        assert!(sees_all(&bench));
        bench.end();
    }
}

#[test]
fn a_range_that_is_everything_stops_too_and_is_done_once() {
    let (bench, table) = grown();
    let range = InvalidateRange {
        address: 0,
        pages: 1 << 35,
        ..InvalidateRange::default()
    };
    let ram = &bench.machine.ram;
    ram.write_bytes(ARGUMENT + 256, range.as_bytes());
    let ask = Invalidate {
        ioas_id: table,
        granularity: 2,
        entries: ARGUMENT + 256,
        entry_size: 24,
        entry_count: 1,
        model: 1,
        ..Invalidate::new()
    };
    let (result, reads) = parts(&bench, &ask, || {});
    assert_eq!(result, 1);
    assert!(reads.len() >= 3, "{reads:?}");
    assert!(reads.iter().all(|&reads| reads <= MOST), "{reads:?}");
    assert!(sees_all(&bench));
    bench.end();
}

#[test]
fn other_calls_of_the_guest_in_between_do_not_undo_what_was_done() {
    let (quiet, table) = grown();
    let (_, alone) = parts(&quiet, &everything(table), || {});
    quiet.end();
    let (bench, table) = grown();
    let (result, beside) = parts(&bench, &everything(table), || {
        bench.changed(table, &[(0x5000, 1)]);
        assert_eq!(bench.machine.call(&mut Info::new()), 0);
    });
    assert_eq!((result, beside.len()), (0, alone.len()));
    assert!(sees_all(&bench));
    bench.end();
}

#[test]
fn what_changes_after_a_call_is_seen_by_the_next() {
    let (bench, table) = grown();
    parts(&bench, &everything(table), || {});
    let page = (FIRST + TABLES - 1) << 12;
    bench.machine.ram.write(page + 8 * 7, 0x29_000 | FULL);
    let (result, _) = parts(&bench, &everything(table), || {});
    assert_eq!(result, 0);
    assert_eq!(bench.sees(address(TABLES - 1)), bench.host(0x29_000));
    bench.end();
}

#[test]
fn a_guest_that_goes_between_two_parts_leaves_nothing() {
    let (bench, table) = grown();
    let argument = everything(table);
    bench.machine.ram.write_bytes(ARGUMENT, argument.as_bytes());
    let mut progress = Progress::default();
    let op = u64::from(Invalidate::OP.as_u32());
    let policy = &bench.machine.policy;
    let result = policy.call_part(VM, op, Gpa::new(ARGUMENT), &mut progress);
    assert_eq!(result, None);
    bench.machine.check_caches();
    bench.end();
}

#[test]
fn a_call_that_is_made_whole_does_all() {
    let (bench, table) = grown();
    assert_eq!(bench.machine.call(&mut everything(table)), 0);
    assert!(sees_all(&bench));
    bench.machine.check_caches();
    bench.end();
}

/// Whoever makes calls whole is not kept for ever by a guest that has its tables changed all the
/// while: by another CPU, or by a device.
#[test]
fn a_call_that_is_made_whole_ends_whatever_the_tables_do() {
    /// A table of level 3, and that of level 2 behind it; and the same again.
    const TREES: [[u64; 2]; 2] = [[0x38_000, 0x39_000], [0x3a_000, 0x3b_000]];
    /// Well above the parts that are made, and what is read besides.
    const MOST: u64 = 100;
    let (bench, table) = grown();
    let ram = &bench.machine.ram;
    for [upper, middle] in TREES {
        ram.write(upper, middle | FULL);
        for number in 0..TABLES {
            let page = (FIRST + number) << 12;
            ram.write(middle + 8 * number, page | FULL);
        }
    }
    let (changed, mut times) = (ram.clone(), 0u64);
    ram.before_reads(move |at| {
        if at == ROOT {
            times += 1;
            assert!(times < MOST, "no end");
            let [upper, _] = TREES[times as usize % 2];
            changed.write(ROOT, upper | FULL);
        }
    });
    assert_eq!(bench.machine.call(&mut everything(table)), 0);
    ram.before_reads(|_| {});
    bench.machine.check_caches();
    bench.end();
}
