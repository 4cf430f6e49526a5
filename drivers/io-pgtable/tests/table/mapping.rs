//! Mapping ranges: what is translated, by which pages, and what is refused.

use crate::fixture::{Fixture, GIB1, LARGE, MIB2, PAGE, SMALL, config, finish, pages, run};
use io_pgtable::TableConfig;
use iommu_core::TableFormat::{FirstStage4, FirstStage5, SecondStage3, SecondStage4, SecondStage5};
use iommu_core::{Access, Coherence, Hpa, Iova, LeafSizes, MapError, TableFormat};
use test_platform::TestPlatform;

const RW: Access = Access::READ_WRITE;

#[test]
fn an_empty_table_translates_nothing() {
    for format in TableFormat::ALL {
        let fixture = Fixture::new(format, LARGE);
        for iova in [0, PAGE, GIB1, 0x7f_ffff_f000, u64::MAX << 12] {
            assert_eq!(
                fixture.table.translate(&fixture.platform, Iova::new(iova)),
                None
            );
        }
        finish(fixture);
    }
}

#[test]
fn scattered_pages_are_translated_in_every_format() {
    for format in TableFormat::ALL {
        let mut fixture = Fixture::new(format, LARGE);
        let runs = [
            run(0x7000, 1),
            run(0x3f_ffff_f000, 1),
            run(0x1_2345_6000, 3),
        ];
        let mapped = fixture.map_telling(0x1ff_e000, &runs, RW).unwrap();
        assert_eq!(mapped.range, pages(0x1ff_e000, 5));
        assert!(!mapped.leaf_only);
        fixture.check();
        finish(fixture);
    }
}

#[test]
fn both_ends_of_the_address_space_are_translated() {
    let ends = [
        (FirstStage4, 0x7fff_ffff_f000),
        (FirstStage4, 0xffff_8000_0000_0000),
        (FirstStage4, u64::MAX << 12),
        (FirstStage5, 0x00ff_ffff_ffff_f000),
        (FirstStage5, u64::MAX << 12),
        (SecondStage3, 0x7f_ffff_f000),
        (SecondStage4, 0xffff_ffff_f000),
        (SecondStage5, 0x01ff_ffff_ffff_f000),
    ];
    for (format, iova) in ends {
        let mut fixture = Fixture::new(format, LARGE);
        fixture.map(iova, &[run(0x5000, 1)], RW).unwrap();
        fixture.check();
        fixture.unmap(pages(iova, 1)).unwrap();
        finish(fixture);
    }
}

#[test]
fn rights_are_those_asked_for() {
    for (format, access) in [
        (FirstStage4, Access::READ),
        (FirstStage4, RW),
        (SecondStage4, Access::READ),
        (SecondStage4, Access::WRITE),
        (SecondStage4, RW),
    ] {
        let mut fixture = Fixture::new(format, LARGE);
        fixture.map(0, &[run(MIB2, 513)], access).unwrap();
        fixture.check();
        finish(fixture);
    }
}

#[test]
fn a_second_mapping_beside_the_first_changes_leaves_alone() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    for (iova, leaf_only) in [(0, false), (PAGE, true), (MIB2, false)] {
        let mapped = fixture.map_telling(iova, &[run(0x5000, 1)], RW).unwrap();
        assert_eq!(mapped.leaf_only, leaf_only);
    }
    fixture.check();
    finish(fixture);
}

/// Maps one run and tells the level of the leaf at its start.
fn level_of_leaf(leaves: LeafSizes, iova: u64, hpa: u64, pages: u64) -> u8 {
    let levels = [FirstStage4, SecondStage3].map(|format| {
        let mut fixture = Fixture::new(format, leaves);
        fixture.map(iova, &[run(hpa, pages)], RW).unwrap();
        let (level, _) = fixture.last_entry(iova);
        // The first and the last page are enough; the others share their leaf.
        fixture.check_page(iova);
        fixture.check_page(iova + (pages - 1) * PAGE);
        fixture.check_page(iova + pages * PAGE);
        finish(fixture);
        level
    });
    assert_eq!(levels[0], levels[1], "both stages alike");
    levels[0]
}

