//! Unmapping that tells what it takes.

use crate::fixture::{Fixture, GIB1, LARGE, MIB2, PAGE, finish, pages, run};
use iommu_core::TableFormat::SecondStage4;
use iommu_core::{Access, AddressRange, Iova, MapError, TableFormat};

const RW: Access = Access::READ_WRITE;

/// Takes a range, and gives each page of 4 KiB that was told: where, what, and the rights.
fn take(
    fixture: &mut Fixture,
    range: AddressRange<Iova>,
) -> Result<Vec<(u64, u64, Access)>, MapError> {
    let mut told = Vec::new();
    let unmapped = fixture
        .table
        .unmap_telling(&fixture.platform, range, &mut |taken| {
            for page in 0..taken.order.pages() {
                let at = page * PAGE;
                told.push((
                    taken.iova.as_u64() + at,
                    taken.page.as_u64() + at,
                    taken.access,
                ));
            }
        })?;
    let (first, last) = (range.first().as_u64(), range.last().as_u64());
    for (first, last) in fixture.model.unmap(first, last) {
        let changed = unmapped.changed.expect("something changed");
        assert!(changed.contains(Iova::new(first)) && changed.contains(Iova::new(last)));
    }
    fixture.release(unmapped.frames);
    Ok(told)
}

#[test]
fn every_page_that_goes_is_told_and_no_other() {
    for format in TableFormat::ALL {
        let mut fixture = Fixture::new(format, LARGE);
        let runs = [run(3 * MIB2 - PAGE, 1 + 512 + 7)];
        fixture.map(GIB1 - PAGE, &runs, RW).unwrap();
        fixture
            .map(GIB1 + 4 * MIB2, &[run(0x7000, 2)], Access::READ)
            .unwrap();
        let told = take(&mut fixture, pages(GIB1, 4 * 512 + 1)).unwrap();
        let mut expected: Vec<_> = (0..519)
            .map(|page| (GIB1 + page * PAGE, 3 * MIB2 + page * PAGE, RW))
            .collect();
        expected.push((GIB1 + 4 * MIB2, 0x7000, Access::READ));
        assert_eq!(told, expected, "{format:?}");
        fixture.check();
        finish(fixture);
    }
}

#[test]
fn large_pages_that_are_cut_are_told_in_parts_and_the_rest_stays() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    fixture.map(GIB1, &[run(4 * GIB1, 1 << 18)], RW).unwrap();
    let told = take(&mut fixture, pages(GIB1 + MIB2 - PAGE, 3)).unwrap();
    let expected = [0, 1, 2].map(|page| {
        (
            GIB1 + MIB2 - PAGE + page * PAGE,
            4 * GIB1 + MIB2 - PAGE + page * PAGE,
            RW,
        )
    });
    assert_eq!(told, expected);
    for page in [
        GIB1,
        GIB1 + MIB2 - 2 * PAGE,
        GIB1 + MIB2 + 2 * PAGE,
        2 * GIB1 - PAGE,
    ] {
        fixture.check_page(page);
    }
    assert_eq!(fixture.table.table_pages(), fixture.platform.outstanding());
    finish(fixture);
}

#[test]
fn whole_tables_go_like_in_any_unmapping() {
    let mut fixture = Fixture::new(SecondStage4, LARGE);
    fixture.map(0, &[run(0x5000, 2 << 18)], RW).unwrap();
    let told = take(&mut fixture, pages(0, 2 << 18)).unwrap();
    assert_eq!(told.len(), 2 << 18);
    assert_eq!(fixture.table.table_pages(), 1);
    assert_eq!(fixture.platform.outstanding(), 1);
    finish(fixture);
}
