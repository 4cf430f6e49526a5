//! Devices that cache translations themselves, and those that ask for pages.

use crate::rig::{FREEDOMS, ONE, OTHER, Plan, Rig, device, read, slot};
use iommu_core::{
    Access, Attachment, Backend, FlushError, Iova, PageResponse, Platform, ResponseCode, SourceId,
    TableFormat,
};
use vtd::{DeviceTlb, ModeRequest, PageRequestConfig};
use vtd_model::{Access as Wants, Config, Freedom, Outcome, PageRequest, Promptness, Request};

/// A function with a device-TLB.
pub(crate) const CACHING: u16 = 0x0420;

pub(crate) struct Case {
    config: Config,
    mode: ModeRequest,
    pub(crate) format: TableFormat,
    pub(crate) pasid: Option<u32>,
}

pub(crate) fn cases() -> Vec<Case> {
    let case = |config: &Config, mode, format, pasid| Case {
        config: config.clone(),
        mode,
        format,
        pasid,
    };
    let legacy = Config {
        device_tlb: true,
        ..Config::legacy()
    };
    let scalable = Config::scalable_with_ats();
    let (first, second) = (TableFormat::FirstStage4, TableFormat::SecondStage4);
    vec![
        case(&legacy, ModeRequest::Legacy, second, None),
        case(&scalable, ModeRequest::SecondStage, second, None),
        case(&scalable, ModeRequest::FirstStage, first, None),
        case(&scalable, ModeRequest::SecondStage, second, Some(5)),
        case(&scalable, ModeRequest::FirstStage, first, Some(5)),
        case(
            &Config::everything(),
            ModeRequest::FirstStage,
            first,
            Some(5),
        ),
        case(
            &Config::everything(),
            ModeRequest::SecondStage,
            second,
            None,
        ),
    ]
}

pub(crate) fn plan(case: &Case, freedom: Freedom, promptness: Promptness) -> Plan {
    Plan {
        page_requests: Some(PageRequestConfig {
            pages_log2: 0,
            message: None,
        }),
        ..Plan::new(case.config.clone())
            .mode(case.mode)
            .freedom(freedom)
            .ats_device(CACHING, 0, promptness)
    }
}

pub(crate) fn each(promptness: Promptness, mut test: impl FnMut(&Rig, &Case)) {
    for case in cases() {
        for freedom in FREEDOMS {
            eprintln!(
                "{:?} {:?} {:?} {freedom:?}",
                case.mode, case.format, case.pasid
            );
            let rig = plan(&case, freedom, promptness).start();
            rig.assign(CACHING, 1);
            test(&rig, &case);
            crate::rig::assert_clean(&rig.platform);
        }
    }
}

pub(crate) fn enable(rig: &Rig, page_requests: bool) {
    enable_of(rig, CACHING, page_requests);
}

fn enable_of(rig: &Rig, source: u16, page_requests: bool) {
    let settings = DeviceTlb {
        queue_depth: 0,
        physical_function: SourceId::from_bits(source),
        page_requests,
    };
    rig.driver
        .enable_device_tlb(device(source), settings, || Ok::<(), ()>(()))
        .expect("the unit has device-TLBs");
}

pub(crate) fn access(rig: &Rig, case: &Case, address: u64) -> Outcome {
    rig.with(|machine| machine.ats_access(CACHING, case.pasid, address, Wants::Write))
}

#[test]
fn what_a_device_has_cached_is_forgotten_with_the_flush() {
    for promptness in [Promptness::Prompt, Promptness::Late(20)] {
        each(promptness, |rig, case| {
            let domain = rig.domain(CACHING, case.format);
            rig.attach(CACHING, case.pasid, domain);
            enable(rig, false);
            let [gone, kept] = [(); 2].map(|()| rig.page(1));
            rig.map(domain, 0x7000, gone.hpa(), Access::READ_WRITE);
            rig.map(domain, 0x8000, kept.hpa(), Access::READ_WRITE);
            for (page, at) in [(&gone, 0x7000), (&kept, 0x8000)] {
                assert_eq!(access(rig, case, at).address(), Some(page.hpa().as_u64()));
            }
            rig.unmap(domain, 0x7000, 1);
            rig.platform.release(gone);
            assert_eq!(access(rig, case, 0x7000).address(), None);
            assert_eq!(
                access(rig, case, 0x8000).address(),
                Some(kept.hpa().as_u64())
            );
            rig.detach(CACHING, case.pasid);
            rig.platform.release(kept);
            assert_eq!(access(rig, case, 0x8000).address(), None);
            rig.destroy(domain);
            rig.faults();
        });
    }
}