#[test]
fn the_largest_page_that_fits_is_used() {
    let only_2m = LeafSizes {
        mib2: true,
        gib1: false,
    };
    assert_eq!(level_of_leaf(LARGE, GIB1, 3 * GIB1, 1 << 18), 3);
    assert_eq!(level_of_leaf(only_2m, GIB1, 3 * GIB1, 1 << 18), 2);
    assert_eq!(level_of_leaf(SMALL, GIB1, 3 * GIB1, 1 << 10), 1);
    // One page short, IOVA or host address not aligned to it: the next smaller one.
    assert_eq!(level_of_leaf(LARGE, GIB1, 3 * GIB1, (1 << 18) - 1), 2);
    assert_eq!(level_of_leaf(LARGE, GIB1 + MIB2, 3 * GIB1, 1 << 18), 2);
    assert_eq!(level_of_leaf(LARGE, GIB1, 3 * GIB1 + MIB2, 1 << 18), 2);
    assert_eq!(level_of_leaf(LARGE, MIB2, 5 * MIB2, 512), 2);
    assert_eq!(level_of_leaf(LARGE, MIB2, 5 * MIB2, 511), 1);
    assert_eq!(level_of_leaf(LARGE, MIB2 + PAGE, 5 * MIB2, 512), 1);
    assert_eq!(level_of_leaf(LARGE, MIB2, 5 * MIB2 + PAGE, 512), 1);
}

#[test]
fn one_gib_pages_need_two_mib_pages_to_be_split_into() {
    let only_1g = LeafSizes {
        mib2: false,
        gib1: true,
    };
    assert_eq!(level_of_leaf(only_1g, GIB1, 3 * GIB1, 1 << 18), 1);
}

#[test]
fn runs_that_continue_each_other_make_a_large_page() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    let runs = [run(MIB2, 100), run(MIB2 + 100 * PAGE, 412)];
    fixture.map(GIB1, &runs, RW).unwrap();
    assert_eq!(fixture.last_entry(GIB1).0, 2);
    fixture.check();
    let broken = [run(3 * MIB2, 100), run(3 * MIB2 + 101 * PAGE, 412)];
    fixture.map(2 * GIB1, &broken, RW).unwrap();
    assert_eq!(fixture.last_entry(2 * GIB1).0, 1);
    fixture.check();
    finish(fixture);
}

#[test]
fn a_range_may_begin_and_end_between_large_pages() {
    let mut fixture = Fixture::new(FirstStage4, LARGE);
    fixture
        .map(
            GIB1 - 3 * PAGE,
            &[run(2 * GIB1 - 3 * PAGE, (1 << 18) + 512 + 8)],
            RW,
        )
        .unwrap();
    assert_eq!(fixture.last_entry(GIB1 - PAGE).0, 1);
    assert_eq!(fixture.last_entry(GIB1).0, 3);
    assert_eq!(fixture.last_entry(2 * GIB1).0, 2);
    assert_eq!(fixture.last_entry(2 * GIB1 + MIB2).0, 1);
    for page in [
        GIB1 - 4 * PAGE,
        GIB1 - 3 * PAGE,
        GIB1,
        2 * GIB1 - PAGE,
        2 * GIB1,
    ] {
        fixture.check_page(page);
    }
    for page in 0..8 {
        fixture.check_page(2 * GIB1 + MIB2 + page * PAGE);
    }
    finish(fixture);
}

