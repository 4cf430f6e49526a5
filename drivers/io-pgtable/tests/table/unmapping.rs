//! Unmapping ranges: what goes, what stays, what hardware must be told, and who owns the
//! tables that nothing needs any more.

use crate::fixture::{Fixture, GIB1, LARGE, MIB2, PAGE, SMALL, device_walk, finish, pages, run};
use iommu_core::TableFormat::{FirstStage4, SecondStage3, SecondStage4};
use iommu_core::{Access, MapError, TableFormat};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const RW: Access = Access::READ_WRITE;

#[test]
fn pages_go_and_their_neighbours_stay() {
    for format in TableFormat::ALL {
        let mut fixture = Fixture::new(format, LARGE);
        fixture
            .map(MIB2 - 4 * PAGE, &[run(0x5_0000, 8)], RW)
            .unwrap();
        let unmapped = fixture.unmap_holding(pages(MIB2 - PAGE, 2)).unwrap();
        assert!(unmapped.leaf_only);
        assert_eq!(unmapped.changed, Some(pages(MIB2 - PAGE, 2)));
        fixture.release(unmapped.frames);
        fixture.check();
        finish(fixture);
    }
}

#[test]
fn unmapping_what_is_not_mapped_changes_nothing() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    fixture.map(PAGE, &[run(0x5000, 1)], RW).unwrap();
    for range in [pages(0, 1), pages(2 * PAGE, 510), pages(GIB1, 1 << 20)] {
        let unmapped = fixture.unmap_holding(range).unwrap();
        assert!(unmapped.leaf_only && unmapped.frames.is_empty());
        assert_eq!(unmapped.changed, None);
    }
    fixture.check();
    finish(fixture);
}

#[test]
fn only_what_was_mapped_must_be_flushed() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    fixture.map(5 * PAGE, &[run(0x5000, 1)], RW).unwrap();
    fixture.map(9 * PAGE, &[run(0x5000, 1)], RW).unwrap();
    fixture.map(12 * PAGE, &[run(0x5000, 1)], RW).unwrap();
    let unmapped = fixture.unmap_holding(pages(PAGE, 10)).unwrap();
    assert_eq!(unmapped.changed, Some(pages(5 * PAGE, 5)));
    finish(fixture);
}

#[test]
fn tables_go_with_their_last_page_and_are_held_by_the_caller() {
    for format in TableFormat::ALL {
        let mut fixture = Fixture::new(format, LARGE);
        fixture.map(GIB1 - PAGE, &[run(0x5_0000, 2)], RW).unwrap();
        let tables = fixture.table.table_pages();
        let outstanding = fixture.platform.outstanding();
        assert_eq!(tables, outstanding);

        let unmapped = fixture.unmap_holding(pages(GIB1, 1)).unwrap();
        assert_eq!(unmapped.frames.len(), 2);
        assert!(!unmapped.leaf_only);
        assert_eq!(fixture.table.table_pages(), tables - 2);
        // Not released: hardware may still walk through them.
        assert_eq!(fixture.platform.outstanding(), outstanding);
        fixture.release(unmapped.frames);

        fixture.unmap(pages(GIB1 - PAGE, 1)).unwrap();
        assert_eq!(fixture.table.table_pages(), 1);
        finish(fixture);
    }
}

#[test]
fn a_large_page_fits_again_where_small_ones_were() {
    let mut fixture = Fixture::new(FirstStage4, LARGE);
    for page in 0..3 {
        fixture
            .map(page * 7 * PAGE, &[run(page << 20, 1)], RW)
            .unwrap();
    }
    for page in 0..3 {
        fixture.unmap(pages(page * 7 * PAGE, 1)).unwrap();
    }
    fixture.map(0, &[run(MIB2, 512)], RW).unwrap();
    assert_eq!(fixture.last_entry(0).0, 2);
    fixture.check();
    finish(fixture);
}

