//! Every way in which table memory is touched, once, small enough for Miri.

use crate::fixture::{Fixture, MIB2, PAGE, finish, pages, run};
use iommu_core::TableFormat::{FirstStage5, SecondStage3};
use iommu_core::{Access, Iova, MapError};

const RW: Access = Access::READ_WRITE;

#[test]
fn tables_are_made_linked_split_and_taken_out() {
    for mut fixture in [
        Fixture::small(SecondStage3),
        Fixture::small_non_coherent(FirstStage5),
    ] {
        fixture
            .map(MIB2 - PAGE, &[run(MIB2 - PAGE, 514)], RW)
            .unwrap();
        fixture.unmap(pages(MIB2 + PAGE, 1)).unwrap();
        let translated = fixture.table.translate(&fixture.platform, Iova::new(MIB2));
        assert!(translated.is_some());
        fixture.unmap(pages(MIB2 - PAGE, 1)).unwrap();
        let unmapped = fixture.unmap_holding(pages(0, 1024)).unwrap();
        assert_eq!(unmapped.frames.len(), 1);
        fixture.release(unmapped.frames);
        finish(fixture);
    }
}

#[test]
fn reserved_pages_go_back_when_one_is_missing() {
    let mut fixture = Fixture::small(SecondStage3);
    fixture.platform.fail_allocation(3);
    let result = fixture.map(MIB2 - PAGE, &[run(0, 2)], RW);
    assert!(matches!(result, Err(MapError::OutOfFrames(_))));
    fixture.map(MIB2 - PAGE, &[run(0, 2)], RW).unwrap();
    finish(fixture);
}
