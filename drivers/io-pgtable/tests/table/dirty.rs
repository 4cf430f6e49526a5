//! Marks of hardware in second-stage leaves: read, cleared, and never lost.

use crate::fixture::{Fixture, GIB1, LARGE, MIB2, PAGE, SMALL, finish, pages, run};
use iommu_core::TableFormat::{SecondStage3, SecondStage4, SecondStage5};
use iommu_core::{
    Access, AddressRange, DirtyBitmap, DirtyRead, Hpa, Iova, LargePages, Order, OutOfFrames,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use test_platform::TestPlatform;

const RW: Access = Access::READ_WRITE;
const D: u64 = 1 << 9;
const A: u64 = 1 << 8;

/// Where the entry lies that ends the walk to `iova`, and what it holds.
fn leaf(fixture: &Fixture, iova: u64) -> (Hpa, u64) {
    let mut last = None;
    fixture
        .table
        .walk(&fixture.platform, Iova::new(iova), &mut |_, at, entry| {
            last = Some((at, entry));
        });
    last.expect("a walk has an end")
}

/// What hardware does for a write to `iova`.
fn write(fixture: &Fixture, iova: u64) {
    let (at, entry) = leaf(fixture, iova);
    mark(&fixture.platform, at, entry);
}

fn mark(platform: &TestPlatform, at: Hpa, entry: u64) {
    let done = platform.device_compare_exchange(at, entry, entry | D | A);
    assert_eq!(done, Some(Ok(entry)), "the entry at {at}");
}

fn begin(fixture: &mut Fixture, large: LargePages) -> Result<(), OutOfFrames> {
    fixture.table.begin_tracking(&fixture.platform, large)
}

/// The pages of a range that were written, and where marks were cleared.
fn read(
    fixture: &mut Fixture,
    range: AddressRange<Iova>,
    read: DirtyRead,
) -> (Vec<u64>, Option<AddressRange<Iova>>) {
    let mut words = vec![0; DirtyBitmap::words_for(&range, Order::PAGE) as usize];
    let mut bitmap = DirtyBitmap::new(range, Order::PAGE, &mut words).unwrap();
    let cleared = fixture
        .table
        .read_dirty(&fixture.platform, read, &mut bitmap)
        .unwrap();
    let first = range.first().as_u64();
    let found = (0..range.pages())
        .map(|page| first + page * PAGE)
        .filter(|&page| bitmap.is_marked(Iova::new(page)))
        .collect();
    (found, cleared)
}

#[test]
fn what_was_written_is_told_once() {
    for format in [SecondStage3, SecondStage4, SecondStage5] {
        let mut fixture = Fixture::new(format, SMALL);
        fixture
            .map(MIB2 - 8 * PAGE, &[run(0x5_0000, 16)], RW)
            .unwrap();
        begin(&mut fixture, LargePages::Whole).unwrap();
        let all = pages(MIB2 - 8 * PAGE, 16);
        assert_eq!(read(&mut fixture, all, DirtyRead::Clear), (vec![], None));
        let written = [MIB2 - PAGE, MIB2 + 3 * PAGE];
        for page in written {
            write(&fixture, page);
        }
        assert_eq!(
            read(&mut fixture, all, DirtyRead::Keep),
            (written.to_vec(), None)
        );
        let cleared = Some(pages(MIB2 - PAGE, 5));
        assert_eq!(
            read(&mut fixture, all, DirtyRead::Clear),
            (written.to_vec(), cleared)
        );
        assert_eq!(read(&mut fixture, all, DirtyRead::Clear), (vec![], None));
        write(&fixture, written[0]);
        assert_eq!(read(&mut fixture, all, DirtyRead::Clear).0, written[..1]);
        fixture.check();
        finish(fixture);
    }
}

#[test]
fn marks_of_earlier_times_are_not_told() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    fixture.map(0, &[run(0, 1 << 18)], RW).unwrap();
    fixture.map(GIB1, &[run(0x5000, 1)], RW).unwrap();
    for page in [0, GIB1] {
        write(&fixture, page);
    }
    begin(&mut fixture, LargePages::Whole).unwrap();
    let (found, _) = read(&mut fixture, pages(0, (1 << 18) + 1), DirtyRead::Clear);
    assert_eq!(found, [0; 0]);
    finish(fixture);
}

#[test]
fn a_large_page_is_told_whole_and_keeps_its_mark_if_not_all_of_it_is_asked_for() {
    for (size, level_pages) in [(MIB2, 512), (GIB1, 1 << 18)] {
        let mut fixture = Fixture::new(SecondStage4, LARGE);
        fixture
            .map(size, &[run(size, 2 * level_pages)], RW)
            .unwrap();
        begin(&mut fixture, LargePages::Whole).unwrap();
        write(&fixture, 2 * size + 5 * PAGE);
        let part = pages(2 * size - PAGE, 2);
        assert_eq!(
            read(&mut fixture, part, DirtyRead::Clear),
            (vec![2 * size], None)
        );
        let all = pages(size, 2 * level_pages);
        let (found, cleared) = read(&mut fixture, all, DirtyRead::Clear);
        assert_eq!(found.len() as u64, level_pages);
        assert_eq!(found[0], 2 * size);
        assert_eq!(cleared, Some(pages(2 * size, level_pages)));
        assert_eq!(read(&mut fixture, all, DirtyRead::Clear), (vec![], None));
        fixture.check_page(2 * size + 5 * PAGE);
        finish(fixture);
    }
}

