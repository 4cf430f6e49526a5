//! Devices that translate addresses themselves and lie: what they claim to have translated
//! is held against host permission tables.

use crate::guest::ALL;
use crate::nesting::{Nest, Privileges};
use crate::rig::{FREEDOMS, ONE, Plan, Rig, device, range, slot};
use iommu_core::{
    Access, Attachment, Backend, BackendError, DomainHandle, FaultReason, Frame, Hpa, Iova,
    MapError, Platform, Run, SourceId, TableFormat,
};
use std::collections::BTreeMap;
use vtd::{DeviceTlb, DeviceTlbError, ModeRequest};
use vtd_model::{Access as Wants, Config, Freedom, Outcome, Promptness, Request};

/// A function with a device-TLB, which lies.
const LIAR: u16 = 0x0420;

fn checking() -> Config {
    Config {
        host_permissions: true,
        ..Config::scalable_with_ats()
    }
}

fn units() -> Vec<(Config, ModeRequest, TableFormat)> {
    let (first, second) = (TableFormat::FirstStage4, TableFormat::SecondStage4);
    vec![
        (checking(), ModeRequest::SecondStage, second),
        (checking(), ModeRequest::FirstStage, first),
        (
            checking().with_caching_mode(),
            ModeRequest::SecondStage,
            second,
        ),
        (checking().non_coherent(), ModeRequest::SecondStage, second),
        (Config::everything(), ModeRequest::SecondStage, second),
    ]
}

fn start(config: Config, mode: ModeRequest, freedom: Freedom) -> Rig {
    Plan::new(config)
        .mode(mode)
        .freedom(freedom)
        .ats_device(LIAR, 0, Promptness::Late(3))
        .start()
}

fn each(mut test: impl FnMut(&Rig, TableFormat)) {
    for (config, mode, format) in units() {
        for freedom in FREEDOMS {
            eprintln!("{config:?} {mode:?} {freedom:?}");
            let rig = start(config.clone(), mode, freedom);
            rig.assign(LIAR, 1);
            test(&rig, format);
            rig.assert_clean();
        }
    }
}

fn settings() -> DeviceTlb {
    DeviceTlb {
        queue_depth: 0,
        physical_function: SourceId::from_bits(LIAR),
        page_requests: false,
    }
}

fn enable(rig: &Rig) -> Result<(), DeviceTlbError<()>> {
    rig.driver
        .enable_checked_device_tlb(device(LIAR), settings(), || Ok(()))
}

fn disable(rig: &Rig) {
    rig.driver
        .disable_device_tlb(device(LIAR), || Ok::<(), ()>(()))
        .expect("it answers");
}

/// A checked domain that the device leads to.
fn domain(rig: &Rig, format: TableFormat) -> DomainHandle {
    let made = rig.driver.create_checked(device(LIAR), format);
    let domain = made.expect("the unit has host permission tables");
    rig.attach(LIAR, None, domain);
    domain
}

/// The device claims to have translated something to this address.
#[track_caller]
fn claim(rig: &Rig, hpa: Hpa, access: Wants) -> Option<FaultReason> {
    let request = Request::new(LIAR, hpa.as_u64() | 0x10, access).translated();
    let answers = rig.with(|machine| machine.possible(&request));
    let outcome = rig.with(|machine| machine.request(&request));
    rig.faults();
    assert!(
        answers
            .iter()
            .all(|answer| answer.address() == outcome.address()),
        "{hpa}: {answers:?}"
    );
    match outcome {
        Outcome::Memory { address } => {
            assert_eq!(address, hpa.as_u64() | 0x10);
            None
        }
        refused => crate::rig::reason_of(&refused),
    }
}

const NO_READ: Option<FaultReason> = Some(FaultReason::HOST_PERMISSION_NO_READ);
const NO_WRITE: Option<FaultReason> = Some(FaultReason::HOST_PERMISSION_NO_WRITE);

