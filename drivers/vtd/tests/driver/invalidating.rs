//! What is sent for a change, and how much of it.

use crate::fake;
use crate::world::*;
use iommu_core::*;

const EDU: u16 = 0x20;

/// A domain with an attached device, and nothing owed.
fn attached(plan: Plan) -> (World, DomainHandle) {
    let world = plan.boot();
    let domain = world.domain();
    world.attach(slot(EDU), Attachment::Domain(domain));
    world.fake.take_executed();
    world.fake.state().doorbells = 0;
    (world, domain)
}

fn invalidate<'a>(
    world: &'a World,
    domain: DomainHandle,
    range: AddressRange<Iova>,
    leaf_only: bool,
) -> Owed<'a, vtd::Debt> {
    world
        .driver
        .invalidate(domain, Scope::Range { range, leaf_only })
        .unwrap()
}

#[test]
fn a_range_is_told_in_the_stages_own_descriptor() {
    let (world, domain) = attached(Plan::second_stage());
    world.commit(invalidate(&world, domain, pages(0x10, 1), true));
    assert_eq!(
        world.fake.take_executed(),
        [[0xf2 | 2 << 16, 0x1_0000 | 1 << 6]]
    );
    let (world, domain) = attached(Plan::first_stage());
    world.commit(invalidate(&world, domain, pages(0x10, 1), false));
    assert_eq!(world.fake.take_executed(), [[0x36 | 2 << 16, 0x1_0000]]);
}

#[test]
fn a_range_is_split_into_exact_aligned_blocks() {
    let (world, domain) = attached(Plan::first_stage());
    world.commit(invalidate(&world, domain, pages(3, 6), true));
    // 3, 4..8, 8
    let expected = [(3, 0), (4, 2), (8, 0)];
    let highs: Vec<_> = world.fake.take_executed().iter().map(|w| w[1]).collect();
    assert_eq!(
        highs,
        expected.map(|(page, am)| page << 12 | 1 << 6 | am).to_vec()
    );
}

#[test]
fn neighbouring_ranges_become_one_descriptor_one_doorbell_one_wait() {
    let (world, domain) = attached(Plan::first_stage());
    let owed = [2, 0, 3, 1].map(|page| invalidate(&world, domain, pages(page, 1), true));
    let flushed = world.try_commit(owed).unwrap();
    assert_eq!(
        (flushed.descriptors, flushed.doorbells, flushed.waits),
        (2, 1, 1)
    );
    assert_eq!(world.fake.take_executed(), [[0x36 | 2 << 16, 1 << 6 | 2]]);
    assert_eq!(world.fake.state().doorbells, 1);
}

#[test]
fn four_thousand_ranges_fit_one_doorbell() {
    for plan in [Plan::legacy(), Plan::first_stage()] {
        let (world, domain) = attached(plan.exact());
        let mut batch = Batch::with_capacity(4096).unwrap();
        for n in 0..4096 {
            batch
                .add(invalidate(&world, domain, pages(2 * n, 1), true))
                .unwrap();
        }
        let flushed = world.driver.commit(&mut batch).unwrap();
        assert_eq!(
            (flushed.descriptors, flushed.doorbells, flushed.waits),
            (4097, 1, 1)
        );
        assert_eq!(world.driver.statistics(UNIT).unwrap().refills, 0);
        assert_eq!(world.fake.state().doorbells, 1);
    }
}

#[test]
fn more_ranges_than_the_rule_allows_become_one_descriptor() {
    let plan = Plan::first_stage();
    let config = vtd::DriverConfig {
        costs: vtd::CostRule {
            page_selective_limit: 8,
        },
        ..plan.config
    };
    let (world, domain) = attached(Plan { config, ..plan });
    let owed: [_; 9] =
        std::array::from_fn(|n| invalidate(&world, domain, pages(2 * n as u64, 1), true));
    world.try_commit(owed).unwrap();
    assert_eq!(world.fake.take_executed(), [[0x26 | 2 << 16, 0]]);
}

#[test]
fn what_does_not_fit_goes_on_in_another_round() {
    let (world, domain) = attached(Plan::first_stage().exact());
    let count = 20_000;
    let mut batch = Batch::with_capacity(count).unwrap();
    for n in 0..count as u64 {
        batch
            .add(invalidate(&world, domain, pages(2 * n, 1), true))
            .unwrap();
    }
    let flushed = world.driver.commit(&mut batch).unwrap();
    assert_eq!((flushed.doorbells, flushed.waits), (3, 3));
    assert_eq!(world.fake.state().doorbells, 3);
    assert_eq!(world.driver.statistics(UNIT).unwrap().refills, 2);
    let executed = world.fake.take_executed();
    assert_eq!(executed.len(), count);
    let pages: Vec<_> = executed.iter().map(|w| w[1] >> 12).collect();
    assert!(pages.iter().copied().eq((0..count as u64).map(|n| 2 * n)));
}