#[test]
fn snoop_is_set_in_second_stage_leaves_of_units_that_control_it() {
    const SNP: u64 = 1 << 11;
    for (format, snoop_control, expected) in [
        (SecondStage4, true, SNP),
        (SecondStage4, false, 0),
        (FirstStage4, true, 0),
    ] {
        let mut config = TableConfig {
            snoop: true,
            ..config(LARGE)
        };
        config.limits.snoop_control = snoop_control;
        let mut fixture = Fixture::with(TestPlatform::new(16), format, config);
        fixture.map(0, &[run(MIB2, 513)], RW).unwrap();
        let mut steps = Vec::new();
        for iova in [0, MIB2] {
            fixture.table.walk(
                &fixture.platform,
                Iova::new(iova),
                &mut |level, _, entry| {
                    steps.push((level, entry & SNP));
                },
            );
        }
        let expected = [
            (4, 0),
            (3, 0),
            (2, expected),
            (4, 0),
            (3, 0),
            (2, 0),
            (1, expected),
        ];
        assert_eq!(steps, expected);
        finish(fixture);
    }
}

/// What `map` answers; on refusal everything is as it was.
#[track_caller]
fn refusal(fixture: &mut Fixture, iova: u64, run: iommu_core::Run, access: Access) -> MapError {
    let pages_before = fixture.table.table_pages();
    let error = fixture.map(iova, &[run], access).unwrap_err();
    assert_eq!(fixture.table.table_pages(), pages_before);
    fixture.check();
    error
}

#[test]
fn what_is_mapped_is_not_mapped_over() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    fixture.map(MIB2 + 5 * PAGE, &[run(0x5000, 1)], RW).unwrap();
    let occupied = |iova| MapError::Occupied(Iova::new(iova));
    for (iova, pages) in [(MIB2 + 5 * PAGE, 1), (MIB2, 512), (0, 1024), (PAGE, 517)] {
        let error = refusal(&mut fixture, iova, run(0, pages), RW);
        assert_eq!(error, occupied(MIB2 + 5 * PAGE));
    }
    fixture.map(PAGE, &[run(0, 516)], RW).unwrap();
    fixture.check();

    fixture.map(4 * MIB2, &[run(MIB2, 512)], RW).unwrap();
    let error = refusal(&mut fixture, 5 * MIB2 - PAGE, run(0, 1), RW);
    assert_eq!(error, occupied(5 * MIB2 - PAGE));
    let error = refusal(&mut fixture, 3 * MIB2, run(0, 1024), RW);
    assert_eq!(error, occupied(4 * MIB2));
    finish(fixture);
}

#[test]
fn the_interrupt_range_is_refused_and_its_neighbours_are_not() {
    for format in TableFormat::ALL {
        let mut fixture = Fixture::new(format, SMALL);
        let interrupts = |iova| MapError::InterruptRange(Iova::new(iova));
        for (iova, pages, first) in [
            (0xfee0_0000, 1, 0xfee0_0000),
            (0xfeef_f000, 1, 0xfeef_f000),
            (0xfedf_f000, 2, 0xfee0_0000),
            (0xfedf_f000, 0x200, 0xfee0_0000),
        ] {
            let error = refusal(&mut fixture, iova, run(0x5000, pages), RW);
            assert_eq!(error, interrupts(first));
        }
        fixture.map(0xfedf_f000, &[run(0x5000, 1)], RW).unwrap();
        fixture.map(0xfef0_0000, &[run(0x6000, 1)], RW).unwrap();
        fixture.check();
        finish(fixture);
    }
}

#[test]
fn addresses_beyond_the_width_are_refused() {
    let beyond = |iova| MapError::BeyondWidth(Iova::new(iova));
    for (format, iova) in [
        (FirstStage4, 0x8000_0000_0000),
        (FirstStage5, 0x0100_0000_0000_0000),
        (SecondStage3, 0x80_0000_0000),
        (SecondStage4, 0x1_0000_0000_0000),
        (SecondStage5, 0x0200_0000_0000_0000),
    ] {
        let mut fixture = Fixture::new(format, LARGE);
        assert_eq!(refusal(&mut fixture, iova, run(0, 1), RW), beyond(iova));
        let error = refusal(&mut fixture, iova - PAGE, run(0, 2), RW);
        assert_eq!(error, beyond(iova + PAGE - 1));
        fixture.map(iova - PAGE, &[run(0, 1)], RW).unwrap();
        let range = pages(iova, 1);
        let error = fixture.table.unmap(&fixture.platform, range).unwrap_err();
        assert_eq!(error, beyond(iova));
        fixture.check();
        finish(fixture);
    }
}