#[test]
fn a_device_reaches_what_is_mapped_for_it_and_no_other_memory() {
    each(|rig, format| {
        let domain = domain(rig, format);
        let [mapped, other, later] = [(); 3].map(|()| rig.page(1));
        let theirs = rig.page(2);
        rig.map(domain, 0x7000, mapped.hpa(), Access::READ_WRITE);
        enable(rig).expect("everything is checked");
        for wants in [Wants::Read, Wants::Write] {
            assert_eq!(claim(rig, mapped.hpa(), wants), None);
        }
        for page in [&other, &theirs, &later] {
            assert_eq!(claim(rig, page.hpa(), Wants::Read), NO_READ);
            assert_eq!(claim(rig, page.hpa(), Wants::Write), NO_WRITE);
        }
        // The honest way works too.
        let honest = rig.with(|machine| machine.ats_access(LIAR, None, 0x7000, Wants::Write));
        assert_eq!(honest.address(), Some(mapped.hpa().as_u64()));
        // Refusals of before are forgotten with the mapping's flush.
        rig.map(domain, 0x9000, later.hpa(), Access::READ);
        assert_eq!(claim(rig, later.hpa(), Wants::Read), None);
        assert_eq!(claim(rig, later.hpa(), Wants::Write), NO_WRITE);
        assert_eq!(claim(rig, other.hpa(), Wants::Read), NO_READ);
        end(rig, domain, [mapped, other, later, theirs]);
    });
}

fn end(rig: &Rig, domain: DomainHandle, frames: impl IntoIterator<Item = Frame>) {
    rig.detach(LIAR, None);
    disable(rig);
    rig.destroy(domain);
    for frame in frames {
        rig.platform.release(frame);
    }
}

#[test]
fn what_was_unmapped_is_out_of_reach_and_may_change_hands() {
    each(|rig, format| {
        let domain = domain(rig, format);
        let [gone, kept] = [(); 2].map(|()| rig.page(1));
        rig.map(domain, 0x7000, gone.hpa(), Access::READ_WRITE);
        rig.map(domain, 0x8000, kept.hpa(), Access::READ_WRITE);
        enable(rig).expect("everything is checked");
        for page in [&gone, &kept] {
            assert_eq!(claim(rig, page.hpa(), Wants::Write), None);
        }
        let cached = rig.with(|machine| machine.ats_access(LIAR, None, 0x7000, Wants::Write));
        assert_eq!(cached.address(), Some(gone.hpa().as_u64()));
        rig.unmap(domain, 0x7000, 1);
        assert_eq!(claim(rig, gone.hpa(), Wants::Read), NO_READ);
        assert_eq!(claim(rig, kept.hpa(), Wants::Write), None);
        rig.platform.release(gone);
        end(rig, domain, [kept]);
    });
}

#[test]
fn a_page_that_is_mapped_twice_goes_with_its_last_mapping() {
    each(|rig, format| {
        let domain = domain(rig, format);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        rig.map(domain, 0x20_0000, page.hpa(), Access::READ);
        enable(rig).expect("everything is checked");
        assert_eq!(claim(rig, page.hpa(), Wants::Write), None);
        rig.unmap(domain, 0x7000, 1);
        assert_eq!(claim(rig, page.hpa(), Wants::Read), None);
        assert_eq!(claim(rig, page.hpa(), Wants::Write), NO_WRITE);
        rig.unmap(domain, 0x20_0000, 1);
        assert_eq!(claim(rig, page.hpa(), Wants::Read), NO_READ);
        end(rig, domain, [page]);
    });
}

#[test]
fn a_device_that_is_detached_reaches_nothing() {
    each(|rig, format| {
        let domain = domain(rig, format);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        enable(rig).expect("everything is checked");
        assert_eq!(claim(rig, page.hpa(), Wants::Write), None);
        rig.detach(LIAR, None);
        assert_ne!(claim(rig, page.hpa(), Wants::Write), None);
        rig.attach(LIAR, None, domain);
        assert_eq!(claim(rig, page.hpa(), Wants::Write), None);
        // Another checked domain at once: nothing of the old one is left.
        let other = rig
            .driver
            .create_checked(device(LIAR), format)
            .expect("the unit has host permission tables");
        let theirs = rig.page(1);
        rig.map(other, 0x7000, theirs.hpa(), Access::READ_WRITE);
        rig.attach(LIAR, None, other);
        assert_eq!(claim(rig, theirs.hpa(), Wants::Write), None);
        assert_eq!(claim(rig, page.hpa(), Wants::Write), NO_WRITE);
        rig.destroy(domain);
        rig.platform.release(page);
        end(rig, other, [theirs]);
    });
}

