//! Devices that make faults without end, held back on hardware that caches all it may.

use crate::rig::{FREEDOMS, ONE, OTHER, Plan, Rig, device, read, write};
use iommu_core::{Access, DomainHandle, Frame, Nanoseconds, Platform, TableFormat};
use vtd::{DriverConfig, Event, FaultLimit, ModeRequest, Restraint};
use vtd_model::Config;

/// Faults that are allowed within a window.
const ALLOWED: u32 = 20;
/// Short, for a model whose ticks are microseconds.
const PAUSE: Nanoseconds = Nanoseconds::from_millis(10);
const REFUSED: u64 = 0x9000;
const MAPPED: u64 = 0x5000;

struct Scene {
    rig: Rig,
    page: Frame,
    #[expect(dead_code, reason = "it lives as long as the scene")]
    domain: DomainHandle,
}

fn scenes(restraint: Restraint) -> impl Iterator<Item = Scene> {
    let kinds = [
        (Config::legacy(), ModeRequest::Legacy),
        (Config::legacy().non_coherent(), ModeRequest::Legacy),
        // Here faults themselves are cached; whether they are recorded is not (§6.2.4).
        (Config::legacy().with_caching_mode(), ModeRequest::Legacy),
        (Config::scalable(), ModeRequest::SecondStage),
        (
            Config::scalable().with_caching_mode(),
            ModeRequest::SecondStage,
        ),
    ];
    kinds.into_iter().flat_map(move |(config, mode)| {
        FREEDOMS.map(|freedom| {
            let limit = FaultLimit {
                faults: ALLOWED,
                pause: PAUSE,
                restraint,
                ..FaultLimit::default()
            };
            let plan = Plan::new(config.clone()).mode(mode).freedom(freedom);
            let driver = DriverConfig {
                fault_limit: Some(limit),
                ..plan.driver
            };
            eprintln!("{mode:?}, {freedom:?}, {config:x?}");
            let rig = Plan { driver, ..plan }.start();
            let domain = rig.domain(ONE, TableFormat::SecondStage4);
            let page = rig.page(1);
            rig.map(domain, MAPPED, page.hpa(), Access::READ_WRITE);
            for source in [ONE, OTHER] {
                rig.assign(source, 1);
                rig.attach(source, None, domain);
            }
            Scene { rig, page, domain }
        })
    })
}

/// The loud device is refused so often; says how many faults were told.
fn refuse(rig: &Rig, times: u32) -> usize {
    let mut told = 0;
    for _ in 0..times {
        rig.with(|machine| machine.request(&read(ONE, REFUSED)));
        told += rig.faults().len();
    }
    told
}

fn wait_for_the_end(rig: &Rig) {
    let begun = rig.platform.now();
    rig.with(|machine| machine.settle(PAUSE.0 / 1_000 + 1));
    assert!(rig.platform.now().since(begun) >= PAUSE);
    rig.driver.end_pauses();
}

#[test]
fn a_silenced_device_makes_no_faults_and_keeps_what_it_may_reach() {
    for scene in scenes(Restraint::Silenced) {
        let rig = &scene.rig;
        assert_eq!(refuse(rig, ALLOWED), ALLOWED as usize);
        assert_eq!(refuse(rig, 1), 1);
        assert_eq!(refuse(rig, 50), 0, "hardware records no more");
        rig.assert_blocked(&read(ONE, REFUSED));
        rig.assert_reaches(&write(ONE, MAPPED), scene.page.hpa());
        // The neighbour is heard as before.
        rig.with(|machine| machine.request(&read(OTHER, REFUSED)));
        assert_eq!(rig.faults().len(), 1);
        wait_for_the_end(rig);
        assert_eq!(refuse(rig, 1), 1);
        rig.assert_clean();
    }
}

#[test]
fn a_blocked_device_reaches_nothing_until_its_pause_is_over() {
    for scene in scenes(Restraint::Blocked) {
        let rig = &scene.rig;
        refuse(rig, ALLOWED + 1);
        let held_back = |event: &Event| matches!(event, Event::Flood { device: who, restraint: Restraint::Blocked, .. } if *who == device(ONE));
        assert!(rig.platform.take_events().iter().any(held_back));
        rig.assert_blocked(&write(ONE, MAPPED));
        assert_eq!(refuse(rig, 50), 0);
        rig.assert_reaches(&write(OTHER, MAPPED), scene.page.hpa());
        wait_for_the_end(rig);
        rig.assert_reaches(&write(ONE, MAPPED), scene.page.hpa());
        rig.assert_clean();
    }
}
