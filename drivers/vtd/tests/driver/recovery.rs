//! A queue that stops, devices that are silent, a unit that is gone.

use crate::fake::*;
use crate::world::*;
use iommu_core::*;
use vtd::Event;

const EDU: u16 = 0x20;

fn attached(plan: Plan) -> (World, DomainHandle) {
    let world = plan.boot();
    let domain = world.domain();
    world.attach(slot(EDU), Attachment::Domain(domain));
    world.fake.take_executed();
    (world, domain)
}

/// Debts of `count` pages that cannot be merged.
fn owed(world: &World, domain: DomainHandle, count: usize) -> Batch<'_, vtd::Debt> {
    let mut batch = Batch::with_capacity(count).unwrap();
    for n in 0..count as u64 {
        let scope = Scope::Range {
            range: pages(2 * n, 1),
            leaf_only: true,
        };
        batch
            .add(world.driver.invalidate(domain, scope).unwrap())
            .unwrap();
    }
    batch
}

#[test]
fn a_refused_descriptor_is_named_wherever_it_stands_and_the_rest_is_done() {
    for plan in [Plan::legacy(), Plan::first_stage()] {
        const COUNT: usize = 5;
        for position in 1..=COUNT {
            let (world, domain) = attached(plan);
            let mut batch = owed(&world, domain, COUNT);
            world.fake.state().refuse = Some((position, 4));
            assert_eq!(
                world.driver.commit(&mut batch).map(|_| ()).unwrap_err(),
                FlushError::DescriptorRefused {
                    unit: UNIT,
                    code: 4
                },
                "at {position}"
            );
            assert_eq!(world.fake.take_executed().len(), COUNT - 1);
            assert_eq!(world.fake.get32(FSTS), 0);
            assert!(world.machine.saw(|event| matches!(
                event,
                Event::DescriptorRefused {
                    unit: UNIT,
                    code: 4,
                    ..
                }
            )));
            assert_eq!(world.driver.quarantined().debts, COUNT as u32);
            // The queue is as good as new.
            let flushed = world.driver.commit(&mut owed(&world, domain, 3)).unwrap();
            assert_eq!(flushed.descriptors, 4);
        }
    }
}

#[test]
fn a_refused_wait_is_written_anew_and_then_given_up() {
    let (world, domain) = attached(Plan::first_stage());
    // Something else wrote into the slot of the wait: written anew it is good.
    world.fake.state().refuse = Some((4, 4));
    let flushed = world.driver.commit(&mut owed(&world, domain, 3)).unwrap();
    assert_eq!(flushed.waits, 1);
    // Refused again and again, it has to end.
    world.fake.state().refuse = Some((4, 4));
    world.fake.state().refuse_again = 1;
    let failed = world.driver.commit(&mut owed(&world, domain, 3));
    assert_eq!(
        failed.map(|_| ()).unwrap_err(),
        FlushError::DescriptorRefused {
            unit: UNIT,
            code: 4
        }
    );
    assert!(world.driver.commit(&mut owed(&world, domain, 3)).is_ok());
}

#[test]
fn an_error_of_the_queue_as_a_whole_concerns_every_round() {
    let (world, domain) = attached(Plan::first_stage());
    world.fake.state().refuse = Some((1, 5));
    assert_eq!(
        world
            .driver
            .commit(&mut owed(&world, domain, 2))
            .map(|_| ())
            .unwrap_err(),
        FlushError::DescriptorRefused {
            unit: UNIT,
            code: 5
        }
    );
}

#[test]
fn a_unit_that_does_nothing_is_a_time_out_and_what_was_owed_is_kept() {
    let (world, domain) = attached(Plan::first_stage());
    world.map(domain, 5);
    let unmapped = world.driver.unmap(domain, pages(5, 1)).unwrap();
    let before = world.machine.memory.outstanding();
    world.fake.state().asleep = true;
    let error = world.try_commit([unmapped]).unwrap_err();
    match error {
        FlushError::UnitTimedOut { unit: UNIT, waited } => {
            assert!(waited >= Nanoseconds::from_millis(2_000));
            assert!(waited < Nanoseconds::from_millis(3_000));
        }
        error => panic!("{error:?}"),
    }
    assert_eq!(world.machine.memory.outstanding(), before);
    assert_eq!(world.driver.quarantined().frames, 3);
    assert_eq!(world.driver.statistics(UNIT).unwrap().timeouts, 1);
}

#[test]
fn a_wait_that_was_given_up_and_comes_late_confirms_nobody_elses() {
    let (world, domain) = attached(Plan::first_stage());
    world.fake.state().asleep = true;
    assert!(world.driver.commit(&mut owed(&world, domain, 1)).is_err());
    // The next one is asked while the unit still sleeps: the old wait's number must not
    // satisfy it, whenever it is written.
    assert!(world.driver.commit(&mut owed(&world, domain, 1)).is_err());
    world.fake.state().asleep = false;
    let flushed = world.driver.commit(&mut owed(&world, domain, 1)).unwrap();
    assert_eq!(flushed.waits, 1);
    assert_eq!(world.fake.take_executed().len(), 3);
}

#[test]
fn a_full_queue_that_nobody_empties_is_a_time_out_and_loses_nothing() {
    let (world, domain) = attached(Plan::first_stage().exact());
    world.fake.state().asleep = true;
    for _ in 0..3 {
        let error = world
            .driver
            .commit(&mut owed(&world, domain, 4000))
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(error, FlushError::UnitTimedOut { .. }));
    }
    world.fake.state().asleep = false;
    world.fake.wake();
    // Two rounds of 4000 and a wait each, and as much of the third as the 8191 slots hold.
    let executed = world.fake.take_executed();
    assert_eq!(executed.len(), 8191 - 3);
    let pages = executed.iter().map(|words| words[1] >> 13);
    let expected = (0..4000).chain(0..4000).chain(0..188);
    assert!(pages.eq(expected), "none was overwritten");
    assert!(world.driver.commit(&mut owed(&world, domain, 4000)).is_ok());
}

#[test]
fn an_unexpected_completion_is_told_and_harmless() {
    let (world, domain) = attached(Plan::first_stage());
    world.fake.set64(IQERCD, 0x77 << 48);
    world.fake.set32(FSTS, ICE);
    world.driver.drain_faults(&mut |_| panic!("no fault"));
    assert_eq!(world.fake.get32(FSTS), 0);
    assert!(world.machine.saw(
        |event| matches!(event, Event::UnexpectedCompletion { source, .. } if source.bits() == 0x77)
    ));
    assert!(world.driver.commit(&mut owed(&world, domain, 1)).is_ok());
}

#[test]
fn many_cpus_wait_at_once() {
    let (world, domain) = attached(Plan::first_stage());
    let told = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let flushed = world.driver.commit(&mut owed(&world, domain, 7)).unwrap();
                    told.fetch_add(
                        flushed.descriptors as usize - 1,
                        std::sync::atomic::Ordering::Relaxed,
                    );
                }
            });
        }
    });
    assert_eq!(world.fake.take_executed().len(), told.into_inner());
    assert_eq!(world.driver.quarantined().debts, 0);
}