#[test]
fn each_page_of_a_range_is_forgotten_by_the_device_too() {
    each(Promptness::Prompt, |rig, case| {
        let domain = rig.domain(CACHING, case.format);
        rig.attach(CACHING, case.pasid, domain);
        enable(rig, false);
        let page = rig.page(1);
        let places = (0..11).map(|place| 0x1_0000 + (place << 12));
        for at in places.clone() {
            rig.map(domain, at, page.hpa(), Access::READ_WRITE);
            assert_eq!(access(rig, case, at).address(), Some(page.hpa().as_u64()));
        }
        rig.unmap(domain, 0x1_0000, 11);
        rig.platform.release(page);
        for at in places {
            assert_eq!(access(rig, case, at).address(), None);
        }
        rig.faults();
    });
}

#[test]
fn a_replaced_domain_is_forgotten_by_the_device_too() {
    each(Promptness::Prompt, |rig, case| {
        let [old, new] = [(); 2].map(|()| rig.domain(CACHING, case.format));
        let [first, second] = [(); 2].map(|()| rig.page(1));
        rig.map(old, 0x7000, first.hpa(), Access::READ_WRITE);
        rig.map(new, 0x7000, second.hpa(), Access::READ_WRITE);
        rig.attach(CACHING, case.pasid, old);
        enable(rig, false);
        assert_eq!(
            access(rig, case, 0x7000).address(),
            Some(first.hpa().as_u64())
        );
        rig.attach(CACHING, case.pasid, new);
        rig.platform.release(first);
        assert_eq!(
            access(rig, case, 0x7000).address(),
            Some(second.hpa().as_u64())
        );
        rig.destroy(old);
    });
}

#[test]
fn translated_requests_are_refused_before_and_after() {
    each(Promptness::Prompt, |rig, case| {
        let domain = rig.domain(CACHING, case.format);
        rig.attach(CACHING, case.pasid, domain);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        let translated = read(CACHING, page.hpa().as_u64()).translated();
        rig.assert_blocked(&translated);
        enable(rig, false);
        rig.assert_reaches(&translated, page.hpa());
        rig.assert_blocked(&Request {
            source: OTHER,
            ..translated
        });
        rig.driver
            .disable_device_tlb(device(CACHING), || Ok::<(), ()>(()))
            .expect("it answers");
        rig.assert_blocked(&translated);
        // Untranslated ones still pass.
        rig.assert_reaches(
            &Request {
                pasid: case.pasid,
                ..read(CACHING, 0x7000)
            },
            page.hpa(),
        );
        rig.faults();
    });
}

#[test]
fn a_device_that_does_not_answer_is_cut_off_and_the_others_go_on() {
    each(Promptness::Never, |rig, case| {
        let domain = rig.domain(CACHING, case.format);
        rig.attach(CACHING, case.pasid, domain);
        rig.attach(ONE, None, domain);
        enable(rig, false);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        access(rig, case, 0x7000);
        let mut batch = rig.batch();
        let owed = rig.driver.unmap(domain, crate::rig::range(0x7000, 1));
        batch.add(owed.expect("unmapped")).expect("room");
        assert_eq!(
            rig.driver.commit(&mut batch).map(drop),
            Err(FlushError::DeviceTimedOut(device(CACHING)))
        );
        // Its own cache still has the page, so its translated requests must not pass.
        assert_eq!(access(rig, case, 0x7000).address(), None);
        rig.assert_blocked(&read(CACHING, page.hpa().as_u64()).translated());
        let other = rig.page(1);
        rig.map(domain, 0x9000, other.hpa(), Access::READ_WRITE);
        rig.assert_reaches(&read(ONE, 0x9000), other.hpa());
        rig.unmap(domain, 0x9000, 1);
        rig.platform.release(other);
        rig.assert_blocked(&read(ONE, 0x9000));
        rig.faults();
    });
}

#[test]
fn a_device_that_still_answers_when_another_is_given_up_is_told_again() {
    const LATE: u16 = 0x0428;
    for case in cases() {
        for freedom in FREEDOMS {
            eprintln!("{:?} {:?} {:?}", case.mode, case.pasid, freedom);
            let rig = plan(&case, freedom, Promptness::Never)
                .ats_device(LATE, 0, Promptness::Late(20))
                .start();
            let domain = rig.domain(CACHING, case.format);
            for source in [LATE, CACHING] {
                rig.assign(source, 1);
                rig.attach(source, case.pasid, domain);
                enable_of(&rig, source, false);
            }
            let page = rig.page(1);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            let reached = |source| {
                let reach = |machine: &mut vtd_model::Machine| {
                    machine.ats_access(source, case.pasid, 0x7000, Wants::Write)
                };
                rig.with(reach).address()
            };
            for source in [LATE, CACHING] {
                assert_eq!(reached(source), Some(page.hpa().as_u64()));
            }
            let mut batch = rig.batch();
            let owed = rig.driver.unmap(domain, crate::rig::range(0x7000, 1));
            batch.add(owed.expect("unmapped")).expect("room");
            assert_eq!(
                rig.driver.commit(&mut batch).map(drop),
                Err(FlushError::DeviceTimedOut(device(CACHING)))
            );
            assert_eq!(reached(LATE), None, "it was told again");
            rig.faults();
        }
    }
}

