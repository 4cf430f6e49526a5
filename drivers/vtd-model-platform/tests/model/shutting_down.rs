//! Ends and pauses: nothing is left on, and nothing is lost.

use crate::rig::{FREEDOMS, ONE, OTHER, Plan, assert_blocked, assert_clean, assert_reaches, read};
use crate::units::{self, Kind};
use iommu_core::{Access, Attachment, Backend, Platform, Stage, TableFormat};

fn format_of(rig: &crate::rig::Rig) -> TableFormat {
    let capabilities = rig.driver.capabilities(crate::rig::device(ONE));
    let capabilities = capabilities.expect("a unit");
    TableFormat::ALL
        .into_iter()
        .filter(|&format| capabilities.supports(format))
        .max_by_key(|format| format.stage() == Stage::Second)
        .expect("a format")
}

#[test]
fn a_driver_that_is_shut_down_gives_all_memory_back() {
    for Kind { name, config, mode } in units::all() {
        for freedom in FREEDOMS {
            eprintln!("{name}, {freedom:?}");
            let rig = Plan::new(config.clone())
                .mode(mode)
                .freedom(freedom)
                .start();
            let domain = rig.domain(ONE, format_of(&rig));
            let page = rig.page(1);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            rig.attach(ONE, None, domain);
            rig.assert_reaches(&read(ONE, 0x7000), page.hpa());
            // A debt that nobody settles.
            drop(rig.driver.unmap(domain, crate::rig::range(0, 1 << 20)));
            let platform = rig.platform.clone();
            rig.driver.shut_down().expect("it ends");
            assert_clean(&platform);
            platform.release(page);
            assert_eq!(platform.arena().outstanding(), 0);
            // Off: requests pass untranslated, and another driver can begin.
            let passes = platform.with_machine(|machine| machine.request(&read(ONE, 0x5000)));
            assert_eq!(passes.address(), Some(0x5000));
            let again = Plan::new(config.clone()).mode(mode).start_on(platform);
            again.assert_blocked(&read(ONE, 0x7000));
        }
    }
}

#[test]
fn attachments_survive_a_suspension() {
    for Kind { name, config, mode } in units::all() {
        for freedom in FREEDOMS {
            eprintln!("{name}, {freedom:?}");
            let rig = Plan::new(config.clone())
                .mode(mode)
                .freedom(freedom)
                .start();
            let domain = rig.domain(ONE, format_of(&rig));
            let page = rig.page(1);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            rig.attach(ONE, None, domain);
            let platform = rig.platform.clone();
            let driver = rig.driver.suspend().expect("it pauses");
            let driver = driver.resume().expect("it wakes");
            let driver = driver.enable().expect("it translates again");
            assert_reaches(&platform, &read(ONE, 0x7000), page.hpa());
            assert_blocked(&platform, &read(ONE, 0x8000));
            assert_blocked(&platform, &read(OTHER, 0x7000));
            // And its queue works.
            let rig = crate::rig::Rig::new(platform, driver);
            rig.unmap(domain, 0x7000, 1);
            rig.platform.release(page);
            rig.lead(ONE, None, Attachment::Blocked);
            rig.destroy(domain);
            rig.assert_blocked(&read(ONE, 0x7000));
            rig.assert_clean();
        }
    }
}
