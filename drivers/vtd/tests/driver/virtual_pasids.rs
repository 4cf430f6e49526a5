//! PASIDs that a unit gives out (an emulation's), in place of numbers of our own.

use crate::world::*;
use iommu_core::sync::Rank;
use iommu_core::*;
use vtd::VirtualCommandError;

const VCS: u64 = 1 << 44;
const VCCAP: usize = 0xe30;

fn giving(vccap: u64) -> World {
    let plan = Plan::rich();
    let world = Plan {
        ecap: plan.ecap | VCS,
        ..plan
    }
    .boot();
    world.fake.set64(VCCAP, vccap);
    world
}

#[test]
fn pasids_come_from_the_unit_and_go_back_to_it() {
    let world = giving(7);
    let pasids = world.driver.virtual_pasids().expect("it gives them out");
    let all = Pasid::new(1).unwrap()..=Pasid::MAX;
    let platform: &dyn Platform = &world.machine;
    // In a section with interrupts off, as who keeps guests' PASIDs asks.
    let state = platform.enter(Rank::Owners);
    let [first, second] = [(); 2].map(|()| pasids.allocate(platform, all.clone()).unwrap());
    platform.leave(Rank::Owners, state);
    assert_ne!(first, second);
    let given = world.fake.state().pasids.clone();
    assert_eq!(given.len(), 2);
    assert!(given.contains(&first.as_u32()) && given.contains(&second.as_u32()));
    pasids.free(platform, first);
    assert!(!world.fake.state().pasids.contains(&first.as_u32()));
    // One that nobody has cannot be given back.
    assert_eq!(pasids.give_back(first), Err(VirtualCommandError::NoPasid));
}

#[test]
fn a_pasid_that_is_not_within_the_range_goes_back_at_once() {
    let world = giving(7);
    let pasids = world.driver.virtual_pasids().unwrap();
    let few = Pasid::new(1).unwrap()..=Pasid::new(2).unwrap();
    assert_eq!(pasids.allocate(&world.machine, few), None);
    assert!(world.fake.state().pasids.is_empty());
}

#[test]
fn a_unit_that_has_none_left_says_so() {
    let world = giving(7);
    let pasids = world.driver.virtual_pasids().unwrap();
    let most = crate::fake::VIRTUAL_PASIDS.count();
    for _ in 0..most {
        pasids.take().unwrap();
    }
    assert_eq!(pasids.take(), Err(VirtualCommandError::NoPasid));
}

#[test]
fn a_unit_that_does_not_answer_is_waited_for_no_longer_than_for_any_command() {
    let world = giving(7);
    let pasids = world.driver.virtual_pasids().unwrap();
    world.fake.state().asleep = true;
    let VirtualCommandError::TimedOut { unit: UNIT, waited } = pasids.take().unwrap_err() else {
        panic!("it answered");
    };
    assert!(waited > Nanoseconds(0));
    // The command is under way still: another one must not be written over it.
    let commands = world.fake.state().virtual_commands;
    assert!(pasids.take().is_err());
    assert_eq!(world.fake.state().virtual_commands, commands);
}

#[test]
fn a_unit_that_does_not_give_pasids_out_is_not_asked_for_them() {
    for vccap in [0, 1, 3, 5] {
        assert!(giving(vccap).driver.virtual_pasids().is_none(), "{vccap}");
    }
    assert!(Plan::rich().boot().driver.virtual_pasids().is_none());
}