#[test]
fn a_guests_own_tables_are_checked_by_what_lies_below() {
    for freedom in FREEDOMS {
        let rig = start(checking(), ModeRequest::SecondStage, freedom);
        let parent = rig
            .driver
            .create_checked(device(LIAR), TableFormat::SecondStage4)
            .expect("the unit has host permission tables");
        let nest = Nest::over(&rig, (LIAR, None), parent, Privileges::NONE);
        let guest = &nest.guest;
        enable(&rig).expect("what is nested is checked too");
        // Another slot of the same guest leads to the same permissions, a foreign one not.
        rig.attach(LIAR, Some(5), parent);
        let foreign = rig
            .driver
            .create_checked(device(LIAR), TableFormat::SecondStage4)
            .expect("the unit has host permission tables");
        let refused = rig
            .driver
            .replace(slot(LIAR, Some(6)), Attachment::Domain(foreign));
        let unchecked = BackendError::Unchecked(device(LIAR));
        assert_eq!(refused.map(drop), Err(unchecked));
        let data = guest.data(3);
        guest.map(nest.root, 0x12_3000, data, ALL);
        let honest = rig.with(|machine| machine.ats_access(LIAR, None, 0x12_3000, Wants::Write));
        assert_eq!(honest.address(), Some(guest.hpa(data).as_u64()));
        let theirs = rig.page(2);
        assert_eq!(claim(&rig, theirs.hpa(), Wants::Write), NO_WRITE);
        let hpa = guest.hpa(data);
        rig.unmap(parent, data, 1);
        assert_eq!(claim(&rig, hpa, Wants::Write), NO_WRITE);
        rig.assert_clean();
        rig.detach(LIAR, None);
        rig.detach(LIAR, Some(5));
        disable(&rig);
        rig.destroy(foreign);
        rig.platform.release(theirs);
        nest.end(None);
        rig.assert_clean();
    }
}

#[test]
fn a_device_that_could_not_be_checked_is_not_turned_on() {
    let unchecked = BackendError::Unchecked(device(LIAR));
    for (config, mode, has) in [
        (Config::scalable_with_ats(), ModeRequest::SecondStage, false),
        (checking(), ModeRequest::Legacy, false),
        (checking(), ModeRequest::SecondStage, true),
    ] {
        let rig = start(config, mode, Freedom::Pessimist(1));
        let said = rig.driver.capabilities(device(LIAR)).expect("a unit");
        assert_eq!(said.host_permissions, has);
        let made = rig
            .driver
            .create_checked(device(LIAR), TableFormat::SecondStage4);
        if !has {
            assert_eq!(made, Err(unchecked));
            assert_eq!(enable(&rig), Err(unchecked.into()));
            assert_eq!(rig.taken(), 0);
            continue;
        }
        let checked = made.expect("the unit has host permission tables");
        // What it leads to must be noted.
        let plain = rig.domain(LIAR, TableFormat::SecondStage4);
        rig.attach(LIAR, None, plain);
        assert_eq!(enable(&rig), Err(unchecked.into()));
        let request = Request::read(LIAR, 0x7000).translated();
        rig.assert_blocked(&request);
        rig.attach(LIAR, None, checked);
        assert_eq!(enable(&rig), Ok(()));
        // And so it stays.
        for to in [Attachment::Domain(plain), Attachment::PassThrough] {
            let refused = rig.driver.replace(slot(LIAR, None), to);
            assert_eq!(refused.map(drop), Err(unchecked));
        }
        disable(&rig);
        rig.attach(LIAR, None, plain);
        rig.assert_clean();
    }
}

