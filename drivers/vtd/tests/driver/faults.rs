//! Fault records, from the register to the one who wants to know.

use crate::fake::*;
use crate::world::*;
use iommu_core::*;
use vtd::Event;

/// A read of `page` by `source` that was refused with this reason.
fn refused(source: u16, reason: u8) -> u64 {
    1 << 62 | u64::from(reason) << 32 | u64::from(source)
}

fn drained(world: &World) -> Vec<FaultRecord> {
    let mut records = Vec::new();
    world
        .driver
        .drain_faults(&mut |record| records.push(*record));
    records
}

fn with_records(count: u64) -> World {
    let plan = Plan::legacy();
    Plan {
        cap: plan.cap & !(0xff << 40) | (count - 1) << 40,
        ..plan
    }
    .boot()
}

#[test]
fn a_record_is_told_with_all_that_it_says() {
    let world = with_records(1);
    world.fake.fault(0, 0x9000, refused(0x20, 6));
    let [record] = drained(&world)[..] else {
        panic!()
    };
    assert_eq!(record.unit, UNIT);
    assert_eq!(record.device, device(0x20));
    assert_eq!(record.reason, FaultReason::READ_DENIED);
    assert_eq!(
        record.kind,
        FaultKind::Dma {
            address: Iova::new(0x9000),
            access: Access::READ
        }
    );
    assert!(world.machine.saw(|event| *event == Event::Fault(record)));
    assert_eq!(world.fake.get32(FSTS) & 0xff, 0);
    assert!(drained(&world).is_empty(), "each is told once");
    assert_eq!(world.driver.statistics(UNIT).unwrap().faults, 1);
}

#[test]
fn records_are_taken_around_the_ring_from_the_first_pending_on() {
    let world = with_records(8);
    for (n, index) in [6, 7, 0, 1].into_iter().enumerate() {
        world.fake.fault(index, 0, refused(n as u16, 5));
    }
    let sources: Vec<_> = drained(&world)
        .iter()
        .map(|record| record.device.source.bits())
        .collect();
    assert_eq!(sources, [0, 1, 2, 3]);
    assert_eq!(world.fake.get32(FSTS) & 0xff, 0);
}

#[test]
fn all_of_a_full_ring_are_taken() {
    let world = with_records(40);
    for index in 0..40 {
        world.fake.fault(index, 0, refused(index as u16, 5));
    }
    assert_eq!(drained(&world).len(), 40);
    assert_eq!(world.fake.get32(FSTS) & 0xff, 0);
}

#[test]
fn an_overflow_is_told_and_cleared_after_the_records() {
    let world = with_records(1);
    world.fake.fault(0, 0x1000, refused(1, 6));
    world.fake.fault(0, 0x2000, refused(2, 6));
    assert_eq!(world.fake.get32(FSTS) & 3, PFO | PPF);
    assert_eq!(drained(&world).len(), 1);
    assert_eq!(world.fake.get32(FSTS) & 0xff, 0);
    assert!(
        world
            .machine
            .saw(|event| matches!(event, Event::FaultsLost { unit: UNIT }))
    );
    world.fake.fault(0, 0x3000, refused(3, 6));
    assert_eq!(drained(&world).len(), 1, "it records again");
}

#[test]
fn the_explanation_names_every_table_and_where_the_walk_ends() {
    let cases = [
        (
            Plan::legacy(),
            vec!["root", "context", "second-stage level 4"],
            FaultReason::READ_DENIED,
        ),
        (
            Plan::second_stage(),
            vec![
                "root",
                "context",
                "PASID directory",
                "PASID table",
                "second-stage level 4",
            ],
            FaultReason::SECOND_STAGE_NOT_PRESENT,
        ),
        (
            Plan::first_stage(),
            vec![
                "root",
                "context",
                "PASID directory",
                "PASID table",
                "first-stage level 4",
            ],
            FaultReason::FIRST_STAGE_NOT_PRESENT,
        ),
    ];
    for (plan, tables, reason) in cases {
        let world = plan.boot();
        let domain = world.domain();
        world.attach(slot(0x20), Attachment::Domain(domain));
        let mut steps = Vec::new();
        let result = world.driver.explain(
            slot(0x20),
            Iova::new(0x5000),
            Access::READ,
            &mut |step: &WalkStep| steps.push(*step),
        );
        assert_eq!(result, Err(reason));
        let names: Vec<_> = steps.iter().map(|step| step.table).collect();
        assert_eq!(names, tables);
        let (last, others) = steps.split_last().unwrap();
        assert_eq!(last.refusal, Some(reason));
        assert!(others.iter().all(|step| step.refusal.is_none()));
        for step in &steps {
            assert_eq!(
                world.machine.memory.device_load(step.entry_at),
                Some(step.words[0]),
                "{}",
                step.table
            );
        }
    }
}

