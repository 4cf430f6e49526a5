//! Units that somebody used before: firmware, or a kernel that crashed.

use crate::rig::{
    FREEDOMS, ONE, OTHER, Plan, Rig, assert_blocked, assert_clean, device, read, slot, write,
};
use iommu_core::{
    Access, Attachment, Backend, Batch, DomainSpec, Iova, Mmio, Platform, Run, TableFormat,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vtd::{Event, ModeRequest};
use vtd_model::{Config, Freedom};
use vtd_model_platform::ModelMmio;

const GCMD: usize = 0x18;
const GSTS: usize = 0x1c;
const IQT: usize = 0x88;
const IQA: usize = 0x90;
const PMEN: usize = 0x64;
const IRTA: usize = 0xb8;

/// Modes between which the table mode changes, or not.
fn modes() -> [(Config, ModeRequest, ModeRequest); 5] {
    let live = Config {
        srtp_invalidates: true,
        ..Config::scalable()
    };
    [
        (Config::legacy(), ModeRequest::Legacy, ModeRequest::Legacy),
        (
            Config::scalable(),
            ModeRequest::FirstStage,
            ModeRequest::SecondStage,
        ),
        (
            Config::scalable(),
            ModeRequest::Legacy,
            ModeRequest::SecondStage,
        ),
        (live, ModeRequest::Legacy, ModeRequest::FirstStage),
        (
            Config::legacy().non_coherent(),
            ModeRequest::Legacy,
            ModeRequest::Legacy,
        ),
    ]
}

fn format_of(mode: ModeRequest) -> TableFormat {
    match mode {
        ModeRequest::FirstStage => TableFormat::FirstStage4,
        _ => TableFormat::SecondStage4,
    }
}

#[test]
fn a_device_that_does_dma_all_the_time_keeps_its_memory_while_tables_are_taken_over() {
    for (config, before, after) in modes() {
        for freedom in FREEDOMS {
            eprintln!("{before:?} to {after:?}, {freedom:?}");
            let first = Plan::new(config.clone())
                .mode(before)
                .freedom(freedom)
                .start();
            let domain = first.domain(ONE, format_of(before));
            first.attach(ONE, None, domain);
            // Nobody will know this one any more.
            first.attach(OTHER, None, domain);
            let region = first.page(1);
            first.map(domain, 0x7000, region.hpa(), Access::READ_WRITE);
            first.assert_reaches(&read(OTHER, 0x7000), region.hpa());
            // What only the first tables have.
            let old = first.page(1);
            first.map(domain, 0xb000, old.hpa(), Access::READ_WRITE);
            first.assert_reaches(&read(ONE, 0xb000), old.hpa());
            let platform = first.platform.clone();
            let expected = region.hpa().as_u64();

            let plan = Plan::new(config.clone()).mode(after);
            let units = plan.prepare(&platform).expect("the unit comes up again");
            let window = units[0].needs_translation_window();
            assert_eq!(
                window,
                !config.srtp_invalidates
                    && (before == ModeRequest::Legacy) != (after == ModeRequest::Legacy)
            );
            let driver = plan.driver(&platform, units);
            let spec = DomainSpec::Paging(format_of(after));
            let domain = driver.create(device(ONE), &spec).expect("a domain");
            let run = Run {
                hpa: region.hpa(),
                pages: 1,
            };
            let mut batch = Batch::with_capacity(2).expect("room");
            let owed = driver.map(domain, Iova::new(0x7000), &[run], Access::READ_WRITE);
            batch.add(owed.expect("mapped")).expect("room");
            let replaced = driver.replace(slot(ONE, None), Attachment::Domain(domain));
            batch.add(replaced.expect("attached").owed).expect("room");
            assert!(
                driver
                    .commit(&mut batch)
                    .expect("flushed")
                    .frames
                    .is_empty()
            );
            drop(batch);
            platform.with_machine(|machine| {
                machine.settle(100);
                if !window {
                    machine.expect(ONE, None, 0x7000, 0x1000, expected, true);
                }
            });
            let driver = driver.enable().expect("translation stays on");
            platform.with_machine(|machine| {
                machine.sweep();
                let reached = machine.possible(&write(ONE, 0x7000));
                assert_eq!(reached.len(), 1);
                assert_eq!(reached[0].address(), Some(expected));
            });
            assert_blocked(&platform, &read(ONE, 0xb000));
            assert_blocked(&platform, &read(OTHER, 0x7000));
            assert_eq!(
                platform
                    .take_events()
                    .iter()
                    .any(|event| matches!(event, Event::TranslationWindow { .. })),
                window
            );
            assert_clean(&platform);
            drop(driver);
        }
    }
}

/// Both devices read 0x7000, each somewhere else, while one driver takes over from another.
/// Structures of a second stage are cached by domain id and address alone, so one id for
/// both drivers' tables would lead one device into the other's memory.
#[test]
fn tables_of_two_drivers_never_share_a_domain_id_while_both_may_be_cached() {
    for mode in [ModeRequest::Legacy, ModeRequest::SecondStage] {
        let plan = Plan::new(Config::scalable()).mode(mode);
        let first = plan.start();
        let pages = [first.page(1), first.page(2)];
        let sources = [OTHER, ONE];
        for (source, page) in sources.into_iter().zip(&pages) {
            let domain = first.domain(source, TableFormat::SecondStage4);
            first.attach(source, None, domain);
            first.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        }
        let mut platform = first.platform.clone();
        let mut before = first.driver;
        // The second driver's ids are taken over by a third.
        for generation in 0..2 {
            let units = plan.prepare(&platform).expect("the unit comes up again");
            let driver = plan.driver(&platform, units);
            // The other way round.
            for (source, page) in sources.into_iter().zip(&pages).rev() {
                take_along(&driver, source, page.hpa());
            }
            platform.with_machine(|machine| {
                machine.settle(100);
                for (source, page) in sources.into_iter().zip(&pages) {
                    machine.expect(source, None, 0x7000, 0x1000, page.hpa().as_u64(), true);
                }
            });
            let driver = driver.enable().expect("translation stays on");
            platform.with_machine(|machine| {
                machine.sweep();
                for source in sources {
                    machine.release(source, None, 0x7000, 0x1000);
                }
            });
            assert_clean(&platform);
            let all_read = |event: &Event| {
                matches!(
                    event,
                    Event::DomainIdsInUse {
                        count: 2,
                        complete: true,
                        ..
                    }
                )
            };
            assert!(platform.take_events().iter().any(all_read), "{generation}");
            platform = driver.platform().clone();
            drop(std::mem::replace(&mut before, driver));
        }
    }
}

/// Maps and attaches before translation is ours.
fn take_along(driver: &crate::rig::Driver<vtd::Preparing>, source: u16, hpa: iommu_core::Hpa) {
    let spec = DomainSpec::Paging(TableFormat::SecondStage4);
    let domain = driver.create(device(source), &spec).expect("a domain");
    let run = Run { hpa, pages: 1 };
    let mut batch = Batch::with_capacity(2).expect("room");
    let owed = driver.map(domain, Iova::new(0x7000), &[run], Access::READ_WRITE);
    batch.add(owed.expect("mapped")).expect("room");
    let replaced = driver.replace(slot(source, None), Attachment::Domain(domain));
    batch.add(replaced.expect("attached").owed).expect("room");
    assert!(
        driver
            .commit(&mut batch)
            .expect("flushed")
            .frames
            .is_empty()
    );
}

#[test]
fn a_queue_that_stands_still_with_an_error_is_replaced() {
    for freedom in FREEDOMS {
        let plan = Plan::new(Config::legacy()).freedom(freedom);
        let platform = plan.platform();
        let mmio = ModelMmio::new(&platform, 0);
        let queue = platform.allocate(iommu_core::Order::PAGE).expect("a page");
        // Type 0 is no descriptor (§6.5.2).
        mmio.write64(IQT, 0);
        mmio.write64(IQA, queue.hpa().as_u64());
        command(&mmio, 1 << 26, true);
        mmio.write64(IQT, 16);
        platform.with_machine(|machine| machine.settle(100));
        let state = plan.discover(&platform)[0].firmware_state();
        assert!(state.queue && state.queue_error);
        platform.take_violations();
        let units = plan.prepare(&platform).expect("the unit comes up");
        // A queue is stopped when it is empty and its last descriptor was a wait (§6.5.2).
        // This one never will be, and its memory is not ours to write to.
        let [violation] = &platform.take_violations()[..] else {
            panic!("one rule that cannot be kept");
        };
        assert!(violation.message.contains("QIE cleared"), "{violation}");
        let driver = plan.driver(&platform, units);
        let driver = driver.enable().expect("translation comes on");
        let rig = Rig::new(platform, driver);
        let domain = rig.domain(ONE, TableFormat::SecondStage4);
        rig.attach(ONE, None, domain);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        rig.assert_reaches(&read(ONE, 0x7000), page.hpa());
        rig.platform.release(queue);
        rig.assert_clean();
    }
}

/// Gives a command as firmware would.
fn command(mmio: &ModelMmio<Event>, bit: u32, on: bool) {
    let state = mmio.read32(GSTS) & 0x96ff_ffff;
    mmio.write32(GCMD, if on { state | bit } else { state & !bit });
    while (mmio.read32(GSTS) & bit != 0) != on {}
}

#[test]
fn compatibility_format_interrupts_that_firmware_let_through_are_blocked() {
    for freedom in FREEDOMS {
        let plan = Plan::new(Config::legacy()).freedom(freedom);
        let platform = plan.platform();
        let mmio = ModelMmio::new(&platform, 0);
        let table = platform.allocate(iommu_core::Order::PAGE).expect("a page");
        mmio.write64(IRTA, table.hpa().as_u64() | 7);
        command(&mmio, 1 << 24, true);
        command(&mmio, 1 << 23, true);
        command(&mmio, 1 << 25, true);
        let sent = |platform: &crate::rig::Platform| {
            platform.with_machine(|machine| machine.interrupt(ONE, 0xfee0_0000, 0x41))
        };
        assert!(matches!(
            sent(&platform),
            vtd_model::InterruptOutcome::Delivered(_)
        ));
        assert_clean(&platform);
        let rig = plan.start_on(platform);
        assert!(matches!(
            sent(&rig.platform),
            vtd_model::InterruptOutcome::Blocked { .. }
        ));
        let [record] = rig.faults()[..] else { panic!() };
        assert_eq!(
            record.reason,
            iommu_core::FaultReason::COMPATIBILITY_BLOCKED
        );
        rig.platform.release(table);
        rig.assert_clean();
    }
}

#[test]
fn protected_memory_protects_until_translation_is_on() {
    for freedom in FREEDOMS {
        let plan = Plan::new(Config::legacy()).freedom(freedom);
        let platform = plan.platform();
        let page = platform.allocate(iommu_core::Order::PAGE).expect("a page");
        let mmio = ModelMmio::new(&platform, 0);
        // The whole of high memory (§11.4.8).
        mmio.write64(0x70, 0x1_0000_0000);
        mmio.write64(0x78, 0x3fff_ffff_ffff);
        mmio.write32(PMEN, 1 << 31);
        while mmio.read32(PMEN) & 1 == 0 {
            platform.with_machine(|machine| machine.tick());
        }
        let at = page.hpa();
        let blocked = |platform: &crate::rig::Platform| {
            let request = read(ONE, at.as_u64());
            let possible = platform.with_machine(|machine| machine.possible(&request));
            possible.iter().all(|outcome| outcome.address().is_none())
        };
        assert!(blocked(&platform));
        let units = plan.prepare(&platform).expect("up");
        assert!(blocked(&platform));
        let driver = plan.driver(&platform, units);
        let driver = driver.enable().expect("on");
        assert!(blocked(&platform), "not attached");
        let replaced = driver.replace(slot(ONE, None), Attachment::PassThrough);
        let mut batch = Batch::with_capacity(1).expect("room");
        batch.add(replaced.expect("attached").owed).expect("room");
        assert!(
            driver
                .commit(&mut batch)
                .expect("flushed")
                .frames
                .is_empty()
        );
        drop(batch);
        assert!(!blocked(&platform));
        assert_clean(&platform);
        platform.release(page);
    }
}

/// Abort-DMA mode (§6.6): firmware refuses all DMA until somebody has tables.
#[test]
fn no_dma_passes_between_abort_mode_and_our_tables_where_hardware_can_change_live() {
    for (live, mode) in [
        (true, ModeRequest::Legacy),
        (true, ModeRequest::SecondStage),
        (false, ModeRequest::SecondStage),
    ] {
        let config = Config {
            srtp_invalidates: live,
            ..Config::everything()
        };
        let plan = Plan::new(config).mode(mode);
        let platform = plan.platform();
        let mmio = ModelMmio::new(&platform, 0);
        mmio.write64(0x20, 3 << 10);
        command(&mmio, 1 << 30, true);
        command(&mmio, 1 << 31, true);
        let page = platform.allocate(iommu_core::Order::PAGE).expect("a page");
        let request = read(ONE, page.hpa().as_u64());
        let state = plan.discover(&platform)[0].firmware_state();
        assert!(state.translation && state.abort && !state.scalable);
        let open = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&open);
        platform.before_writes(move |machine, _, _, _| {
            let passes = |outcome: &vtd_model::Outcome| outcome.address().is_some();
            if machine.possible(&request).iter().any(passes) {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
        let units = plan.prepare(&platform).expect("up");
        assert_eq!(units[0].needs_translation_window(), !live);
        let driver = plan.driver(&platform, units);
        let driver = driver.enable().expect("on");
        assert_blocked(&platform, &read(ONE, page.hpa().as_u64()));
        let window = |event: &Event| matches!(event, Event::TranslationWindow { .. });
        let told = platform.take_events().iter().any(window);
        assert_eq!((open.load(Ordering::Relaxed) > 0, told), (!live, !live));
        assert_clean(&platform);
        drop(driver);
        platform.release(page);
    }
}

#[test]
fn faults_that_nobody_read_do_not_become_ours() {
    for freedom in [Freedom::Pessimist(1), Freedom::Random(5)] {
        let first = Plan::new(Config::legacy()).freedom(freedom).start();
        for address in 0..20 {
            first.with(|machine| machine.request(&read(ONE, address << 12)));
        }
        let platform = first.platform.clone();
        drop(first);
        let rig = Plan::new(Config::legacy()).start_on(platform);
        assert_eq!(rig.faults(), []);
        rig.assert_faults(
            &read(ONE, 0x5000),
            iommu_core::FaultReason::ROOT_NOT_PRESENT,
        );
        rig.assert_clean();
    }
}