#[test]
fn an_empty_batch_rings_no_bell() {
    let (world, _) = attached(Plan::first_stage());
    let flushed = world.try_commit([]).unwrap();
    assert_eq!((flushed.descriptors, flushed.doorbells), (0, 0));
    assert_eq!(world.fake.state().doorbells, 0);
}

#[test]
fn mapping_what_was_not_present_tells_nobody_unless_absence_is_cached() {
    for (plan, told) in [
        (Plan::legacy(), vec![]),
        (Plan::first_stage(), vec![]),
        (Plan::legacy().caching(), vec![[0xf2 | 2 << 16, 0x5000]]),
        // Not even then in the first stage.
        (Plan::first_stage().caching(), vec![]),
    ] {
        let (world, domain) = attached(plan);
        world.map(domain, 5);
        assert_eq!(world.fake.take_executed(), told);
    }
}

#[test]
fn unmapping_tells_what_went_away_and_frees_tables_only_then() {
    let (world, domain) = attached(Plan::first_stage());
    let before = world.machine.memory.outstanding();
    world.map(domain, 5);
    let with_tables = world.machine.memory.outstanding();
    let owed = world.driver.unmap(domain, pages(0, 16)).unwrap();
    assert_eq!(world.machine.memory.outstanding(), with_tables);
    world.commit(owed);
    assert_eq!(world.machine.memory.outstanding(), before);
    assert_eq!(world.fake.take_executed(), [[0x36 | 2 << 16, 0x5000]]);
}

#[test]
fn unmapping_nothing_tells_nobody() {
    let (world, domain) = attached(Plan::first_stage());
    let owed = world.driver.unmap(domain, pages(0, 16)).unwrap();
    assert_eq!(world.commit(owed).descriptors, 0);
}

#[test]
fn a_domain_of_many_devices_is_told_once_for_each_tag() {
    let (world, domain) = attached(Plan::second_stage());
    world.attach(slot(EDU + 1), Attachment::Domain(domain));
    world.commit(invalidate(&world, domain, pages(1, 1), true));
    assert_eq!(world.fake.take_executed().len(), 1, "one domain id");

    let (world, domain) = attached(Plan {
        ecap: fake::ECAP_ALL & !(1 << 46),
        ..Plan::rich()
    });
    world.attach(slot(EDU + 1), Attachment::Domain(domain));
    world.attach(pasid_slot(EDU, 9), Attachment::Domain(domain));
    world.fake.take_executed();
    world.commit(invalidate(&world, domain, pages(1, 1), true));
    let lows: Vec<_> = world.fake.take_executed().iter().map(|w| w[0]).collect();
    assert_eq!(lows, [0x36 | 2 << 16, 0x36 | 2 << 16 | 9 << 32]);
}

#[test]
fn a_device_that_left_is_told_until_that_is_settled() {
    let (world, domain) = attached(Plan::second_stage());
    world.map(domain, 5);
    let left = world
        .driver
        .replace(slot(EDU), Attachment::Blocked)
        .unwrap();
    // Nothing is attached any more, but the unit may have the translation still.
    let unmapped = world.driver.unmap(domain, pages(5, 1)).unwrap();
    world.commit(unmapped);
    assert_eq!(world.fake.take_executed(), [[0xf2 | 2 << 16, 0x5000]]);
    world.commit(left.owed);
    world.fake.take_executed();
    world.commit(invalidate(&world, domain, pages(5, 1), true));
    assert!(world.fake.take_executed().is_empty());
}

#[test]
fn a_mask_that_the_unit_lacks_makes_it_the_whole_domain() {
    // MAMV 8: 2 MiB pages cannot be named.
    let small = fake::CAP & !(0x3f << 48) | 8 << 48;
    let (world, domain) = attached(Plan {
        cap: small,
        ..Plan::second_stage()
    });
    world.commit(invalidate(&world, domain, pages(512, 512), true));
    assert_eq!(world.fake.take_executed(), [[0xe2 | 2 << 16, 0]]);
    // 256 pages can be no large page: exact.
    world.commit(invalidate(&world, domain, pages(256, 256), true));
    assert_eq!(
        world.fake.take_executed(),
        [[0xf2 | 2 << 16, 256 << 12 | 1 << 6 | 8]]
    );
    // No page-selective invalidation at all.
    let (world, domain) = attached(Plan {
        cap: fake::CAP & !(1 << 39),
        ..Plan::second_stage()
    });
    world.commit(invalidate(&world, domain, pages(1, 1), true));
    assert_eq!(world.fake.take_executed(), [[0xe2 | 2 << 16, 0]]);
}