#[test]
fn page_requests_reach_the_driver_and_are_answered_once_a_group() {
    each(Promptness::Prompt, |rig, case| {
        if case.mode == ModeRequest::Legacy {
            return;
        }
        let domain = rig.domain(CACHING, case.format);
        rig.attach(CACHING, case.pasid, domain);
        enable(rig, true);
        for group in [3, 4] {
            for (page, last) in [(0x7000, false), (0x8000, true)] {
                let request = PageRequest {
                    source: CACHING,
                    pasid: case.pasid,
                    address: page,
                    read: true,
                    write: last,
                    execute: false,
                    privileged: false,
                    group,
                    last,
                };
                rig.with(|machine| machine.page_request(&request));
            }
        }
        rig.with(|machine| machine.settle(50));
        let mut asked = Vec::new();
        rig.driver
            .drain_page_requests(&mut |request| asked.push(*request));
        assert_eq!(asked.len(), 4, "{asked:?}");
        for (request, (group, page, last)) in asked.iter().zip([
            (3, 0x7000, false),
            (3, 0x8000, true),
            (4, 0x7000, false),
            (4, 0x8000, true),
        ]) {
            assert_eq!(request.slot, slot(CACHING, case.pasid));
            assert_eq!((request.group, request.last), (group, last));
            assert_eq!(request.address, Iova::new(page));
            let wants = if last {
                Access::READ_WRITE
            } else {
                Access::READ
            };
            assert_eq!(request.access, wants);
        }
        for (group, code) in [
            (3, ResponseCode::Success),
            (4, ResponseCode::InvalidRequest),
        ] {
            let response = PageResponse {
                slot: slot(CACHING, case.pasid),
                group,
                code,
            };
            rig.driver.respond(&response).expect("answered");
        }
        rig.with(|machine| machine.settle(50));
        let answers = rig.with(vtd_model::Machine::take_responses);
        let told: Vec<(u16, u8, Option<u32>, bool)> = answers
            .iter()
            .map(|answer| (answer.group, answer.code, answer.pasid, answer.automatic))
            .collect();
        assert_eq!(told, [(3, 0, case.pasid, false), (4, 1, case.pasid, false)]);
    });
}

#[test]
fn what_a_device_asked_for_has_arrived_when_the_device_has_left() {
    each(Promptness::Prompt, |rig, case| {
        if case.mode == ModeRequest::Legacy || !case.config.page_request_drain {
            return;
        }
        let domain = rig.domain(CACHING, case.format);
        rig.attach(CACHING, case.pasid, domain);
        enable(rig, true);
        for group in 0..6 {
            let request = PageRequest {
                source: CACHING,
                pasid: case.pasid,
                address: 0x7000,
                read: true,
                write: false,
                execute: false,
                privileged: false,
                group,
                last: true,
            };
            rig.with(|machine| machine.page_request(&request));
        }
        // Nothing that comes later is of before.
        rig.detach(CACHING, case.pasid);
        let mut groups = Vec::new();
        rig.driver
            .drain_page_requests(&mut |request| groups.push(request.group));
        assert_eq!(groups, [0, 1, 2, 3, 4, 5]);
        rig.destroy(domain);
    });
}

