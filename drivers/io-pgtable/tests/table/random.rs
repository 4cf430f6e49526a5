//! Random programs of operations, checked after each against the model.

use crate::fixture::{ARENA, Fixture, GIB1, LARGE, MIB2, PAGE, SMALL, config, finish, pages};
use io_pgtable::TableConfig;
use iommu_core::{Access, Coherence, Hpa, LeafSizes, MapError, Run, TableFormat};
use proptest::prelude::*;
use test_platform::TestPlatform;

#[derive(Clone, Debug)]
enum Operation {
    Map {
        iova: u64,
        runs: Vec<Run>,
        access: Access,
    },
    Unmap {
        iova: u64,
        pages: u64,
    },
}

#[derive(Clone, Debug)]
struct Step {
    operation: Operation,
    /// Which allocation fails; 0 for none.
    failure: u64,
}

/// Page addresses near the places where tables and large pages begin and end.
fn near_borders() -> impl Strategy<Value = u64> {
    let border = prop_oneof![
        Just(0),
        (1u64..6).prop_map(|n| n * MIB2),
        Just(GIB1),
        Just(GIB1 + MIB2),
        Just(512 * GIB1),
    ];
    let offset = prop_oneof![3 => Just(0i64), 2 => -4i64..4, 1 => -600i64..600];
    (border, offset).prop_map(|(border, pages)| border.saturating_add_signed(pages * 4096))
}

fn lengths() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 1u64..8, 2 => Just(512), 2 => 500u64..1100, 1 => Just(2048)]
}

fn runs() -> impl Strategy<Value = Vec<Run>> {
    let run = (near_borders(), lengths()).prop_map(|(hpa, pages)| Run {
        hpa: Hpa::new(hpa),
        pages,
    });
    // Some that continue each other, so that large pages span them.
    let continued = (1u64..9, 1u64..512, lengths()).prop_map(|(large, pages, more)| {
        let hpa = large * MIB2;
        let next = hpa + pages * PAGE;
        [(hpa, pages), (next, more)]
            .map(|(hpa, pages)| Run {
                hpa: Hpa::new(hpa),
                pages,
            })
            .to_vec()
    });
    prop_oneof![3 => proptest::collection::vec(run, 1..3), 1 => continued]
}

fn operation() -> impl Strategy<Value = Operation> {
    let access = prop_oneof![Just(Access::READ), Just(Access::READ_WRITE)];
    let map = (near_borders(), runs(), access).prop_map(|(iova, runs, access)| Operation::Map {
        iova,
        runs,
        access,
    });
    let unmap =
        (near_borders(), lengths()).prop_map(|(iova, pages)| Operation::Unmap { iova, pages });
    prop_oneof![3 => map, 2 => unmap]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let failure = prop_oneof![4 => Just(0u64), 1 => 1u64..6];
    let step = (operation(), failure).prop_map(|(operation, failure)| Step { operation, failure });
    proptest::collection::vec(step, 1..10)
}

fn fixtures() -> impl Strategy<Value = (TableFormat, LeafSizes, bool)> {
    let only_2m = LeafSizes {
        mib2: true,
        gib1: false,
    };
    (
        proptest::sample::select(TableFormat::ALL.to_vec()),
        proptest::sample::select(vec![SMALL, only_2m, LARGE]),
        any::<bool>(),
    )
}

fn make((format, leaves, coherent): (TableFormat, LeafSizes, bool)) -> Fixture {
    let (platform, coherence) = if coherent {
        (TestPlatform::new(ARENA), Coherence::Snooped)
    } else {
        (TestPlatform::non_coherent(ARENA), Coherence::WriteBack)
    };
    let config = TableConfig {
        coherence,
        ..config(leaves)
    };
    Fixture::with(platform, format, config)
}

/// Whether the model has anything in these pages.
fn occupied(fixture: &Fixture, iova: u64, pages: u64) -> bool {
    fixture.model.overlaps(iova, iova + pages * PAGE - 1)
}

fn apply(fixture: &mut Fixture, step: &Step) {
    fixture.platform.fail_allocation(step.failure);
    let tables = fixture.table.table_pages();
    let (result, expected) = match &step.operation {
        Operation::Map { iova, runs, access } => {
            let total = runs.iter().map(|run| run.pages).sum();
            let occupied = occupied(fixture, *iova, total);
            let beyond = iova + total * PAGE > 1 << fixture.format.input_bits().min(56);
            let result = fixture.map(*iova, runs, *access);
            (result, !occupied && !beyond)
        }
        Operation::Unmap { iova, pages: count } => {
            let beyond = iova + count * PAGE > 1 << fixture.format.input_bits().min(56);
            (fixture.unmap(pages(*iova, *count)), !beyond)
        }
    };
    let ran_out = step.failure > 0 && !fixture.platform.failure_is_pending();
    fixture.platform.fail_allocation(0);
    match result {
        Ok(()) => assert!(expected && !ran_out, "{step:?} should have failed"),
        Err(MapError::OutOfFrames(_)) => assert!(ran_out),
        Err(error) => assert!(!expected, "{step:?} failed with {error:?}"),
    }
    if result.is_err() {
        assert_eq!(fixture.table.table_pages(), tables);
    }
    fixture.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tables_agree_with_the_model(shape in fixtures(), steps in steps()) {
        let mut fixture = make(shape);
        for step in &steps {
            apply(&mut fixture, step);
        }
        // What is left goes in one sweep, and with it every table but the root.
        let end = 1u64 << fixture.format.input_bits().min(40);
        fixture.unmap(pages(0, end / PAGE)).unwrap();
        assert_eq!(fixture.table.table_pages(), 1);
        finish(fixture);
    }
}