#[test]
fn everything_is_one_descriptor() {
    for (plan, expected) in [
        (Plan::legacy(), 0xe2 | 2 << 16),
        (Plan::first_stage(), 0x26 | 2 << 16),
    ] {
        let (world, domain) = attached(plan);
        let owed = world.driver.invalidate(domain, Scope::Everything).unwrap();
        world.commit(owed);
        assert_eq!(world.fake.take_executed(), [[expected, 0]]);
    }
}

#[test]
fn a_parents_change_is_told_for_what_is_nested_above_it() {
    let world = Plan::rich().boot();
    let spec = DomainSpec::Paging(TableFormat::SecondStage4);
    let parent = world.driver.create(device(EDU), &spec).unwrap();
    let nested = world
        .driver
        .create(
            device(EDU),
            &DomainSpec::Nested(NestedSpec {
                parent,
                format: TableFormat::FirstStage4,
                root: Gpa::new(0x5000),
                supervisor: false,
                write_protect: true,
            }),
        )
        .unwrap();
    world.attach(pasid_slot(EDU, 3), Attachment::Domain(nested));
    world.attach(slot(EDU), Attachment::Domain(parent));
    world.fake.take_executed();
    world.commit(invalidate(&world, parent, pages(1, 1), true));
    // By domain id, second stage, for both ids.
    let lows: Vec<_> = world.fake.take_executed().iter().map(|w| w[0]).collect();
    assert_eq!(lows, [0xf2 | 3 << 16, 0xf2 | 2 << 16]);
    // The guest's own change is of the first stage.
    world.commit(invalidate(&world, nested, pages(1, 1), true));
    let lows: Vec<_> = world.fake.take_executed().iter().map(|w| w[0]).collect();
    assert_eq!(lows, [0x36 | 2 << 16 | 3 << 32]);
}

#[test]
fn a_required_write_buffer_flush_is_done_where_no_invalidation_follows() {
    let plan = Plan::legacy();
    let (world, domain) = attached(Plan {
        cap: plan.cap | 1 << 4,
        ..plan
    });
    world.fake.state().commands.clear();
    world.map(domain, 5);
    assert_eq!(world.fake.state().commands.len(), 1);
    assert_eq!(world.fake.state().commands[0] & fake::WBF, fake::WBF);
    world.commit(invalidate(&world, domain, pages(5, 1), true));
    assert_eq!(
        world.fake.state().commands.len(),
        1,
        "a descriptor does it too"
    );
}

#[test]
fn who_keeps_tables_is_told_whether_stores_stay_in_a_buffer() {
    let plan = Plan::legacy();
    for (cap, expected) in [(plan.cap, false), (plan.cap | 1 << 4, true)] {
        let (world, _) = attached(Plan { cap, ..plan });
        let capabilities = world.driver.capabilities(device(EDU)).unwrap();
        assert_eq!(capabilities.write_buffer_flush, expected);
    }
}

#[test]
fn a_dropped_debt_is_counted_and_its_frames_are_not_reused() {
    let (world, domain) = attached(Plan::first_stage());
    world.map(domain, 5);
    let before = world.machine.memory.outstanding();
    drop(world.driver.unmap(domain, pages(5, 1)).unwrap());
    let parked = world.driver.quarantined();
    assert_eq!((parked.debts, parked.frames), (1, 3));
    assert_eq!(world.machine.memory.outstanding(), before);
}

#[test]
fn a_stale_handle_is_refused() {
    let (world, _) = attached(Plan::first_stage());
    let spec = DomainSpec::Paging(world.format());
    let old = world.driver.create(device(EDU), &spec).unwrap();
    world.commit(world.driver.destroy(old).unwrap());
    let new = world.driver.create(device(EDU), &spec).unwrap();
    assert_eq!(old.index, new.index);
    assert_ne!(old, new);
    assert_eq!(
        world
            .driver
            .invalidate(old, Scope::Everything)
            .map(|_| ())
            .unwrap_err(),
        BackendError::NoDomain(old)
    );
    let run = Run {
        hpa: Hpa::new(0x1000),
        pages: 1,
    };
    assert_eq!(
        world
            .driver
            .map(old, Iova::new(0), &[run], Access::READ)
            .map(|_| ())
            .unwrap_err(),
        MapError::NotPaging(old)
    );
}
