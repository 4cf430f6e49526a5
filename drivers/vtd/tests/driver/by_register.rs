//! Units without an invalidation queue: told by registers, one command at a time.

use crate::fake::*;
use crate::world::*;
use iommu_core::*;
use vtd::{Command, DiscoveryError, Event, TimeLimits, TimedOut, UnitConfig};

const EDU: u16 = 0x20;
const VER: usize = 0;
const QI: u64 = 1 << 1;

fn plan() -> Plan {
    Plan {
        ecap: ECAP_LEGACY & !QI,
        interrupts: false,
        ..Plan::legacy()
    }
}

fn opened(version: u32, ecap: u64) -> Result<(), DiscoveryError> {
    let (machine, fake) = Plan { ecap, ..plan() }.machine();
    fake.set32(VER, version);
    vtd::Discovered::open(description(), Registers(fake), &machine).map(|_| ())
}

#[test]
fn from_version_6_on_a_unit_without_a_queue_is_refused() {
    assert_eq!(opened(0x50, ECAP_LEGACY & !QI), Ok(()));
    let Err(DiscoveryError::NoInvalidation { unit, version }) = opened(0x60, ECAP_LEGACY & !QI)
    else {
        panic!("it cannot be told anything");
    };
    assert_eq!((unit, version.max()), (UNIT, 6));
    assert_eq!(opened(0x60, ECAP_LEGACY), Ok(()));
}

#[test]
fn it_offers_nothing_that_needs_a_queue() {
    // ECAP contradicts itself: these bits are 0 on a unit without a queue (§11.4.3).
    let (machine, fake) = Plan {
        ecap: ECAP_ALL & !QI,
        ..plan()
    }
    .machine();
    let unit = plan().discover(&machine, &fake);
    let abilities = unit.abilities();
    assert!(!abilities.scalable_mode() && !abilities.device_tlbs() && !abilities.page_requests());
    let quiesced = unit.quiesce(&machine, TimeLimits::default()).unwrap();
    let refused = quiesced.prepare(&machine, &Plan::legacy().config());
    let Err(vtd::BringUpError::NoInterruptRemapping { .. }) = refused else {
        panic!("interrupt entries cannot be invalidated");
    };
    let unit = plan().discover(&machine, &fake);
    let quiesced = unit.quiesce(&machine, TimeLimits::default()).unwrap();
    let ready = quiesced.prepare(&machine, &UnitConfig::default()).unwrap();
    assert_eq!(ready.mode().mode(), vtd::Mode::Legacy);
    assert!(machine.saw(|event| matches!(event, Event::NoQueue { unit: UNIT })));
}

#[test]
fn tables_come_into_force_with_both_caches_emptied() {
    let (machine, fake) = plan().machine();
    plan().preparing(&machine, &fake).enable().unwrap();
    let told: Vec<u64> = fake.state().by_register.iter().map(|w| w[0]).collect();
    // CCMD global; IOTLB global with reads and writes drained (§11.4.6).
    assert_eq!(told, [1 << 63 | 1 << 61, 1 << 63 | 1 << 60 | 3 << 48]);
    assert_eq!(fake.state().commands, [SRTP, TE]);
}

#[test]
fn an_unmapped_range_is_told_by_address_and_mask() {
    let world = plan().boot();
    let domain = world.domain();
    world.attach(slot(EDU), Attachment::Domain(domain));
    for page in 8..12 {
        world.map(domain, page);
    }
    world.fake.state().by_register.clear();
    let told = world.commit(world.driver.unmap(domain, pages(8, 4)).unwrap());
    // Page-selective in domain 2; 2^2 pages from 0x8000 on, and the table above with them.
    let iotlb = 1 << 63 | 3 << 60 | 3 << 48 | 2 << 32;
    assert_eq!(world.fake.state().by_register, [[iotlb, 0x8002]]);
    assert_eq!((told.descriptors, told.doorbells, told.waits), (1, 1, 1));
    let statistics = world.driver.statistics(UNIT).unwrap();
    assert_eq!((statistics.descriptors, statistics.doorbells), (0, 0));
    assert_eq!(statistics.register_invalidations, 3);
}

