//! Devices that cache translations themselves, and those that do not answer.

use crate::fake;
use crate::world::*;
use iommu_core::*;
use vtd::{DeviceTlb, DeviceTlbError, Event};

const NET: u16 = 0x0100;

fn settings() -> DeviceTlb {
    DeviceTlb {
        queue_depth: 4,
        physical_function: SourceId::from_bits(NET),
        page_requests: false,
    }
}

fn enable(world: &World, source: u16) {
    world
        .driver
        .enable_device_tlb(device(source), settings(), || Ok::<(), ()>(()))
        .unwrap();
}

/// A unit with Device-TLBs, and an attached device that uses its own.
fn caching_device(plan: Plan) -> (World, DomainHandle) {
    let world = plan.with_device_tlbs().boot();
    let domain = world.domain();
    world.map(domain, 5);
    world.attach(slot(NET), Attachment::Domain(domain));
    enable(&world, NET);
    world.fake.take_executed();
    (world, domain)
}

fn invalidate_page(world: &World, domain: DomainHandle) -> Result<Told, FlushError> {
    let scope = Scope::Range {
        range: pages(5, 1),
        leaf_only: true,
    };
    let owed = world.driver.invalidate(domain, scope).unwrap();
    world.try_commit([owed])
}

#[test]
fn the_entry_is_open_before_the_device_is_turned_on_and_told_to_hardware() {
    for (plan, bit) in [(Plan::legacy(), 1 << 2), (Plan::first_stage(), 1 << 2)] {
        let world = plan.with_device_tlbs().boot();
        let domain = world.domain();
        world.attach(slot(NET), Attachment::Domain(domain));
        assert_eq!(world.context(NET).unwrap()[0] & bit, 0);
        world.fake.take_executed();
        world
            .driver
            .enable_device_tlb(device(NET), settings(), || {
                assert_eq!(world.context(NET).unwrap()[0] & bit, bit);
                assert!(!world.fake.take_executed().is_empty());
                Ok::<(), ()>(())
            })
            .unwrap();
    }
}

#[test]
fn a_device_that_cannot_be_turned_on_leaves_the_entry_closed() {
    let world = Plan::first_stage().with_device_tlbs().boot();
    let domain = world.domain();
    world.attach(slot(NET), Attachment::Domain(domain));
    let failed = world
        .driver
        .enable_device_tlb(device(NET), settings(), || Err("no ATS"));
    assert_eq!(failed.unwrap_err(), DeviceTlbError::Device("no ATS"));
    assert_eq!(world.context(NET).unwrap()[0] & 4, 0);
    world.fake.take_executed();
    invalidate_page(&world, domain).unwrap();
    assert_eq!(world.fake.take_executed().len(), 1, "it is not asked");
}

#[test]
fn an_entry_that_hardware_was_not_told_to_be_open_is_closed_again() {
    let world = Plan::first_stage().with_device_tlbs().boot();
    let domain = world.domain();
    world.attach(slot(NET), Attachment::Domain(domain));
    for asleep in [true, false] {
        world.fake.state().asleep = asleep;
        let mut turned_on = false;
        let enabled = world.driver.enable_device_tlb(device(NET), settings(), || {
            turned_on = true;
            Ok::<(), ()>(())
        });
        assert_eq!((enabled.is_err(), turned_on), (asleep, !asleep));
        assert_eq!(world.context(NET).unwrap()[0] & 4 != 0, !asleep);
    }
}

#[test]
fn a_unit_without_device_tlbs_refuses() {
    let world = Plan::first_stage().boot();
    let failed = world
        .driver
        .enable_device_tlb(device(NET), settings(), || Ok::<(), ()>(()));
    assert_eq!(
        failed.unwrap_err(),
        DeviceTlbError::Backend(BackendError::Unsupported(device(NET)))
    );
}

#[test]
fn a_device_is_told_after_the_unit() {
    let (world, domain) = caching_device(Plan::legacy());
    invalidate_page(&world, domain).unwrap();
    assert_eq!(
        world.fake.take_executed(),
        [
            [0xf2 | 2 << 16, 0x5040],
            [3 | 4 << 16 | 0x100 << 32, 0x5000]
        ]
    );
}

#[test]
fn a_fence_stands_between_a_pasid_iotlb_and_a_plain_device_invalidation() {
    let (world, domain) = caching_device(Plan::first_stage());
    world.fake.state().executed.clear();
    invalidate_page(&world, domain).unwrap();
    let kinds: Vec<_> = world
        .fake
        .state()
        .executed
        .iter()
        .map(|[low, _]| low & 0xff)
        .collect();
    // PASID-IOTLB page; wait with status write and fence; Device-TLB; the round's wait.
    assert_eq!(kinds, [0x36, 0x65, 0x03, 0x65]);
}