#[test]
fn large_pages_are_split_and_none_is_made_while_single_pages_are_told() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    fixture
        .map(GIB1 - MIB2, &[run(3 * GIB1 - MIB2, 512 + (1 << 18))], RW)
        .unwrap();
    begin(&mut fixture, LargePages::Split).unwrap();
    for page in [GIB1 - MIB2, GIB1, 2 * GIB1 - PAGE] {
        assert_eq!(fixture.last_entry(page).0, 1, "level of {page:#x}");
        fixture.check_page(page);
    }
    assert_eq!(fixture.table.table_pages(), fixture.platform.outstanding());
    fixture.map(0, &[run(0, 512)], RW).unwrap();
    assert_eq!(fixture.last_entry(0).0, 1);
    write(&fixture, GIB1 + 7 * PAGE);
    let (found, _) = read(&mut fixture, pages(GIB1, 1 << 18), DirtyRead::Clear);
    assert_eq!(found, [GIB1 + 7 * PAGE]);
    fixture.table.end_tracking();
    fixture.unmap(pages(0, 512)).unwrap();
    fixture.map(0, &[run(0, 512)], RW).unwrap();
    assert_eq!(fixture.last_entry(0).0, 2);
    finish(fixture);
}

#[test]
fn a_failed_split_of_everything_changes_nothing() {
    for n in 1.. {
        let mut fixture = Fixture::new(SecondStage4, LARGE);
        fixture.map(MIB2, &[run(MIB2, 3 * 512)], RW).unwrap();
        write(&fixture, MIB2);
        let before = (fixture.platform.outstanding(), leaf(&fixture, MIB2));
        fixture.platform.fail_allocation(n);
        let result = begin(&mut fixture, LargePages::Split);
        if fixture.platform.failure_is_pending() {
            fixture.platform.fail_allocation(0);
            assert_eq!((result, n), (Ok(()), 4));
            finish(fixture);
            return;
        }
        assert!(result.is_err() && !fixture.table.is_tracking());
        let after = (fixture.platform.outstanding(), leaf(&fixture, MIB2));
        assert_eq!(after, before, "allocation {n}");
        fixture.check();
        finish(fixture);
    }
}

#[test]
fn the_parts_of_a_marked_page_are_marked() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    fixture.map(0, &[run(0, 1024)], RW).unwrap();
    begin(&mut fixture, LargePages::Whole).unwrap();
    write(&fixture, 5 * PAGE);
    fixture.unmap(pages(9 * PAGE, 1)).unwrap();
    fixture.unmap(pages(MIB2 + 9 * PAGE, 1)).unwrap();
    let (found, _) = read(&mut fixture, pages(0, 1024), DirtyRead::Clear);
    assert_eq!(found.len(), 511, "the marked page, and not its neighbour");
    finish(fixture);
}

/// Hardware marks the entry just before the driver exchanges it, once.
fn write_just_before_the_exchange(fixture: &Fixture, iova: u64) {
    let (at, entry) = leaf(fixture, iova);
    let done = AtomicBool::new(false);
    fixture.platform.watch(move |platform| {
        if platform.device_load(at) == Some(entry) && !done.swap(true, Ordering::Relaxed) {
            mark(platform, at, entry);
        }
    });
}

#[test]
fn a_write_during_the_split_marks_every_part() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    fixture.map(0, &[run(0, 512)], RW).unwrap();
    begin(&mut fixture, LargePages::Whole).unwrap();
    write_just_before_the_exchange(&fixture, 5 * PAGE);
    fixture.unmap(pages(9 * PAGE, 1)).unwrap();
    fixture.platform.unwatch();
    let (found, _) = read(&mut fixture, pages(0, 512), DirtyRead::Clear);
    assert_eq!(found.len(), 511);
    finish(fixture);
}

#[test]
fn a_write_during_the_reading_stays_marked_or_is_told() {
    let mut fixture = Fixture::new(SecondStage4, SMALL);
    fixture.map(0, &[run(0x9000, 2)], RW).unwrap();
    begin(&mut fixture, LargePages::Whole).unwrap();
    // Marked, and not accessed: hardware sets A while the mark is cleared.
    let (at, entry) = leaf(&fixture, 0);
    fixture.platform.device_store(at, entry | D);
    let done = Arc::new(AtomicBool::new(false));
    let seen = done.clone();
    fixture.platform.watch(move |platform| {
        if platform.device_load(at) == Some(entry | D) && !seen.swap(true, Ordering::Relaxed) {
            mark(platform, at, entry | D);
        }
    });
    assert_eq!(read(&mut fixture, pages(0, 2), DirtyRead::Clear).0, [0]);
    fixture.platform.unwatch();
    assert!(done.load(Ordering::Relaxed));
    assert_eq!(leaf(&fixture, 0).1, entry | A, "the flag of hardware stays");
    finish(fixture);
}

#[test]
fn a_write_just_before_unmapping_is_told() {
    for (written, expected) in [(false, false), (true, true)] {
        let mut fixture = Fixture::new(SecondStage4, SMALL);
        fixture.map(0, &[run(0x9000, 1)], RW).unwrap();
        begin(&mut fixture, LargePages::Whole).unwrap();
        if written {
            write_just_before_the_exchange(&fixture, 0);
        }
        let mut told = Vec::new();
        let unmapped = fixture
            .table
            .unmap_telling(&fixture.platform, pages(0, 1), &mut |taken| {
                told.push(taken.dirty);
            })
            .unwrap();
        fixture.platform.unwatch();
        assert_eq!(told, [expected]);
        fixture.release(unmapped.frames);
        finish(fixture);
    }
}