#[test]
fn a_write_to_what_may_only_be_read_is_explained_as_such() {
    let cases = [
        (Plan::legacy(), FaultReason::WRITE_DENIED),
        (Plan::second_stage(), FaultReason::SCALABLE_WRITE_DENIED),
        (Plan::first_stage(), FaultReason::SCALABLE_WRITE_DENIED),
    ];
    for (plan, reason) in cases {
        let world = plan.boot();
        let domain = world.domain();
        world.attach(slot(0x20), Attachment::Domain(domain));
        let run = Run {
            hpa: Hpa::new(0x10_0000),
            pages: 1,
        };
        let owed = world
            .driver
            .map(domain, Iova::new(0x5000), &[run], Access::READ)
            .unwrap();
        world.commit(owed);
        let explain = |access| {
            world
                .driver
                .explain(slot(0x20), Iova::new(0x5123), access, &mut |_| {})
        };
        assert_eq!(explain(Access::READ), Ok(Hpa::new(0x10_0123)));
        assert_eq!(explain(Access::WRITE), Err(reason));
    }
}

#[test]
fn a_table_of_someone_else_that_leads_to_interrupts_is_explained() {
    let world = Plan::first_stage().boot();
    let mut tables: Vec<_> = (0..4)
        .map(|_| world.machine.allocate(Order::PAGE).unwrap())
        .collect();
    for n in 0..3 {
        let next = tables[n + 1].hpa().as_u64() | 0x27;
        tables[n].store_private(0, next);
    }
    tables[3].store_private(5, 0xfee0_0000 | 0x67);
    for table in &tables {
        world.machine.write_back(table, 0..512);
    }
    let domain = world
        .driver
        .create(
            device(0x20),
            &DomainSpec::Root {
                format: TableFormat::FirstStage4,
                root: tables[0].hpa(),
            },
        )
        .unwrap();
    world.attach(slot(0x20), Attachment::Domain(domain));
    assert_eq!(
        world.walk(slot(0x20), 5),
        Err(FaultReason::SCALABLE_INTO_INTERRUPT_RANGE)
    );
    assert_eq!(
        world.walk(slot(0x20), 1 << 40),
        Err(FaultReason::NOT_CANONICAL)
    );
}

#[test]
fn a_silenced_device_keeps_what_it_may_reach_and_its_entry_tells_not_to_record() {
    for plan in [Plan::legacy(), Plan::first_stage()] {
        let world = plan.boot();
        let fpd = |world: &World, source| world.context(source).unwrap()[0] >> 1 & 1;
        // One that was never attached: silenced all the same.
        world.driver.silence(device(0x99), true).unwrap();
        assert_eq!((world.context(0x99).unwrap()[0], fpd(&world, 0x99)), (2, 1));
        let domain = world.domain();
        world.map(domain, 5);
        world.attach(slot(0x20), Attachment::Domain(domain));
        world.fake.take_executed();
        world.driver.silence(device(0x20), true).unwrap();
        assert_eq!(
            world.fake.take_executed()[0],
            [0x11, 0],
            "the entry was told"
        );
        assert_eq!(fpd(&world, 0x20), 1);
        assert!(world.walk(slot(0x20), 5).is_ok());
        world.detach(slot(0x20));
        world.attach(slot(0x20), Attachment::PassThrough);
        assert_eq!(fpd(&world, 0x20), 1, "it stays silent");
        world.driver.silence(device(0x20), false).unwrap();
        assert_eq!(fpd(&world, 0x20), 0);
        assert!(world.walk(slot(0x20), 5).is_ok());
    }
}

mod floods {
    use super::*;
    use vtd::{FaultLimit, Restraint};

    const LOUD: u16 = 0x20;
    const QUIET: u16 = 0x28;
    const FPD: u64 = 2;

    fn limit(restraint: Restraint) -> FaultLimit {
        FaultLimit {
            faults: 10,
            restraint,
            ..FaultLimit::default()
        }
    }

    /// Both devices lead to a domain with a page at 5.
    fn flooded(plan: Plan, restraint: Restraint) -> (World, DomainHandle) {
        let config = vtd::DriverConfig {
            fault_limit: Some(limit(restraint)),
            ..plan.config
        };
        let world = Plan { config, ..plan }.boot();
        let domain = world.domain();
        world.map(domain, 5);
        world.attach(slot(LOUD), Attachment::Domain(domain));
        world.attach(slot(QUIET), Attachment::Domain(domain));
        (world, domain)
    }

    fn faults(world: &World, source: u16, reason: u8, count: usize) {
        for _ in 0..count {
            world.fake.fault(0, 0x9000, refused(source, reason));
            drained(world);
        }
    }

    fn pause(world: &World) {
        world
            .machine
            .memory
            .advance(Nanoseconds::from_millis(10_000));
        world.driver.end_pauses();
    }

    fn flood(restraint: Restraint, interrupts: bool) -> Event {
        Event::Flood {
            device: device(LOUD),
            faults: 11,
            interrupts,
            restraint,
        }
    }

