//! Guests' tables that no honest guest would write: each beside one that differs in one
//! thing and is honoured.

mod common;

use common::machine::{
    AT_INTERRUPTS, CONTIGUOUS, LEAVES, ON_INTERRUPTS, READ_ONLY as READ_ONLY_MEMORY, ROOT, rid,
};
use common::tables::{FULL, P, PS, READ_ONLY, RW, XD};
use common::{Bench, Setup};
use iommu_abi::{Errno, Info};
use iommu_core::TableFormat::{FirstStage4, SecondStage3, SecondStage4};
use iommu_core::{Access, LeafSizes};
use std::sync::atomic::Ordering::Relaxed;

const FORMATS: [iommu_core::TableFormat; 3] = [FirstStage4, SecondStage4, SecondStage3];

/// What the device gets at 0x5000 if the leaf there is this.
fn with_leaf(format: iommu_core::TableFormat, leaf: u64) -> Option<(u64, bool)> {
    let (bench, table) = Bench::bound(Setup::new(format));
    bench.machine.ram.write(LEAVES + 8 * 5, leaf);
    bench.changed(table, &[(0x5000, 1)]);
    bench.check([0x5000, 0x6000]);
    let seen = bench.machine.hardware.walk(rid(4), 0x5000);
    bench.end();
    seen
}

#[test]
fn a_leaf_leads_to_the_guests_memory_or_nowhere() {
    for format in FORMATS {
        assert!(with_leaf(format, 0x30_000 | FULL).is_some());
        // Memory that does not exist, that is too high, that means interrupts on either
        // side.
        for nowhere in [
            0x600_000,
            0x3fff_ffff_f000,
            1 << 46,
            1 << 51,
            AT_INTERRUPTS << 12,
            ON_INTERRUPTS << 12,
        ] {
            assert_eq!(with_leaf(format, nowhere | FULL), None, "{nowhere:#x}");
        }
    }
}

#[test]
fn rights_are_those_that_table_and_memory_both_give() {
    for format in FORMATS {
        assert!(with_leaf(format, 0x30_000 | FULL).unwrap().1);
        assert!(!with_leaf(format, 0x30_000 | READ_ONLY).unwrap().1);
        assert!(!with_leaf(format, READ_ONLY_MEMORY << 12 | FULL).unwrap().1);
        assert_eq!(
            with_leaf(format, 0x30_000 | P | RW),
            None,
            "supervisor page"
        );
        assert_eq!(with_leaf(format, 0x30_000 | RW), None, "not present");
    }
}

#[test]
fn what_hardware_ignores_is_ignored() {
    for format in FORMATS {
        let plain = with_leaf(format, 0x30_000 | FULL);
        // XD, the bits for software, PWT, PCD, A, D, PAT, G.
        let decorated = with_leaf(format, 0x30_000 | FULL | XD | 0x7ff << 52 | 0xff8);
        assert_eq!(plain, decorated);
    }
}

#[test]
fn a_table_outside_the_guests_memory_is_no_table() {
    for format in FORMATS {
        let (bench, table) = Bench::bound(Setup::new(format));
        bench.machine.ram.write(0x3000 + 8, 0x600_000 | FULL);
        bench.machine.ram.write(0x3000 + 16, 0x5000 | FULL);
        bench.machine.ram.write(0x5000, 0x30_000 | FULL);
        bench.changed(table, &[(0, 2048)]);
        assert_eq!(bench.sees(0x20_0000), None);
        assert_eq!(bench.sees(0x40_0000), bench.host(0x30_000));
        bench.end();
    }
}

#[test]
fn a_table_in_memory_that_the_guest_may_only_read_is_honoured() {
    // Accessed bits are not maintained, so nothing writes there.
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    bench
        .machine
        .ram
        .write(READ_ONLY_MEMORY << 12, 0x30_000 | FULL);
    bench
        .machine
        .ram
        .write(0x3000 + 8, READ_ONLY_MEMORY << 12 | FULL);
    bench.changed(table, &[(0x20_0000, 512)]);
    assert_eq!(bench.sees(0x20_0000), bench.host(0x30_000));
    bench.end();
}