#[test]
fn what_it_will_not_do_so_narrowly_is_done_more_widely() {
    let world = plan().boot();
    let domain = world.domain();
    world.attach(slot(EDU), Attachment::Domain(domain));
    world.map(domain, 8);
    world.fake.state().narrowest = 1;
    world.fake.state().by_register.clear();
    world.commit(world.driver.unmap(domain, pages(8, 1)).unwrap());
    let asked: Vec<u64> = world
        .fake
        .state()
        .by_register
        .iter()
        .map(|w| w[0] >> 60 & 3)
        .collect();
    assert_eq!(asked, [3, 2, 1]);
    world.map(domain, 8);
    world.fake.state().narrowest = 0;
    let owed = world.driver.unmap(domain, pages(8, 1)).unwrap();
    assert_eq!(
        world.try_commit([owed]),
        Err(FlushError::DescriptorRefused {
            unit: UNIT,
            code: 0
        })
    );
    assert_eq!(world.driver.quarantined().debts, 1);
}

#[test]
fn a_command_that_is_never_answered_is_named_and_not_disturbed_by_another() {
    let (machine, fake) = plan().machine();
    fake.state().asleep = true;
    let failure = plan().preparing(&machine, &fake).enable().unwrap_err();
    let TimedOut { unit, command, .. } = match failure.error {
        vtd::BringUpError::TimedOut(error) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!((unit, command), (UNIT, Command::Invalidate));
    assert_eq!(fake.state().by_register.len(), 1);
    // Tried again, it is still at the first.
    let failure = failure.driver.enable().unwrap_err();
    assert!(matches!(failure.error, vtd::BringUpError::TimedOut(_)));
    assert_eq!(fake.state().by_register.len(), 1);
}

#[test]
fn what_was_done_more_widely_than_asked_is_enough() {
    // §11.4.6.3: IAIG tells at which granularity the unit did it.
    for wider in [1, 2] {
        let world = plan().boot();
        let domain = world.domain();
        world.attach(slot(EDU), Attachment::Domain(domain));
        world.map(domain, 8);
        world.fake.state().done_as = Some(wider);
        world.fake.state().by_register.clear();
        world.commit(world.driver.unmap(domain, pages(8, 1)).unwrap());
        let asked = world.fake.state().by_register.len();
        assert_eq!(asked, 1, "asked once, done as {wider}");
    }
}

#[test]
fn an_entry_that_goes_is_told_to_the_context_cache_first_and_then_its_domain_is() {
    // §11.4.6.1: the IOTLB is invalidated after the context-cache, whose content tags it.
    let world = plan().boot();
    let domain = world.domain();
    world.attach(slot(EDU), Attachment::Domain(domain));
    world.fake.state().by_register.clear();
    world.detach(slot(EDU));
    let context = 1 << 63 | 3 << 61 | u64::from(EDU) << 16 | 2;
    let iotlb = 1 << 63 | 2 << 60 | 3 << 48 | 2 << 32;
    let told: Vec<u64> = world
        .fake
        .state()
        .by_register
        .iter()
        .map(|w| w[0])
        .collect();
    assert_eq!(told, [context, iotlb]);
}

#[test]
fn bits_of_the_iotlb_register_that_are_to_be_kept_are_kept() {
    // §11.4.6.3: 31:0 are written back as they were read.
    let world = plan().boot();
    let domain = world.domain();
    world.attach(slot(EDU), Attachment::Domain(domain));
    world.map(domain, 8);
    world.fake.set64(IOTLB, 0x1234_5678);
    world.fake.state().by_register.clear();
    world.commit(world.driver.unmap(domain, pages(8, 1)).unwrap());
    let [told] = world.fake.state().by_register[..] else {
        panic!("one command");
    };
    assert_eq!(told[0] & 0xffff_ffff, 0x1234_5678);
}