    fn is_silent(world: &World, source: u16) -> bool {
        world.context(source).unwrap()[0] & FPD != 0
    }

    #[test]
    fn a_device_that_floods_is_silenced_for_a_while_and_others_are_not() {
        for plan in [Plan::legacy(), Plan::second_stage()] {
            let (world, _) = flooded(plan, Restraint::Silenced);
            faults(&world, QUIET, 5, 10);
            faults(&world, LOUD, 5, 10);
            assert!(!is_silent(&world, LOUD));
            world.fake.take_executed();
            faults(&world, LOUD, 5, 1);
            assert!(is_silent(&world, LOUD) && !is_silent(&world, QUIET));
            assert!(!world.fake.take_executed().is_empty(), "hardware was told");
            let event = flood(Restraint::Silenced, false);
            assert!(world.machine.saw(|seen| *seen == event));
            assert_eq!(world.walk(slot(LOUD), 5), Ok(Hpa::new(0x1000_5000)));
            pause(&world);
            assert!(!is_silent(&world, LOUD));
            let over = Event::FloodOver {
                device: device(LOUD),
            };
            assert!(world.machine.saw(|seen| *seen == over));
        }
    }

    #[test]
    fn a_device_that_is_blocked_for_flooding_reaches_nothing_until_the_pause_is_over() {
        for plan in [Plan::legacy(), Plan::second_stage()] {
            let (world, _) = flooded(plan, Restraint::Blocked);
            faults(&world, LOUD, 5, 11);
            assert_eq!(world.context(LOUD).unwrap(), [FPD, 0]);
            assert!(world.walk(slot(LOUD), 5).is_err());
            assert!(world.walk(slot(QUIET), 5).is_ok());
            pause(&world);
            assert_eq!(world.walk(slot(LOUD), 5), Ok(Hpa::new(0x1000_5000)));
            assert!(!is_silent(&world, LOUD));
        }
    }

    #[test]
    fn what_a_blocked_device_is_given_it_has_when_the_pause_is_over() {
        for plan in [Plan::legacy(), Plan::second_stage()] {
            let (world, _) = flooded(plan, Restraint::Blocked);
            faults(&world, LOUD, 5, 11);
            let other = world.domain();
            world.map(other, 6);
            world.attach(slot(LOUD), Attachment::Domain(other));
            assert!(world.walk(slot(LOUD), 6).is_err());
            pause(&world);
            assert_eq!(world.walk(slot(LOUD), 6), Ok(Hpa::new(0x1000_6000)));
            assert!(world.walk(slot(LOUD), 5).is_err());
            // And what is taken from it meanwhile does not come back.
            faults(&world, LOUD, 5, 11);
            world.detach(slot(LOUD));
            pause(&world);
            assert!(world.walk(slot(LOUD), 6).is_err());
        }
    }

    #[test]
    fn a_flood_of_interrupt_faults_masks_the_event() {
        let (world, _) = flooded(Plan::legacy(), Restraint::Silenced);
        assert_eq!(world.fake.get32(FECTL), 0);
        faults(&world, LOUD, 0x22, 11);
        assert_eq!(world.fake.get32(FECTL), 1 << 31);
        assert!(!is_silent(&world, LOUD), "it would not help");
        let event = flood(Restraint::EventMasked, true);
        assert!(world.machine.saw(|seen| *seen == event));
        // Records are still read by who asks.
        world.fake.fault(0, 0x9000, refused(LOUD, 0x22));
        assert_eq!(drained(&world).len(), 1);
        pause(&world);
        assert_eq!(world.fake.get32(FECTL), 0);
    }

    #[test]
    fn a_device_for_which_there_is_no_memory_masks_the_event_instead() {
        let (world, _) = flooded(Plan::legacy(), Restraint::Silenced);
        // Nothing was attached on this bus, so there is no entry to be silent.
        const ELSEWHERE: u16 = 0x0700;
        faults(&world, ELSEWHERE, 1, 10);
        world.machine.memory.fail_allocation(1);
        faults(&world, ELSEWHERE, 1, 1);
        assert!(!world.machine.memory.failure_is_pending());
        assert_eq!(world.fake.get32(FECTL), 1 << 31);
        pause(&world);
        assert_eq!(world.fake.get32(FECTL), 0);
        faults(&world, ELSEWHERE, 1, 11);
        assert!(is_silent(&world, ELSEWHERE));
    }

    #[test]
    fn who_was_silenced_by_its_owner_stays_so() {
        let (world, _) = flooded(Plan::legacy(), Restraint::Silenced);
        world.driver.silence(device(LOUD), true).unwrap();
        faults(&world, LOUD, 5, 11);
        pause(&world);
        assert!(is_silent(&world, LOUD));
        world.driver.silence(device(LOUD), false).unwrap();
        assert!(!is_silent(&world, LOUD));
    }
}