#[test]
fn whole_tables_are_unlinked_by_one_store() {
    let mut fixture = Fixture::new(SecondStage3, SMALL);
    fixture.map(0, &[run(GIB1, 2 * 512 * 512)], RW).unwrap();
    let stores = Arc::new(AtomicUsize::new(0));
    let seen = stores.clone();
    fixture.platform.watch(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
    });
    let unmapped = fixture.unmap_holding(pages(0, 512 * 512)).unwrap();
    assert_eq!(stores.load(Ordering::Relaxed), 1);
    assert_eq!(unmapped.frames.len(), 1 + 512);
    fixture.platform.unwatch();
    fixture.release(unmapped.frames);
    finish(fixture);
}

#[test]
fn each_table_is_entered_once_and_once_more_when_it_goes() {
    let mut fixture = Fixture::new(SecondStage4, SMALL);
    fixture.map(0, &[run(GIB1, 1 << 18)], RW).unwrap();
    fixture.platform.forget_adoptions();
    // Not by the fixture, which enters tables too, to look at them.
    let range = pages(0, 1 << 18);
    let unmapped = fixture.table.unmap(&fixture.platform, range).unwrap();
    let adoptions = fixture.platform.adoptions();
    // Three tables above the leaves are read, and 514 are taken out.
    assert_eq!(unmapped.frames.len(), 514);
    assert_eq!(adoptions.len(), 515);
    assert_eq!(adoptions.values().sum::<u64>(), 3 + 514);
    fixture.release(unmapped.frames);
    finish(fixture);
}

#[test]
fn a_cut_large_page_is_split_and_the_rest_stays() {
    // Large page at, size in pages, what is unmapped of it, tables that the split adds.
    let cases = [
        (MIB2, 512, pages(MIB2, 1), 1),
        (MIB2, 512, pages(2 * MIB2 - PAGE, 1), 1),
        (MIB2, 512, pages(MIB2 + 7 * PAGE, 100), 1),
        (GIB1, 512 * 512, pages(GIB1, 1), 2),
        (GIB1, 512 * 512, pages(GIB1 + MIB2, 512), 1),
        (GIB1, 512 * 512, pages(GIB1 + MIB2 - PAGE, 2), 3),
        (GIB1, 512 * 512, pages(GIB1 + MIB2, 513), 2),
        (GIB1, 512 * 512, pages(2 * GIB1 - PAGE, 1), 2),
    ];
    for format in [FirstStage4, SecondStage3] {
        for (iova, size, range, added) in cases {
            let mut fixture = Fixture::new(format, LARGE);
            fixture
                .map(iova, &[run(5 * GIB1, size)], Access::READ)
                .unwrap();
            let before = fixture.table.table_pages();
            let unmapped = fixture.unmap_holding(range).unwrap();
            assert_eq!(fixture.table.table_pages(), before + added);
            // The whole large page must be flushed, not only what went.
            assert_eq!(unmapped.changed, Some(pages(iova, size)));
            assert!(!unmapped.leaf_only && unmapped.frames.is_empty());
            for page in [
                iova - PAGE,
                iova,
                iova + (size - 1) * PAGE,
                iova + size * PAGE,
            ] {
                fixture.check_page(page);
            }
            let (first, last) = (range.first().as_u64(), range.last().as_u64() & !0xfff);
            for page in [first - PAGE, first, last, last + PAGE] {
                fixture.check_page(page);
            }
            finish(fixture);
        }
    }
}

#[test]
fn whole_large_pages_go_behind_the_caches_too() {
    for format in TableFormat::ALL {
        let mut fixture = Fixture::non_coherent(format, LARGE);
        fixture.map(MIB2, &[run(MIB2, 1024)], RW).unwrap();
        assert_eq!(fixture.last_entry(MIB2).0, 2);
        let unmapped = fixture.unmap_holding(pages(MIB2, 512)).unwrap();
        assert!(unmapped.leaf_only && unmapped.frames.is_empty());
        assert_eq!(unmapped.changed, Some(pages(MIB2, 512)));
        fixture.check();
        finish(fixture);
    }
}