#[test]
fn a_unit_narrower_than_the_format_sets_the_width() {
    let narrow = TableConfig {
        iova_bits: 39,
        ..config(LARGE)
    };
    for format in [FirstStage4, SecondStage4] {
        let mut fixture = Fixture::with(TestPlatform::new(16), format, narrow);
        let end = 1 << 39;
        let error = refusal(&mut fixture, end, run(0, 1), RW);
        assert_eq!(error, MapError::BeyondWidth(Iova::new(end)));
        fixture.map(end - PAGE, &[run(0, 1)], RW).unwrap();
        finish(fixture);
    }
}

#[test]
fn a_range_across_the_hole_between_the_halves_is_refused() {
    let mut fixture = Fixture::new(FirstStage4, LARGE);
    let low = 0x7fff_ffff_f000;
    let across = (u64::MAX << 47) - low;
    let error = refusal(&mut fixture, low, run(0, across / PAGE + 1), RW);
    assert!(matches!(
        error,
        MapError::BeyondHostWidth(_) | MapError::BeyondWidth(_)
    ));
    let range = iommu_core::AddressRange::inclusive(Iova::new(low), Iova::new(u64::MAX));
    let error = fixture.table.unmap(&fixture.platform, range.unwrap());
    assert_eq!(
        error.unwrap_err(),
        MapError::BeyondWidth(Iova::new(u64::MAX))
    );
    finish(fixture);
}

#[test]
fn host_addresses_beyond_the_width_are_refused() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    let end = 1 << 46;
    for (hpa, pages) in [(end, 1), (end - PAGE, 2)] {
        let error = refusal(&mut fixture, 0, run(hpa, pages), RW);
        assert_eq!(error, MapError::BeyondHostWidth(Hpa::new(hpa)));
    }
    fixture.map(0, &[run(end - PAGE, 1)], RW).unwrap();
    fixture.check();
    finish(fixture);
}

#[test]
fn write_only_exists_in_the_second_stage_alone() {
    let mut first = Fixture::new(FirstStage4, LARGE);
    let error = refusal(&mut first, 0, run(0, 1), Access::WRITE);
    assert_eq!(error, MapError::AccessUnsupported(Access::WRITE));
    let mut second = Fixture::new(SecondStage4, LARGE);
    second.map(0, &[run(0, 1)], Access::WRITE).unwrap();
    second.check();
    finish(first);
    finish(second);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    assert_eq!(
        refusal(&mut fixture, 0, run(0, 1), Access::NONE),
        MapError::NoAccess
    );
    for (iova, run) in [(0x800, run(0, 1)), (0, run(0x800, 1)), (0, run(0, 0))] {
        assert_eq!(refusal(&mut fixture, iova, run, RW), MapError::Malformed);
    }
    assert_eq!(fixture.map(0, &[], RW).unwrap_err(), MapError::Malformed);
    let bytes = iommu_core::AddressRange::of_bytes(Iova::new(0), 0x800).unwrap();
    let error = fixture.table.unmap(&fixture.platform, bytes).unwrap_err();
    assert_eq!(error, MapError::Malformed);
    finish(fixture);
}

