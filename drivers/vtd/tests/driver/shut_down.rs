//! The end, and sleep.

use crate::fake::*;
use crate::world::*;
use iommu_core::*;
use vtd::{BringUpError, Command};

const EDU: u16 = 0x20;

fn at_work(plan: Plan) -> (World, DomainHandle) {
    let world = plan.boot();
    let domain = world.domain();
    world.map(domain, 5);
    world.attach(slot(EDU), Attachment::Domain(domain));
    world.fake.take_executed();
    world.fake.state().commands.clear();
    (world, domain)
}

#[test]
fn everything_is_turned_off_in_order_and_all_memory_comes_back() {
    for plan in [Plan::legacy(), Plan::second_stage(), Plan::first_stage()] {
        let (world, domain) = at_work(plan);
        drop(world.driver.unmap(domain, pages(5, 1)).unwrap());
        assert_ne!(world.driver.quarantined().frames, 0);
        world.driver.shut_down().unwrap();
        assert_eq!(
            world.fake.state().commands,
            [QIE | IRE, QIE, 0],
            "translation, interrupt remapping, queue"
        );
        assert_eq!(world.fake.get32(GSTS) & (TE | IRE | QIE), 0);
        assert_eq!(world.fake.get32(FECTL) >> 31, 1);
        assert_eq!(world.machine.memory.outstanding(), 0);
    }
}

#[test]
fn caches_are_empty_before_translation_is_off() {
    let (world, _) = at_work(Plan::second_stage());
    world.driver.shut_down().unwrap();
    let lows: Vec<_> = world.fake.take_executed().iter().map(|w| w[0]).collect();
    assert_eq!(lows, [0x11, 0x37, 0xd2, 0x4]);
}

#[test]
fn a_unit_that_stays_on_keeps_its_memory() {
    let (world, _) = at_work(Plan::legacy());
    let before = world.machine.memory.outstanding();
    world.fake.state().stuck = TE;
    let failure = world.driver.shut_down().unwrap_err();
    assert!(matches!(
        failure.error,
        BringUpError::TimedOut(error) if error.command == Command::DisableTranslation
    ));
    assert_eq!(world.machine.memory.outstanding(), before);
    world.fake.state().stuck = 0;
    failure.driver.shut_down().unwrap();
    assert_eq!(world.machine.memory.outstanding(), 0);
}

#[test]
fn after_sleep_everything_is_as_before() {
    for plan in [Plan::legacy(), Plan::first_stage()] {
        let (world, domain) = at_work(plan);
        let handle = world.driver.allocate(device(EDU), 1).unwrap();
        let asleep = world.driver.suspend().unwrap();
        // The registers are lost; capabilities are not.
        for offset in [RTADDR, IQH, IQT, IQA, IRTA] {
            world.fake.set64(offset, 0);
        }
        for offset in [GSTS, FSTS, FECTL, 0x3c, 0x40] {
            world.fake.set32(offset, 0);
        }
        let driver = asleep.resume().unwrap().enable().unwrap();
        let world = World { driver, ..world };
        assert_eq!(
            world.fake.get32(GSTS),
            TE | SRTP | QIE | IRE | SIRTP,
            "all is on again"
        );
        assert_eq!(world.fake.get32(0x40), 0xfee0_1000);
        assert_eq!(world.walk(slot(EDU), 5), Ok(Hpa::new(0x1000_5000)));
        world.fake.take_executed();
        let scope = Scope::Range {
            range: pages(5, 1),
            leaf_only: true,
        };
        world.commit(world.driver.invalidate(domain, scope).unwrap());
        assert_eq!(world.fake.take_executed().len(), 1);
        world.driver.free(handle).unwrap();
    }
}