#[test]
fn a_unit_without_such_tables_can_use_a_checked_domain_as_any_other() {
    let plan = Plan {
        units: vec![checking(), Config::scalable()],
        ..Plan::new(checking())
    };
    let rig = plan
        .mode(ModeRequest::SecondStage)
        .ats_device(LIAR, 0, Promptness::Prompt)
        .device(ONE, 1)
        .start();
    rig.assign(ONE, 1);
    rig.assign(LIAR, 1);
    let domain = domain(&rig, TableFormat::SecondStage4);
    rig.attach(ONE, None, domain);
    enable(&rig).expect("everything is checked");
    let page = rig.page(1);
    rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
    rig.assert_reaches(&crate::rig::write(ONE, 0x7000), page.hpa());
    assert_eq!(claim(&rig, page.hpa(), Wants::Write), None);
    rig.unmap(domain, 0x7000, 1);
    rig.assert_blocked(&crate::rig::write(ONE, 0x7000));
    assert_eq!(claim(&rig, page.hpa(), Wants::Write), NO_WRITE);
    rig.detach(ONE, None);
    rig.assert_clean();
    end(&rig, domain, [page]);
}

#[test]
fn a_failed_allocation_permits_nothing() {
    for n in 1.. {
        let rig = start(checking(), ModeRequest::SecondStage, Freedom::Pessimist(1));
        rig.assign(LIAR, 1);
        let domain = domain(&rig, TableFormat::SecondStage4);
        enable(&rig).expect("everything is checked");
        let page = rig.page(1);
        let before = rig.taken();
        rig.platform.arena().fail_allocation(n);
        let run = Run {
            hpa: page.hpa(),
            pages: 1,
        };
        let mapped = rig
            .driver
            .map(domain, Iova::new(0x7000), &[run], Access::READ_WRITE);
        let succeeded = rig.platform.arena().failure_is_pending();
        rig.platform.arena().fail_allocation(0);
        if succeeded {
            rig.settle(mapped.expect("there is memory"));
            assert_eq!(claim(&rig, page.hpa(), Wants::Write), None);
            assert_eq!(n, 8, "three tables, three of permissions, counters");
            rig.assert_clean();
            return;
        }
        assert!(matches!(mapped, Err(MapError::OutOfFrames(_))));
        assert_eq!(rig.taken(), before, "allocation {n}");
        assert_eq!(claim(&rig, page.hpa(), Wants::Write), NO_WRITE);
        rig.map(domain, 0x7000, page.hpa(), Access::READ);
        assert_eq!(claim(&rig, page.hpa(), Wants::Read), None);
        rig.assert_clean();
    }
}

#[test]
fn permissions_agree_with_the_mappings_whatever_comes() {
    for seed in 0..6 {
        let freedom = if seed & 1 == 0 {
            Freedom::Pessimist(seed)
        } else {
            Freedom::Random(seed)
        };
        let rig = start(checking(), ModeRequest::SecondStage, freedom);
        rig.assign(LIAR, 1);
        let domain = domain(&rig, TableFormat::SecondStage4);
        enable(&rig).expect("everything is checked");
        let mut random = fastrand::Rng::with_seed(seed);
        let frames: Vec<Frame> = (0..6).map(|_| rig.page(1)).collect();
        let mut mapped: BTreeMap<u64, (usize, Access)> = BTreeMap::new();
        for _ in 0..60 {
            let at = 0x7000 + random.u64(0..12) * 0x1000;
            if mapped.remove(&at).is_some() {
                let pages = random.u64(1..4);
                for page in 0..pages {
                    mapped.remove(&(at + page * 0x1000));
                }
                rig.unmap(domain, at, pages);
            } else {
                let (frame, access) = (
                    random.usize(0..6),
                    *random
                        .choice([Access::READ, Access::WRITE, Access::READ_WRITE].iter())
                        .expect("three"),
                );
                rig.map(domain, at, frames[frame].hpa(), access);
                mapped.insert(at, (frame, access));
            }
            for (index, frame) in frames.iter().enumerate() {
                let allowed = |right: fn(Access) -> bool| {
                    mapped
                        .values()
                        .any(|&(of, access)| of == index && right(access))
                };
                let reads = claim(&rig, frame.hpa(), Wants::Read).is_none();
                let writes = claim(&rig, frame.hpa(), Wants::Write).is_none();
                assert_eq!(reads, allowed(Access::reads), "page {index}");
                assert_eq!(writes, allowed(Access::writes), "page {index}");
            }
        }
        rig.unmap(domain, 0x7000, range(0x7000, 20).pages());
        rig.assert_clean();
        end(&rig, domain, frames);
    }
}
