//! Units that claim what does not work, and are not asked for it.

use crate::rig::{FREEDOMS, ONE, Plan, assert_reaches, device, read};
use iommu_core::{Access, Backend, Platform, Run, TableFormat};
use vtd::{BringUpError, Corrections, ModeRequest};
use vtd_model::Config;

fn plan(corrections: Corrections) -> Plan {
    Plan {
        corrections,
        ..Plan::new(Config::everything()).mode(ModeRequest::SecondStage)
    }
}

#[test]
fn superpages_that_do_not_work_are_not_built() {
    for no_second_stage_superpages in [false, true] {
        let rig = plan(Corrections {
            no_second_stage_superpages,
            ..Corrections::default()
        })
        .start();
        let capabilities = rig.driver.capabilities(device(ONE)).unwrap();
        assert_eq!(
            capabilities.second_stage_leaves.mib2,
            !no_second_stage_superpages
        );
        let domain = rig.domain(ONE, TableFormat::SecondStage4);
        let idle = rig.taken();
        let huge = 2 << 20;
        let run = Run {
            hpa: iommu_core::Hpa::new(huge),
            pages: 512,
        };
        rig.map_run(domain, huge, run, Access::READ_WRITE);
        // A table for 512 pages of 4 KiB, or none for one of 2 MiB.
        let tables = rig.taken() - idle;
        assert_eq!(tables, if no_second_stage_superpages { 3 } else { 2 });
        rig.unmap(domain, huge, 512);
        rig.destroy(domain);
    }
}

#[test]
fn nesting_that_does_not_work_is_not_offered() {
    for no_nesting in [false, true] {
        let rig = plan(Corrections {
            no_nesting,
            ..Corrections::default()
        })
        .start();
        let capabilities = rig.driver.capabilities(device(ONE)).unwrap();
        assert_eq!(capabilities.nested, !no_nesting);
    }
}

#[test]
fn interrupts_that_would_be_lost_are_not_remapped() {
    let corrections = Corrections {
        no_interrupt_remapping: true,
        ..Corrections::default()
    };
    let wanting = plan(corrections);
    let platform = wanting.platform();
    assert_eq!(
        wanting.prepare(&platform).err(),
        Some(BringUpError::NoInterruptRemapping { unit: 0 })
    );
    let without = Plan {
        interrupts: None,
        ..plan(corrections)
    };
    let rig = without.start();
    let capabilities = rig.driver.capabilities(device(ONE)).unwrap();
    assert!(!capabilities.interrupts_remapped);
}

#[test]
fn a_smaller_address_mask_forgets_as_much_by_more_descriptors() {
    let mut counts = Vec::new();
    for mask_limit in [None, Some(3)] {
        for freedom in FREEDOMS {
            let rig = Plan {
                corrections: Corrections {
                    mask_limit,
                    no_second_stage_superpages: true,
                    ..Corrections::default()
                },
                ..plan(Corrections::default()).freedom(freedom)
            }
            .start();
            let domain = rig.domain(ONE, TableFormat::SecondStage4);
            rig.assign(ONE, 1);
            rig.attach(ONE, None, domain);
            let page = rig.page(1);
            for place in 0..16 {
                rig.map(domain, 0x10_0000 + (place << 12), page.hpa(), Access::READ);
            }
            let first = read(ONE, 0x10_0000);
            assert_reaches(&rig.platform, &first, page.hpa());
            let owed = rig
                .driver
                .unmap(domain, crate::rig::range(0x10_0000, 16))
                .unwrap();
            let mut batch = rig.batch();
            batch.add(owed).unwrap();
            let flushed = rig.driver.commit(&mut batch).unwrap();
            counts.push(flushed.descriptors);
            rig.release(flushed);
            for place in 0..16 {
                rig.assert_blocked(&read(ONE, 0x10_0000 + (place << 12)));
            }
            rig.faults();
            rig.detach(ONE, None);
            rig.platform.release(page);
            rig.destroy(domain);
            rig.assert_clean();
        }
    }
    assert_eq!(counts[0], counts[1]);
    assert_eq!(
        counts[2],
        counts[0] + 1,
        "two blocks of 8 pages, not one of 16"
    );
}

#[test]
fn translation_that_must_stay_on_stays_on_and_that_is_said() {
    for keeps_translating in [false, true] {
        let rig = plan(Corrections {
            keeps_translating,
            ..Corrections::default()
        })
        .start();
        rig.assign(ONE, 1);
        let platform = rig.platform.clone();
        let domain = rig.domain(ONE, TableFormat::SecondStage4);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        rig.attach(ONE, None, domain);
        match rig.driver.shut_down() {
            Ok(()) => assert!(!keeps_translating),
            Err(failure) => {
                assert!(keeps_translating);
                assert_eq!(failure.error, BringUpError::KeepsTranslating { unit: 0 });
                // As if nothing had been asked.
                assert_reaches(&platform, &read(ONE, 0x7000), page.hpa());
            }
        }
        platform.release(page);
    }
}