#[test]
fn both_ends_may_cut_different_large_pages() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    fixture.map(MIB2, &[run(MIB2, 3 * 512)], RW).unwrap();
    let before = fixture.table.table_pages();
    fixture.unmap(pages(2 * MIB2 - PAGE, 512 + 2)).unwrap();
    assert_eq!(fixture.table.table_pages(), before + 2);
    fixture.check();
    finish(fixture);
}

#[test]
fn a_split_is_seen_by_hardware_as_the_old_page_or_as_the_new_table() {
    for (format, coherent) in [
        (FirstStage4, true),
        (SecondStage4, true),
        (FirstStage4, false),
        (SecondStage4, false),
    ] {
        let mut fixture = if coherent {
            Fixture::new(format, LARGE)
        } else {
            Fixture::non_coherent(format, LARGE)
        };
        fixture.map(GIB1, &[run(5 * GIB1, 512 * 512)], RW).unwrap();
        let cut = pages(GIB1 + MIB2 - PAGE, 2);
        let (root, first) = (fixture.table.root(), GIB1 + MIB2 - PAGE);
        let steps = Arc::new(AtomicUsize::new(0));
        let seen = steps.clone();
        fixture.platform.watch(move |platform| {
            seen.fetch_add(1, Ordering::Relaxed);
            // What stays is there at every step, by whatever table.
            for page in [
                GIB1,
                first - PAGE,
                first + 2 * PAGE,
                GIB1 + 3 * MIB2,
                2 * GIB1 - PAGE,
            ] {
                let expected = Some((page + 4 * GIB1, RW));
                assert_eq!(
                    device_walk(platform, root, format, page),
                    expected,
                    "{page:#x}"
                );
            }
            for page in [first, first + PAGE] {
                let found = device_walk(platform, root, format, page);
                assert!(found.is_none() || found == Some((page + 4 * GIB1, RW)));
            }
        });
        fixture.unmap(cut).unwrap();
        fixture.platform.unwatch();
        // Three tables for the split take three stores, the pages two more.
        assert!(steps.load(Ordering::Relaxed) >= 5);
        finish(fixture);
    }
}

#[test]
fn a_mapping_is_seen_whole_tables_first() {
    for coherent in [true, false] {
        let mut fixture = if coherent {
            Fixture::new(SecondStage4, LARGE)
        } else {
            Fixture::non_coherent(SecondStage4, LARGE)
        };
        let root = fixture.table.root();
        fixture.platform.watch(move |platform| {
            for page in (0..1024).map(|page| MIB2 + page * PAGE) {
                let found = device_walk(platform, root, SecondStage4, page);
                assert!(found.is_none() || found == Some((page + GIB1 + PAGE, RW)));
            }
        });
        fixture
            .map(MIB2, &[run(GIB1 + MIB2 + PAGE, 1024)], RW)
            .unwrap();
        fixture.unmap(pages(MIB2 + 3 * PAGE, 700)).unwrap();
        fixture.platform.unwatch();
        fixture.check();
        finish(fixture);
    }
}

#[test]
fn a_foreign_entry_is_taken_out_and_not_followed() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    fixture.map(0, &[run(0x5000, 1)], RW).unwrap();
    let mut links = Vec::new();
    let iova = iommu_core::Iova::new(0);
    fixture
        .table
        .walk(&fixture.platform, iova, &mut |_, at, entry| {
            links.push((at, entry))
        });
    let (at, link) = links[1];
    fixture.platform.device_store(at, link | 1 << 62);
    fixture.platform.forget_adoptions();
    let range = pages(PAGE, 1);
    let unmapped = fixture.table.unmap(&fixture.platform, range).unwrap();
    assert_eq!(fixture.platform.device_load(at), Some(0));
    assert_eq!(unmapped.changed, Some(range));
    // The table that held it became empty and goes; nothing below is known to be ours.
    assert_eq!(unmapped.frames.len(), 1);
    assert!(!unmapped.leaf_only);
    fixture.release(unmapped.frames);
    assert_eq!(fixture.platform.outstanding(), 1 + 2);
}

