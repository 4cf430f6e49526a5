//! What happens when there is no memory: nothing.

use crate::world::*;
use iommu_core::*;

const EDU: u16 = 0x20;

/// All of the tables that hardware can reach for the device, and who is attached.
fn state_of(world: &World, slots: &[Slot]) -> Vec<(Attachment, Result<Hpa, FaultReason>)> {
    slots
        .iter()
        .map(|&slot| {
            (
                world.driver.attachment(slot).unwrap(),
                world.walk(slot, 1).map_err(|_| FaultReason(0)),
            )
        })
        .collect()
}

/// Runs `act` on fresh worlds, failing the first, second, … allocation, until it needs no
/// more. `act` says whether it succeeded.
fn with_each_allocation_failing(
    make: impl Fn() -> World,
    slots: &[Slot],
    act: impl Fn(&World) -> bool,
) {
    for n in 1.. {
        let world = make();
        let before = (
            state_of(&world, slots),
            world.machine.memory.outstanding(),
            world.driver.quarantined(),
        );
        world.machine.memory.fail_allocation(n);
        let succeeded = act(&world);
        if world.machine.memory.failure_is_pending() {
            assert!(succeeded);
            assert!(n > 1, "it allocates nothing at all");
            return;
        }
        assert!(!succeeded, "allocation {n} was not needed");
        let after = (
            state_of(&world, slots),
            world.machine.memory.outstanding(),
            world.driver.quarantined(),
        );
        assert_eq!(after, before, "after allocation {n} failed");
        world.machine.memory.fail_allocation(0);
        assert!(act(&world), "it can be tried again");
    }
}

fn replaced(world: &World, slot: Slot, to: Attachment) -> bool {
    match world.driver.replace(slot, to) {
        Ok(replaced) => {
            world.commit(replaced.owed);
            true
        }
        Err(error) => {
            assert!(matches!(error, BackendError::OutOfFrames(_)));
            false
        }
    }
}

fn with_domain(plan: Plan) -> (World, DomainHandle) {
    let world = plan.boot();
    let domain = world.domain();
    world.map(domain, 1);
    (world, domain)
}

const FIRST: DomainHandle = DomainHandle {
    index: 0,
    generation: 0,
};
const SECOND: DomainHandle = DomainHandle {
    index: 1,
    generation: 0,
};

#[test]
fn a_failed_first_attachment_leaves_nothing() {
    for plan in [Plan::legacy(), Plan::second_stage(), Plan::first_stage()] {
        with_each_allocation_failing(
            || with_domain(plan).0,
            &[slot(EDU)],
            |world| replaced(world, slot(EDU), Attachment::Domain(FIRST)),
        );
    }
}

#[test]
fn a_failed_attachment_gives_its_domain_id_back() {
    for plan in [Plan::second_stage(), Plan::first_stage()] {
        let (world, domain) = with_domain(plan);
        for n in 1..=3 {
            world.machine.memory.fail_allocation(n);
            assert!(!replaced(&world, slot(EDU), Attachment::Domain(domain)));
        }
        assert!(replaced(&world, slot(EDU), Attachment::Domain(domain)));
        assert_eq!(world.pasid_entry(EDU, 0).unwrap()[1] & 0xffff, 2);
    }
}

#[test]
fn a_failed_replacement_leaves_the_old_attachment() {
    with_each_allocation_failing(
        || {
            let (world, domain) = with_domain(Plan::first_stage());
            world.attach(slot(EDU), Attachment::Domain(domain));
            world.domain();
            world
        },
        &[slot(EDU)],
        |world| replaced(world, slot(EDU), Attachment::Domain(SECOND)),
    );
}

#[test]
fn a_failed_large_pasid_leaves_the_directory() {
    with_each_allocation_failing(
        || {
            let (world, domain) = with_domain(Plan::rich());
            world.attach(slot(EDU), Attachment::Domain(domain));
            world
        },
        &[slot(EDU), pasid_slot(EDU, 0xf_0000)],
        |world| replaced(world, pasid_slot(EDU, 0xf_0000), Attachment::Domain(FIRST)),
    );
}

#[test]
fn blocking_needs_no_memory() {
    for plan in [Plan::legacy(), Plan::second_stage(), Plan::first_stage()] {
        let (world, domain) = with_domain(plan);
        world.attach(slot(EDU), Attachment::Domain(domain));
        world.machine.memory.fail_allocation(1);
        assert!(replaced(&world, slot(EDU), Attachment::Blocked));
        assert!(world.machine.memory.failure_is_pending());
    }
}

#[test]
fn a_failed_domain_leaves_nothing() {
    with_each_allocation_failing(
        || Plan::first_stage().boot(),
        &[slot(EDU)],
        |world| {
            let spec = DomainSpec::Paging(world.format());
            world.driver.create(device(EDU), &spec).is_ok()
        },
    );
}

#[test]
fn a_failed_mapping_leaves_nothing() {
    with_each_allocation_failing(
        || {
            let (world, domain) = with_domain(Plan::first_stage());
            world.attach(slot(EDU), Attachment::Domain(domain));
            world
        },
        &[slot(EDU)],
        |world| {
            let run = Run {
                hpa: Hpa::new(0x10_0000),
                pages: 1,
            };
            let iova = Iova::new(1 << 40);
            match world.driver.map(FIRST, iova, &[run], Access::READ) {
                Ok(owed) => {
                    world.commit(owed);
                    true
                }
                Err(error) => {
                    assert!(matches!(error, MapError::OutOfFrames(_)));
                    false
                }
            }
        },
    );
}