#[test]
fn large_pages_are_taken_apart_where_host_memory_or_unit_demand_it() {
    for (leaves, pages) in [
        (
            LeafSizes {
                mib2: true,
                gib1: true,
            },
            4,
        ),
        (
            LeafSizes {
                mib2: false,
                gib1: false,
            },
            5,
        ),
    ] {
        let setup = Setup {
            leaves,
            ..Setup::new(SecondStage4)
        };
        let (bench, table) = Bench::bound(setup);
        bench
            .machine
            .ram
            .write(0x3000 + 8, CONTIGUOUS << 12 | FULL | PS);
        bench.changed(table, &[(0x20_0000, 512)]);
        bench.check((0..512).map(|page| 0x20_0000 + (page << 12)));
        assert_eq!(bench.sees(0x20_0000), bench.host(CONTIGUOUS << 12));
        let mut info = Info::new();
        bench.machine.call(&mut info);
        assert_eq!(info.shadow_pages_used, pages);
        bench.end();
    }
}

#[test]
fn a_large_page_that_is_misaligned_or_at_a_level_without_is_reserved() {
    for format in FORMATS {
        let (bench, table) = Bench::bound(Setup::new(format));
        bench
            .machine
            .ram
            .write(0x3000 + 8, ((CONTIGUOUS << 12) + 0x2000) | FULL | PS);
        // Bit 12 of a large page is PAT.
        bench
            .machine
            .ram
            .write(0x3000 + 16, ((CONTIGUOUS << 12) + 0x1000) | FULL | PS);
        bench.machine.ram.write(ROOT + 8, FULL | PS);
        bench.changed(table, &[(0, 1 << 27)]);
        assert_eq!(bench.sees(0x20_0000), None);
        assert_eq!(bench.sees(0x40_0000), bench.host(CONTIGUOUS << 12));
        assert_eq!(bench.sees(1 << 39), None);
        bench.check([0x20_0000, 0x40_0000]);
        bench.end();
    }
}

#[test]
fn a_gigabyte_over_holes_and_scattered_memory_shows_what_there_is() {
    let setup = Setup::new(FirstStage4).quota(|quota| quota.shadow_pages = 64);
    let (bench, table) = Bench::bound(setup);
    // Guest addresses from 0: scattered pages, holes, contiguous parts.
    bench.machine.ram.write(0x2000 + 8, FULL | PS);
    // And a gigabyte of nothing.
    bench
        .machine
        .ram
        .write(0x2000 + 16, 0x4000_0000 | FULL | PS);
    bench.changed(table, &[(1 << 30, 1 << 19)]);
    bench.check((0..0x1200).map(|page| 1 << 30 | page << 12));
    assert_eq!(bench.sees(1 << 30 | 0x5000), bench.host(0x5000));
    assert_eq!(bench.sees(2 << 30), None);
    bench.end();
}

#[test]
fn a_table_that_points_to_itself_costs_a_page_a_level() {
    for (format, pages) in [(FirstStage4, 4), (SecondStage4, 4), (SecondStage3, 3)] {
        let bench = Bench::new(Setup::new(format));
        bench.machine.hardware.lazy.store(true, Relaxed);
        for index in 0..512 {
            bench.machine.ram.write(ROOT + 8 * index, ROOT | FULL);
        }
        let table = bench.allocate(ROOT);
        bench.machine.ram.take_reads();
        assert_eq!(bench.bind(bench.device_id, table), 0);
        let mut info = Info::new();
        bench.machine.call(&mut info);
        assert_eq!(info.shadow_pages_used, pages);
        // Every page is read once, and the first entry once more where a level is cut.
        assert!(bench.machine.ram.take_reads() <= 4 * 512 + 4);
        assert_eq!(bench.sees(0x5000), bench.host(ROOT));

        // One invalidation of everything costs no more.
        let (result, _) = bench.invalidate(table, &[(0, 1 << 35)]);
        assert_eq!(result, 1);
        assert!(bench.machine.ram.take_reads() <= 4 * 512 + 8);
        bench.end();
    }
}

#[test]
fn two_tables_that_point_to_each_other_are_as_cheap() {
    let bench = Bench::new(Setup::new(FirstStage4));
    bench.machine.hardware.lazy.store(true, Relaxed);
    for index in 0..512 {
        bench.machine.ram.write(0x1000 + 8 * index, 0x2000 | FULL);
        bench.machine.ram.write(0x2000 + 8 * index, 0x1000 | FULL);
    }
    let table = bench.allocate(ROOT);
    assert_eq!(bench.bind(bench.device_id, table), 0);
    let mut info = Info::new();
    bench.machine.call(&mut info);
    assert_eq!(info.shadow_pages_used, 4);
    // A change at the bottom is at 2^27 addresses: forgotten wholesale, at once.
    bench.told();
    bench.machine.ram.write(0x2000 + 8 * 7, 0);
    bench.changed(table, &[(7 << 12, 1)]);
    let (ranges, wholesale) = bench.told();
    assert_eq!((ranges.len(), wholesale), (0, 1));
    bench.end();
}

