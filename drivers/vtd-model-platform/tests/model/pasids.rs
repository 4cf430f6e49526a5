//! PASIDs of a device, each with translations of its own.

use crate::rig::{FREEDOMS, ONE, OTHER, Plan, Rig, read, slot};
use iommu_core::{Access, Attachment, Backend, FaultReason, Platform, TableFormat};
use vtd::ModeRequest;
use vtd_model::{Config, Freedom, Request};

const FORMATS: [TableFormat; 2] = [TableFormat::FirstStage4, TableFormat::SecondStage4];

fn each(mut test: impl FnMut(&Rig)) {
    let configs = [
        Config::scalable(),
        Config::scalable().with_caching_mode(),
        Config::scalable().non_coherent(),
        Config::everything(),
    ];
    for config in configs {
        for freedom in FREEDOMS {
            let rig = Plan::new(config.clone()).freedom(freedom).start();
            test(&rig);
            rig.assert_clean();
        }
    }
}

fn request(pasid: Option<u32>) -> Request {
    Request {
        pasid,
        ..read(ONE, 0x7000)
    }
}

/// Small, at both ends of a directory page, and beyond the small directory.
const PASIDS: [Option<u32>; 6] = [
    None,
    Some(1),
    Some(63),
    Some(64),
    Some(0x7fff),
    Some(0xf_ffff),
];

#[test]
fn each_pasid_has_translations_of_its_own() {
    each(|rig| {
        rig.assign(ONE, 1);
        for format in FORMATS {
            let all: Vec<_> = PASIDS
                .iter()
                .map(|&pasid| {
                    let page = rig.page(1);
                    let domain = rig.domain(ONE, format);
                    rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
                    rig.attach(ONE, pasid, domain);
                    (pasid, page, domain)
                })
                .collect();
            for (pasid, page, _) in &all {
                rig.assert_reaches(&request(*pasid), page.hpa());
                rig.assert_blocked(&Request {
                    source: OTHER,
                    ..request(*pasid)
                });
            }
            rig.assert_blocked(&request(Some(2)));
            for (pasid, page, domain) in all {
                rig.detach(ONE, pasid);
                rig.platform.release(page);
                rig.assert_blocked(&request(pasid));
                rig.destroy(domain);
            }
        }
    });
}

#[test]
fn a_pasid_that_is_given_back_leads_nowhere_and_leaves_its_neighbours() {
    each(|rig| {
        rig.assign(ONE, 1);
        for format in FORMATS {
            let [gone, kept] = [Some(7), Some(8)].map(|pasid| {
                let page = rig.page(1);
                let domain = rig.domain(ONE, format);
                rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
                rig.attach(ONE, pasid, domain);
                (pasid, page, domain)
            });
            let at = kept.1.hpa().as_u64();
            rig.with(|machine| machine.expect(ONE, kept.0, 0x7000, 0x1000, at, true));
            rig.detach(ONE, gone.0);
            rig.platform.release(gone.1);
            rig.destroy(gone.2);
            rig.assert_blocked(&request(gone.0));
            rig.assert_reaches(&request(kept.0), kept.1.hpa());
            rig.with(|machine| machine.release(ONE, kept.0, 0x7000, 0x1000));
            rig.detach(ONE, kept.0);
            rig.platform.release(kept.1);
            rig.destroy(kept.2);
        }
    });
}

#[test]
fn a_request_with_a_pasid_that_nobody_attached_faults_with_that_pasid() {
    for freedom in FREEDOMS {
        let rig = Plan::new(Config::scalable()).freedom(freedom).start();
        let domain = rig.domain(ONE, TableFormat::FirstStage4);
        rig.attach(ONE, Some(7), domain);
        // In the same table, and in one that is not there.
        rig.assert_faults(&request(Some(8)), FaultReason::PASID_NOT_PRESENT);
        rig.assert_faults(
            &request(Some(100)),
            FaultReason::PASID_DIRECTORY_NOT_PRESENT,
        );
        rig.assert_faults(
            &Request {
                address: 0x7000,
                ..request(Some(7))
            },
            FaultReason::FIRST_STAGE_NOT_PRESENT,
        );
        rig.assert_clean();
    }
}

#[test]
fn the_directory_grows_without_a_gap_for_those_in_it() {
    each(|rig| {
        let [small, large] = [(); 2].map(|()| rig.page(1));
        let [first, second] = [(); 2].map(|()| rig.domain(ONE, TableFormat::SecondStage4));
        rig.map(first, 0x7000, small.hpa(), Access::READ_WRITE);
        rig.map(second, 0x7000, large.hpa(), Access::READ_WRITE);
        rig.attach(ONE, Some(7), first);
        let at = small.hpa().as_u64();
        rig.with(|machine| machine.expect(ONE, Some(7), 0x7000, 0x1000, at, true));
        rig.attach(ONE, Some(0x8000), second);
        rig.assert_reaches(&request(Some(0x8000)), large.hpa());
        rig.assert_reaches(&request(Some(7)), small.hpa());
    });
}

#[test]
fn legacy_mode_has_no_pasids() {
    let rig = Plan::new(Config::scalable())
        .mode(ModeRequest::Legacy)
        .freedom(Freedom::Random(9))
        .start();
    let domain = rig.domain(ONE, TableFormat::SecondStage4);
    let to = Attachment::Domain(domain);
    assert!(rig.driver.replace(slot(ONE, Some(7)), to).is_err());
    rig.attach(ONE, None, domain);
    rig.assert_faults(&request(Some(7)), FaultReason::PASID_IN_LEGACY_MODE);
    rig.assert_clean();
}

#[test]
fn two_pasids_of_one_domain_are_both_told_of_a_change() {
    each(|rig| {
        rig.assign(ONE, 1);
        for format in FORMATS {
            let pasids = [Some(7), Some(8)];
            let (domain, page) = (rig.domain(ONE, format), rig.page(1));
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            for pasid in pasids {
                rig.attach(ONE, pasid, domain);
                rig.assert_reaches(&request(pasid), page.hpa());
            }
            rig.unmap(domain, 0x7000, 1);
            rig.platform.release(page);
            for pasid in pasids {
                rig.assert_blocked(&request(pasid));
                rig.detach(ONE, pasid);
            }
            rig.destroy(domain);
        }
    });
}
