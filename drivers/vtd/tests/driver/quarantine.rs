//! What was not settled is kept, and can be had back.

use crate::heap;
use crate::world::*;
use iommu_core::*;

const EDU: u16 = 0x20;

fn reclaimed(world: &World) -> (u32, usize) {
    let mut flushed = world.driver.reclaim().unwrap();
    let count = flushed.frames.len();
    while let Some(frame) = flushed.frames.pop() {
        world.machine.release(frame);
    }
    (flushed.descriptors, count)
}

#[test]
fn a_flush_of_everything_gives_frames_and_ids_back() {
    let world = Plan::first_stage().boot();
    let (one, two) = (world.domain(), world.domain());
    let before = world.machine.memory.outstanding();
    world.map(one, 5);
    world.attach(slot(EDU), Attachment::Domain(one));
    drop(world.driver.unmap(one, pages(5, 1)).unwrap());
    let replaced = world
        .driver
        .replace(slot(EDU), Attachment::Blocked)
        .unwrap();
    drop(replaced.owed);
    assert_eq!(world.driver.quarantined().debts, 2);
    world.fake.take_executed();
    // Context, PASID, IOTLB, each global, and the wait.
    assert_eq!(reclaimed(&world), (4, 3));
    assert_eq!(world.driver.quarantined(), vtd::Quarantined::default());
    // The device's own tables stay: context, directory, PASID table.
    assert_eq!(world.machine.memory.outstanding(), before + 3);
    assert_eq!(world.pasid_entry(EDU, 0).unwrap(), [0; 8]);
    world.attach(slot(1), Attachment::Domain(two));
    assert_eq!(world.pasid_entry(1, 0).unwrap()[1] & 0xffff, 2, "its id");
}

#[test]
fn hardware_is_behind_from_the_first_debt_that_is_dropped_until_a_flush_of_everything() {
    let world = Plan::first_stage().boot();
    let domain = world.domain();
    world.map(domain, 5);
    assert!(!world.driver.has_unconfirmed(), "all is confirmed");
    drop(world.driver.unmap(domain, pages(5, 1)).unwrap());
    assert!(world.driver.has_unconfirmed());
    world.fake.state().asleep = true;
    assert!(world.driver.reclaim().is_err());
    assert!(world.driver.has_unconfirmed(), "it was told nothing");
    world.fake.state().asleep = false;
    // Told it is, though there is no memory to give anything back.
    heap::fail_allocation(1);
    assert_eq!(reclaimed(&world).1, 0);
    assert!(!world.driver.has_unconfirmed());
}

#[test]
fn without_memory_hardware_forgets_and_what_is_parked_stays() {
    let world = Plan::first_stage().boot();
    let domain = world.domain();
    world.map(domain, 5);
    drop(world.driver.unmap(domain, pages(5, 1)).unwrap());
    let parked = world.driver.quarantined();
    heap::fail_allocation(1);
    let flushed = reclaimed(&world);
    assert!(!heap::failure_is_pending(), "there was memory");
    assert_eq!(flushed, (4, 0));
    assert_eq!(world.driver.quarantined(), parked);
    assert_eq!(reclaimed(&world), (4, 3), "now that there is memory");
    assert_eq!(world.driver.quarantined(), vtd::Quarantined::default());
}

#[test]
fn a_flush_that_fails_gives_nothing_back() {
    let world = Plan::first_stage().boot();
    let domain = world.domain();
    world.map(domain, 5);
    drop(world.driver.unmap(domain, pages(5, 1)).unwrap());
    let before = world.driver.quarantined();
    world.fake.state().asleep = true;
    assert!(world.driver.reclaim().is_err());
    assert_eq!(world.driver.quarantined(), before);
    assert_eq!(before.frames, 3);
}

#[test]
fn devices_with_tlbs_are_told_too() {
    let world = Plan::first_stage().with_device_tlbs().boot();
    let domain = world.domain();
    world.attach(slot(EDU), Attachment::Domain(domain));
    let settings = vtd::DeviceTlb {
        queue_depth: 0,
        physical_function: SourceId::from_bits(EDU),
        page_requests: false,
    };
    world
        .driver
        .enable_device_tlb(device(EDU), settings, || Ok::<(), ()>(()))
        .unwrap();
    world.fake.take_executed();
    reclaimed(&world);
    let kinds: Vec<_> = world
        .fake
        .take_executed()
        .iter()
        .map(|w| w[0] & 0xf)
        .collect();
    assert_eq!(kinds, [1, 7, 2, 3]);
}

#[test]
fn a_batch_whose_commit_failed_is_parked_and_keeps_its_room() {
    let world = Plan::first_stage().boot();
    let domain = world.domain();
    world.attach(slot(EDU), Attachment::Domain(domain));
    let mut batch = Batch::with_capacity(3).unwrap();
    let owe = |page| {
        let scope = Scope::Range {
            range: pages(page, 1),
            leaf_only: true,
        };
        world.driver.invalidate(domain, scope).unwrap()
    };
    batch.add(owe(1)).unwrap();
    batch.add(owe(5)).unwrap();
    world.fake.state().asleep = true;
    assert!(world.driver.commit(&mut batch).is_err());
    assert_eq!(world.driver.quarantined().debts, 2);
    assert!(batch.is_empty());
    assert_eq!(batch.room(), 3);
    drop(batch);
    assert_eq!(world.driver.quarantined().debts, 2, "parked once");
}