#[test]
fn a_root_is_refused_where_it_cannot_be_read() {
    let bench = Bench::new(Setup::new(FirstStage4));
    for (root, errno) in [
        (ROOT, None),
        (ROOT + 8, Some(Errno::EINVAL)),
        (0x600_000, Some(Errno::EFAULT)),
        (0xfee0_0000, Some(Errno::EFAULT)),
        (u64::MAX << 12, Some(Errno::EFAULT)),
    ] {
        let mut ask = bench.user_table(root);
        let result = bench.machine.call(&mut ask);
        assert_eq!(Errno::from_register(result).err(), errno, "{root:#x}");
    }
    bench.end();
}

#[test]
fn a_root_whose_memory_left_before_the_bind_is_refused_then() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let table = bench.allocate(ROOT);
    bench.machine.ram.remove(ROOT >> 12, 1);
    let result = bench.bind(bench.device_id, table);
    assert_eq!(result, Errno::EFAULT.to_register());
    assert_eq!(bench.sees(0x5000), None);
    let host = bench.machine.ram.host(0x2000).unwrap().0 >> 12;
    // The twin: memory is back.
    bench
        .machine
        .ram
        .add(ROOT >> 12, 1, host, Access::READ_WRITE, None);
    assert_eq!(bench.bind(bench.device_id, table), 0);
    bench.end();
}

#[test]
fn the_upper_half_is_translated_only_where_addresses_are_canonical() {
    let half = 0xffff_8000_0000_0000u64;
    for (format, iova_bits, upper) in [
        (FirstStage4, 48, true),
        (FirstStage4, 47, false),
        (SecondStage4, 48, false),
        (SecondStage3, 39, false),
    ] {
        let setup = Setup {
            iova_bits,
            ..Setup::new(format)
        };
        let (bench, table) = Bench::bound(setup);
        bench.machine.ram.write(ROOT + 8 * 256, 0x2000 | FULL);
        bench.changed(table, &[(half, 1 << 27)]);
        assert_eq!(bench.sees(half | 0x5000).is_some(), upper);
        // Bit 47 alone is no canonical address.
        assert_eq!(bench.sees(1 << 47 | 0x5000), None);
        bench.check([half | 0x5000, 1 << 47 | 0x5000, 0x5000]);
        // What is taken out there is forgotten there.
        bench.machine.ram.write(ROOT + 8 * 256, 0);
        bench.changed(table, &[(half, 1 << 27)]);
        bench.machine.check_caches();
        bench.end();
    }
}

#[test]
fn a_narrow_unit_translates_no_more_than_its_width() {
    for (format, iova_bits) in [(FirstStage4, 40), (SecondStage4, 40), (SecondStage4, 39)] {
        let setup = Setup {
            iova_bits,
            ..Setup::new(format)
        };
        let (bench, table) = Bench::bound(setup);
        for index in 1..256 {
            bench.machine.ram.write(ROOT + 8 * index, 0x2000 | FULL);
        }
        bench.changed(table, &[(0, 1 << 35)]);
        for bits in 30..47u64 {
            let address = 1 << bits | 0x5000;
            bench.check([address]);
            assert_eq!(
                bench.sees(address).is_some(),
                bits >= 39 && bits < u64::from(iova_bits),
                "bit {bits}"
            );
        }
        bench.end();
    }
}

#[test]
fn a_root_of_another_table_takes_effect_in_a_shadow_that_has_no_level_4() {
    let (bench, table) = Bench::bound(Setup::new(SecondStage3));
    // Entry 0 of the root leads to another table; the range names one page of it.
    bench.machine.ram.write(0xb000, 0x3000 | FULL);
    bench.machine.ram.write(0xb000 + 8 * 3, 0x3000 | READ_ONLY);
    bench.machine.ram.write(ROOT, 0xb000 | FULL);
    bench.changed(table, &[(0, 1)]);
    bench.check([0x5000, 3 << 30 | 0x5000]);
    assert!(bench.sees(3 << 30 | 0x5000).is_some());
    // Its rights hold for all below.
    bench.machine.ram.write(ROOT, 0xb000 | READ_ONLY);
    bench.changed(table, &[(0, 1)]);
    assert!(!bench.machine.hardware.walk(rid(4), 0x5000).unwrap().1);
    bench.check([0x5000]);
    bench.machine.ram.write(ROOT, 0xb000 | P | RW);
    bench.changed(table, &[(0, 1)]);
    assert_eq!(bench.sees(0x5000), None);
    bench.machine.check_caches();
    bench.end();
}