#[test]
fn more_page_requests_than_the_queue_holds_are_answered_all_the_same() {
    each(Promptness::Prompt, |rig, case| {
        if case.mode == ModeRequest::Legacy {
            return;
        }
        let domain = rig.domain(CACHING, case.format);
        rig.attach(CACHING, case.pasid, domain);
        enable(rig, true);
        for group in 0..200 {
            let request = PageRequest {
                source: CACHING,
                pasid: case.pasid,
                address: 0x7000,
                read: true,
                write: false,
                execute: false,
                privileged: false,
                group,
                last: true,
            };
            rig.with(|machine| machine.page_request(&request));
            rig.with(|machine| machine.tick());
        }
        rig.with(|machine| machine.settle(500));
        let mut groups = Vec::new();
        rig.driver
            .drain_page_requests(&mut |request| groups.push(request.group));
        for &group in &groups {
            let response = PageResponse {
                slot: slot(CACHING, case.pasid),
                group,
                code: ResponseCode::Success,
            };
            rig.driver.respond(&response).expect("answered");
        }
        rig.with(|machine| machine.settle(500));
        // Those that had no room were answered by the unit (§7.4.1).
        let answers = rig.with(vtd_model::Machine::take_responses);
        let mut answered: Vec<u16> = answers.iter().map(|answer| answer.group).collect();
        answered.sort_unstable();
        assert_eq!(answered, (0..200).collect::<Vec<_>>());
        // And it takes more now.
        let again = PageRequest {
            source: CACHING,
            pasid: case.pasid,
            address: 0x9000,
            read: true,
            write: false,
            execute: false,
            privileged: false,
            group: 300,
            last: true,
        };
        rig.with(|machine| machine.page_request(&again));
        rig.with(|machine| machine.settle(50));
        let mut groups = Vec::new();
        rig.driver
            .drain_page_requests(&mut |request| groups.push(request.group));
        assert_eq!(groups, [300]);
    });
}

#[test]
fn a_unit_without_device_tlbs_refuses_one() {
    let rig = Plan::new(Config::scalable()).start();
    let settings = DeviceTlb {
        queue_depth: 0,
        physical_function: SourceId::from_bits(ONE),
        page_requests: false,
    };
    let refused = rig
        .driver
        .enable_device_tlb(device(ONE), settings, || Ok::<(), ()>(()));
    assert!(refused.is_err());
    rig.lead(ONE, None, Attachment::Blocked);
    rig.assert_clean();
}

/// A function with the capabilities of such a device, as configuration space shows it.
fn function_with_services() -> pci::fake::Machine {
    let machine = pci::fake::Machine::new();
    machine.root_port(0, 1, 0, 4, 4);
    let source = SourceId::from_bits(CACHING);
    machine
        .express(source.bus(), source.device(), source.function(), 0)
        .translation_services(0x180);
    machine
}

#[test]
fn the_unit_accepts_a_devices_translations_before_the_device_is_told_and_until_it_stopped() {
    each(Promptness::Prompt, |rig, case| {
        let registers = function_with_services();
        let topology = pci::fake::scanned(&registers);
        let function = topology.function(device(CACHING)).expect("it is there");
        let services = pci::TranslationServices::of(function);
        let domain = rig.domain(CACHING, case.format);
        rig.attach(CACHING, case.pasid, domain);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        let accepted = || access(rig, case, 0x7000).address() == Some(page.hpa().as_u64());
        assert!(!services.are_on(&registers));
        assert!(!accepted(), "nobody has allowed it");
        rig.faults();
        let settings = DeviceTlb {
            queue_depth: services.capability(&registers).expect("ATS").queue_depth,
            physical_function: SourceId::from_bits(CACHING),
            page_requests: false,
        };
        assert_eq!(settings.queue_depth, 5);
        let wanted = pci::AtsSettings {
            pasid: case.pasid.is_some(),
            page_requests: None,
        };
        rig.driver
            .enable_device_tlb(device(CACHING), settings, || {
                assert!(accepted(), "the unit comes first");
                services.turn_on(&registers, &wanted)
            })
            .expect("both do it");
        assert!(services.are_on(&registers) && accepted());
        rig.driver
            .disable_device_tlb(device(CACHING), || {
                assert!(accepted(), "the device comes first");
                services.turn_off(&registers, &pci::fake::Time::default())
            })
            .expect("both do it");
        assert!(!services.are_on(&registers));
        assert!(
            !accepted(),
            "what it says is translated is not believed any more"
        );
        rig.faults();
    });
}

#[test]
fn a_device_that_is_not_told_so_finds_the_unit_as_it_was() {
    each(Promptness::Prompt, |rig, case| {
        // On already: its register refuses.
        let registers = function_with_services();
        registers.builder(device(CACHING)).raw(0x184, 1 << 31);
        let topology = pci::fake::scanned(&registers);
        let function = topology.function(device(CACHING)).expect("it is there");
        let services = pci::TranslationServices::of(function);
        let domain = rig.domain(CACHING, case.format);
        rig.attach(CACHING, case.pasid, domain);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        let settings = DeviceTlb {
            queue_depth: 0,
            physical_function: SourceId::from_bits(CACHING),
            page_requests: false,
        };
        let turned_on = rig.driver.enable_device_tlb(device(CACHING), settings, || {
            services.turn_on(&registers, &pci::AtsSettings::default())
        });
        assert!(turned_on.is_err());
        assert_eq!(access(rig, case, 0x7000).address(), None);
        rig.faults();
    });
}
