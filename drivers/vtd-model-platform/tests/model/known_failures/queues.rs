//! Queues that never ended, and devices that were not there any more.

use crate::device_tlbs::{CACHING, access, cases, enable, plan};
use crate::rig::{FREEDOMS, ONE, device, range, read, slot};
use iommu_core::{Access, Attachment, Backend, FlushError, Nanoseconds, Platform};
use vtd_model::Promptness;

#[test]
fn cve_2024_26891_a_device_that_is_gone_ends_nobodys_wait() {
    for case in cases() {
        for freedom in FREEDOMS {
            let rig = plan(&case, freedom, Promptness::Never).start();
            let domain = rig.domain(CACHING, case.format);
            rig.attach(CACHING, case.pasid, domain);
            enable(&rig, false);
            let page = rig.page(1);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            let before = rig.platform.now();
            let mut batch = rig.batch();
            let owed = rig.driver.unmap(domain, range(0x7000, 1));
            batch.add(owed.expect("unmapped")).expect("room");
            let ended = rig.driver.commit(&mut batch).map(drop);
            assert_eq!(ended, Err(FlushError::DeviceTimedOut(device(CACHING))));
            assert!(rig.platform.now().since(before) < Nanoseconds::from_millis(5_000));
            // It is cut off: whatever its cache holds, it gets nowhere with it.
            let outcome = access(&rig, &case, 0x7000);
            assert_eq!(outcome.address(), None);
            rig.platform.release(page);
            crate::rig::assert_clean(&rig.platform);
        }
    }
}

#[test]
fn cve_2026_43130_a_device_that_is_gone_is_waited_for_once() {
    for case in cases() {
        for freedom in FREEDOMS {
            let rig = plan(&case, freedom, Promptness::Never).start();
            let domain = rig.domain(CACHING, case.format);
            rig.attach(CACHING, case.pasid, domain);
            rig.attach(ONE, None, domain);
            enable(&rig, false);
            let page = rig.page(1);
            let mut spans = Vec::new();
            for _ in 0..6 {
                rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
                let before = rig.platform.now();
                let mut batch = rig.batch();
                let owed = rig.driver.unmap(domain, range(0x7000, 1));
                batch.add(owed.expect("unmapped")).expect("room");
                let ended = rig.driver.commit(&mut batch);
                spans.push(rig.platform.now().since(before));
                assert_eq!(ended.is_err(), spans.len() == 1, "{ended:?}");
                rig.assert_blocked(&read(ONE, 0x7000));
            }
            // The first paid for finding out, nobody else does.
            let later = spans.iter().skip(1).max().expect("five");
            assert!(later.0 * 4 < spans[0].0, "{spans:?}");
            crate::rig::assert_clean(&rig.platform);
        }
    }
}

#[test]
fn xsa_373_a_completion_that_comes_late_confirms_nothing_else() {
    for case in cases() {
        for freedom in FREEDOMS {
            // It answers after the driver has given up.
            let mut plan = plan(&case, freedom, Promptness::Late(2_000));
            plan.limits.flush = Nanoseconds::from_micros(300);
            let rig = plan.start();
            rig.assign(CACHING, 1);
            let domain = rig.domain(CACHING, case.format);
            rig.attach(CACHING, case.pasid, domain);
            enable(&rig, false);
            let mut given_up = 0;
            let mut kept = Vec::new();
            for round in 0..12 {
                let page = rig.page(1);
                let run = iommu_core::Run {
                    hpa: page.hpa(),
                    pages: 1,
                };
                let at = iommu_core::Iova::new(0x7000 + round * 0x1000);
                let mut batch = rig.batch();
                let owed = rig.driver.map(domain, at, &[run], Access::READ_WRITE);
                batch.add(owed.expect("mapped")).expect("room");
                let _ = rig.driver.commit(&mut batch);
                let _ = access(&rig, &case, at.as_u64());
                let owed = rig.driver.unmap(domain, range(at.as_u64(), 1));
                batch.add(owed.expect("unmapped")).expect("room");
                match rig.driver.commit(&mut batch) {
                    // Confirmed: then it is true, whatever was given up before.
                    Ok(flushed) => {
                        rig.release(flushed);
                        rig.platform.release(page);
                    }
                    Err(_) => {
                        given_up += 1;
                        kept.push(page);
                    }
                }
                rig.with(|machine| machine.settle(round * 200));
            }
            assert!(given_up > 0);
            crate::rig::assert_clean(&rig.platform);
            let blocked = rig
                .driver
                .replace(slot(CACHING, case.pasid), Attachment::Blocked);
            drop(blocked);
        }
    }
}