#[test]
fn a_pasid_of_a_device_is_told_by_pasid_and_needs_no_fence() {
    let plan = Plan::rich();
    let (world, _) = caching_device(plan);
    let domain = world
        .driver
        .create(device(NET), &DomainSpec::Paging(TableFormat::FirstStage4))
        .unwrap();
    world.attach(pasid_slot(NET, 9), Attachment::Domain(domain));
    world.fake.state().executed.clear();
    invalidate_page(&world, domain).unwrap();
    let lows: Vec<_> = world
        .fake
        .state()
        .executed
        .iter()
        .map(|[low, _]| low & 0xffff_ffff_ffff)
        .collect();
    assert_eq!(
        lows[..2],
        [0x36 | 3 << 16 | 9 << 32, 0x48 | 0x100 << 16 | 9 << 32]
    );
    assert_eq!(lows.len(), 3);
}

#[test]
fn detaching_takes_everything_from_the_device() {
    let (world, _) = caching_device(Plan::legacy());
    world.detach(slot(NET));
    let last = *world.fake.take_executed().last().unwrap();
    assert_eq!(last, [3 | 4 << 16 | 0x100 << 32, 0x7fff_ffff_ffff_f001]);
}

#[test]
fn turning_it_off_asks_the_device_first_and_closes_the_entry_last() {
    let (world, domain) = caching_device(Plan::legacy());
    world
        .driver
        .disable_device_tlb(device(NET), || {
            assert_eq!(world.context(NET).unwrap()[0] & 4, 4);
            assert!(world.fake.take_executed().is_empty());
            Ok::<(), ()>(())
        })
        .unwrap();
    assert_eq!(world.context(NET).unwrap()[0] & 4, 0);
    let executed = world.fake.take_executed();
    assert_eq!(executed[0][0] & 0xf, 3);
    assert_eq!(executed[1][0] & 0xf, 1);
    invalidate_page(&world, domain).unwrap();
    assert_eq!(
        world.fake.take_executed().len(),
        1,
        "it is not asked any more"
    );
}

#[test]
fn a_silent_device_is_named_and_cut_off_and_the_others_go_on() {
    for plan in [Plan::legacy(), Plan::first_stage()] {
        let (world, domain) = caching_device(plan);
        world.attach(slot(0x20), Attachment::Domain(domain));
        world.fake.take_executed();
        world.fake.state().silent.insert(NET);
        assert_eq!(
            invalidate_page(&world, domain).unwrap_err(),
            FlushError::DeviceTimedOut(device(NET))
        );
        // What was sent before it fell silent may be lost, and is sent again.
        let executed = world.fake.take_executed();
        let told_again = |[low, _]: &[u64; 2]| matches!(low & 0xff, 0xf2 | 0x36);
        assert!(executed.iter().any(told_again));
        // Neither its entry nor what was translated by it is cached any more.
        for global in [0x11, 0xd2] {
            assert!(executed.iter().any(|[low, _]| *low == global));
        }
        assert!(world.machine.saw(|event| *event
            == Event::Isolated {
                device: device(NET)
            }));
        assert_eq!(world.context(NET).unwrap(), [0, 0]);
        assert!(world.walk(slot(NET), 5).is_err());
        // The other device of the domain still works, and nobody waits for the silent one.
        assert!(world.walk(slot(0x20), 5).is_ok());
        assert!(invalidate_page(&world, domain).is_ok());
        // The unit has dropped the page all the same: it was told again.
        assert!(
            world
                .fake
                .take_executed()
                .iter()
                .all(|[low, _]| low & 0xf != 3)
        );
        assert_eq!(world.fake.get32(fake::FSTS) & fake::ITE, 0);
        assert_eq!(world.driver.quarantined().debts, 1);
    }
}

#[test]
fn a_device_that_was_cut_off_comes_back_when_it_is_attached_again() {
    for plan in [Plan::legacy(), Plan::first_stage()] {
        let (world, domain) = caching_device(plan);
        world.fake.state().silent.insert(NET);
        invalidate_page(&world, domain).unwrap_err();
        world.fake.state().silent.clear();
        world.detach(slot(NET));
        world.attach(slot(NET), Attachment::Domain(domain));
        assert!(world.walk(slot(NET), 5).is_ok());
        assert_eq!(world.context(NET).unwrap()[0] & 4, 0, "its cache stays off");
    }
}

#[test]
fn many_rounds_of_many_cpus_survive_a_silent_device() {
    let (world, domain) = caching_device(Plan::legacy());
    let other = world.domain();
    world.attach(slot(0x20), Attachment::Domain(other));
    world.fake.state().silent.insert(NET);
    std::thread::scope(|scope| {
        for n in 0..6 {
            let world = &world;
            scope.spawn(move || {
                for _ in 0..20 {
                    let domain = if n == 0 { domain } else { other };
                    let result = invalidate_page(world, domain);
                    match result {
                        Ok(_) => {}
                        Err(FlushError::DeviceTimedOut(found)) => {
                            assert_eq!(found, device(NET));
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
    });
    assert!(invalidate_page(&world, domain).is_ok());
    assert!(invalidate_page(&world, other).is_ok());
}