#[test]
fn an_entry_that_was_never_written_is_not_followed() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    fixture.map(0, &[run(0x5000, 1)], RW).unwrap();
    let mut steps = Vec::new();
    fixture
        .table
        .walk(&fixture.platform, Iova::new(0), &mut |level, at, entry| {
            steps.push((level, at, entry));
        });
    let (level, at, link) = steps[1];
    assert_eq!(level, 3);
    fixture.platform.device_store(at, link | 1 << 62);
    let error = fixture.map(PAGE, &[run(0x6000, 1)], RW).unwrap_err();
    assert_eq!(error, MapError::Corrupt(Iova::new(PAGE)));
    assert_eq!(
        fixture.table.translate(&fixture.platform, Iova::new(0)),
        None
    );

    fixture.platform.device_store(at, link);
    fixture.map(PAGE, &[run(0x6000, 1)], RW).unwrap();
    fixture.check();
    finish(fixture);
}

#[test]
fn the_walk_tells_each_entry_and_where_it_lies() {
    let mut fixture = Fixture::new(FirstStage5, LARGE);
    let iova = 3 << 48 | 5 << 39 | 7 << 30 | 9 << 21 | 11 << 12;
    fixture.map(iova, &[run(0x5000, 1)], RW).unwrap();
    let mut table = fixture.table.root();
    let mut expected = [(5, 3), (4, 5), (3, 7), (2, 9), (1, 11)].into_iter();
    fixture.table.walk(
        &fixture.platform,
        Iova::new(iova),
        &mut |level, at, entry| {
            let (expected_level, index) = expected.next().unwrap();
            assert_eq!(level, expected_level);
            assert_eq!(at.as_u64(), table.as_u64() + index * 8);
            assert_eq!(fixture.platform.device_load(at), Some(entry));
            table = Hpa::new(entry & 0xf_ffff_ffff_f000);
        },
    );
    assert_eq!(table, Hpa::new(0x5000));
    finish(fixture);
}

/// How many tables an operation enters, and how often it does.
fn entered(fixture: &mut Fixture, act: impl FnOnce(&mut Fixture)) -> (usize, u64) {
    fixture.platform.forget_adoptions();
    act(fixture);
    let adoptions = fixture.platform.adoptions();
    (adoptions.len(), adoptions.values().sum())
}

#[test]
fn each_table_is_entered_once() {
    let mut fixture = Fixture::new(SecondStage4, SMALL);
    // Of 515 tables only the root was there before; the others are filled where they are
    // made.
    let first = entered(&mut fixture, |fixture| {
        fixture.map(0, &[run(GIB1, 1 << 18)], RW).unwrap();
    });
    assert_eq!(fixture.table.table_pages(), 1 + 1 + 1 + 512);
    assert_eq!(first, (1, 1));

    // A few pages in a table that exists: the way down, and nothing twice.
    fixture.unmap(pages(PAGE, 2)).unwrap();
    let within = entered(&mut fixture, |fixture| {
        fixture.map(PAGE, &[run(GIB1, 2)], RW).unwrap();
    });
    assert_eq!(within, (4, 4));

    // Over several tables that exist: two to look and to write, the three above once.
    fixture.unmap(pages(MIB2 - PAGE, 2)).unwrap();
    let across = entered(&mut fixture, |fixture| {
        fixture.map(MIB2 - PAGE, &[run(GIB1, 2)], RW).unwrap();
    });
    assert_eq!(across, (5, 3 + 2 * 2));
    finish(fixture);
}

#[test]
fn hardware_behind_the_caches_sees_the_same() {
    for format in TableFormat::ALL {
        let mut fixture = Fixture::non_coherent(format, LARGE);
        assert_eq!(fixture.table.config().coherence, Coherence::WriteBack);
        for (iova, pages) in [
            (5 * PAGE, 1),
            (6 * PAGE, 90),
            (MIB2 - PAGE, 514),
            (GIB1 - PAGE, 3),
        ] {
            fixture
                .map(iova, &[run(7 * MIB2 - PAGE, pages)], RW)
                .unwrap();
            fixture.check();
        }
        finish(fixture);
    }
}