#[test]
fn entries_that_map_nothing_are_zero() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    fixture.map(MIB2 - PAGE, &[run(0x5000, 2)], RW).unwrap();
    fixture.unmap(pages(MIB2, 1)).unwrap();
    fixture.map(GIB1 + 9 * PAGE, &[run(0x5000, 1)], RW).unwrap();
    for (at, entry) in snapshot(&fixture) {
        assert!(entry == 0 || entry & 3 != 0, "{entry:#x} at {at:#x}");
    }
    finish(fixture);
}

/// Does `act` with the n-th allocation failing, for every n, and once without failure.
/// Returns how many allocations the operation needs.
fn fail_at_every_allocation(
    prepare: impl Fn() -> Fixture,
    act: impl Fn(&mut Fixture) -> Result<(), MapError>,
) -> u64 {
    for n in 1.. {
        let mut fixture = prepare();
        let (pages, outstanding) = (fixture.table.table_pages(), fixture.platform.outstanding());
        let entries = snapshot(&fixture);
        fixture.platform.fail_allocation(n);
        let result = act(&mut fixture);
        if fixture.platform.failure_is_pending() {
            fixture.platform.fail_allocation(0);
            result.unwrap();
            finish(fixture);
            return n - 1;
        }
        assert!(matches!(result, Err(MapError::OutOfFrames(_))));
        assert_eq!(fixture.table.table_pages(), pages);
        assert_eq!(fixture.platform.outstanding(), outstanding);
        assert_eq!(snapshot(&fixture), entries, "allocation {n}");
        act(&mut fixture).unwrap();
        finish(fixture);
    }
    unreachable!("an operation needs finitely many pages")
}

/// Every entry of every table, by where it lies.
fn snapshot(fixture: &Fixture) -> Vec<(u64, u64)> {
    let mut entries = Vec::new();
    let mut tables = vec![(fixture.table.root().as_u64(), fixture.format.levels())];
    while let Some((table, level)) = tables.pop() {
        for at in (table..table + PAGE).step_by(8) {
            let entry = fixture
                .platform
                .device_load(iommu_core::Hpa::new(at))
                .unwrap();
            entries.push((at, entry));
            if entry & 1 != 0 && level > 1 && entry & 0x80 == 0 {
                tables.push((entry & 0xf_ffff_ffff_f000, level - 1));
            }
        }
    }
    entries
}

#[test]
fn a_failed_allocation_leaves_the_table_as_it_was() {
    let needed = fail_at_every_allocation(
        || {
            let mut fixture = Fixture::new(SecondStage4, LARGE);
            fixture.map(MIB2, &[run(0x5000, 3)], RW).unwrap();
            fixture
        },
        |fixture| fixture.map(GIB1 - 2 * MIB2 - PAGE, &[run(0, 2048)], RW),
    );
    assert_eq!(needed, 6);
}

#[test]
fn a_failed_split_leaves_the_table_as_it_was() {
    for (range, expected) in [
        (pages(GIB1 + PAGE, 2), 2),
        (pages(GIB1 + MIB2 - PAGE, 2), 3),
        (pages(2 * GIB1 - PAGE, 2), 4),
        (pages(GIB1, 1 << 18), 0),
    ] {
        let needed = fail_at_every_allocation(
            || {
                let mut fixture = Fixture::new(FirstStage4, LARGE);
                fixture.map(GIB1, &[run(GIB1, 2 << 18)], RW).unwrap();
                fixture
            },
            |fixture| fixture.unmap(range),
        );
        assert_eq!(needed, expected);
    }
}

#[test]
fn destroying_gives_every_table_up() {
    for format in TableFormat::ALL {
        let mut fixture = Fixture::new(format, LARGE);
        fixture
            .map(
                GIB1 - MIB2 - PAGE,
                &[run(3 * GIB1 - MIB2 - PAGE, 300_000)],
                RW,
            )
            .unwrap();
        let pages = fixture.table.table_pages();
        let frames = fixture.table.destroy(&fixture.platform);
        assert_eq!(frames.len(), pages);
        let mut frames = frames;
        while let Some(frame) = frames.pop() {
            iommu_core::Platform::release(&fixture.platform, frame);
        }
        assert_eq!(fixture.platform.outstanding(), 0);
    }
}
