//! From registers to a unit at work.

use crate::fake::*;
use crate::world::*;
use iommu_core::{Hpa, Platform};
use vtd::{
    BringUpError, Command, DiscoveryError, Event, InterruptConfig, ModeError, ModeRequest,
    TimeLimits, UnitConfig,
};

fn open(cap: u64, ecap: u64) -> Result<(), DiscoveryError> {
    let (machine, fake) = Plan {
        cap,
        ecap,
        ..Plan::legacy()
    }
    .machine();
    vtd::Discovered::open(description(), Registers(fake), &machine).map(|_| ())
}

#[test]
fn registers_of_all_ones_or_all_zeroes_are_no_unit() {
    let silent = Err(DiscoveryError::Silent {
        unit: UNIT,
        register_base: Hpa::new(0xfed9_0000),
    });
    assert_eq!(open(u64::MAX, u64::MAX), silent);
    assert_eq!(open(0, 0), silent);
    assert_eq!(open(CAP, ECAP_LEGACY), Ok(()));
}

#[test]
fn fault_records_beyond_the_mapping_are_refused() {
    let far = CAP | 0x1ff << 24;
    assert!(matches!(
        open(far, ECAP_LEGACY),
        Err(DiscoveryError::Beyond { needed, .. }) if needed > 0x1000
    ));
}

#[test]
fn commands_come_in_the_specifications_order() {
    let (machine, fake) = Plan::second_stage().machine();
    Plan::second_stage()
        .preparing(&machine, &fake)
        .enable()
        .unwrap();
    let commands = fake.state().commands.clone();
    assert_eq!(
        commands,
        [
            QIE,
            QIE | SIRTP,
            QIE | IRE,
            QIE | IRE | SRTP,
            QIE | IRE | TE
        ]
    );
    assert_eq!(fake.get32(GSTS), TE | SRTP | QIE | IRE | SIRTP);
}

#[test]
fn the_table_mode_follows_the_mode_and_slots_are_wide_only_where_they_must_be() {
    for (plan, ttm, wide) in [
        (Plan::legacy(), 0, 0),
        (Plan::second_stage(), 1, 1),
        (Plan::first_stage(), 1, 1),
        (
            Plan {
                mode: ModeRequest::Legacy,
                ..Plan::second_stage()
            },
            0,
            1,
        ),
    ] {
        let world = plan.boot();
        assert_eq!(world.fake.state().root >> 10 & 3, ttm);
        assert_eq!(world.fake.get64(IQA) >> 11 & 1, wide);
    }
}

#[test]
fn setting_the_root_flushes_everything_unless_hardware_does() {
    let flushed = |cap: u64| {
        let plan = Plan {
            cap,
            ..Plan::second_stage()
        };
        let (machine, fake) = plan.machine();
        let driver = plan.preparing(&machine, &fake);
        fake.take_executed();
        driver.enable().unwrap();
        let kinds: Vec<_> = fake.take_executed().iter().map(|[low, _]| *low).collect();
        kinds
    };
    // Context, PASID and IOTLB, each global, in this order.
    assert_eq!(flushed(CAP), [0x11, 0x37, 0xd2]);
    assert_eq!(flushed(CAP | 1 << 63), []);
}

#[test]
fn the_interrupt_cache_is_flushed_unless_hardware_does() {
    let flushed = |cap: u64| {
        let plan = Plan {
            cap,
            ..Plan::legacy()
        };
        let (machine, fake) = plan.machine();
        let _ready = plan.ready(&machine, &fake);
        fake.take_executed()
    };
    assert_eq!(flushed(CAP), [[4, 0]]);
    assert_eq!(flushed(CAP | 1 << 62), Vec::<[u64; 2]>::new());
}

#[test]
fn every_command_that_is_never_done_has_a_name_and_an_end() {
    for (stuck, command) in [
        (QIE, Command::EnableQueue),
        (SIRTP, Command::SetInterruptTable),
        (IRE, Command::EnableInterruptRemapping),
    ] {
        let plan = Plan::legacy();
        let (machine, fake) = plan.machine();
        let quiesced = plan
            .discover(&machine, &fake)
            .quiesce(&machine, TimeLimits::default())
            .unwrap();
        fake.state().stuck = stuck;
        let error = quiesced.prepare(&machine, &plan.config()).unwrap_err();
        match error {
            BringUpError::TimedOut(error) => assert_eq!(error.command, command),
            error => panic!("{error:?}"),
        }
        assert_eq!(machine.memory.outstanding(), 0, "memory came back");
    }
    for (stuck, command) in [
        (SRTP, Command::SetRootTable),
        (TE, Command::EnableTranslation),
    ] {
        let plan = Plan::legacy();
        let (machine, fake) = plan.machine();
        let driver = plan.preparing(&machine, &fake);
        fake.state().stuck = stuck;
        let failure = driver.enable().unwrap_err();
        assert_eq!(failure.unit, UNIT);
        match failure.error {
            BringUpError::TimedOut(error) => assert_eq!(error.command, command),
            error => panic!("{error:?}"),
        }
        fake.state().stuck = 0;
        failure.driver.enable().unwrap();
        assert!(fake.get32(GSTS) & TE != 0, "it can be tried again");
    }
}

#[test]
fn a_queue_that_does_nothing_is_a_time_out() {
    let plan = Plan::legacy();
    let (machine, fake) = plan.machine();
    let driver = plan.preparing(&machine, &fake);
    fake.state().asleep = true;
    let failure = driver.enable().unwrap_err();
    assert!(matches!(
        failure.error,
        BringUpError::TimedOut(error) if error.command == Command::Invalidate
    ));
}

#[test]
fn a_mode_that_the_unit_lacks_is_refused_by_name() {
    let plan = Plan {
        mode: ModeRequest::FirstStage,
        ..Plan::second_stage()
    };
    let (machine, fake) = plan.machine();
    let quiesced = plan
        .discover(&machine, &fake)
        .quiesce(&machine, TimeLimits::default())
        .unwrap();
    assert_eq!(
        quiesced.prepare(&machine, &plan.config()).unwrap_err(),
        BringUpError::Mode {
            unit: UNIT,
            error: ModeError::NoFirstStage
        }
    );
}

#[test]
fn interrupts_that_the_unit_cannot_remap_are_refused_by_name() {
    let refused = |ecap: u64, extended: bool| {
        let plan = Plan {
            ecap,
            ..Plan::legacy()
        };
        let (machine, fake) = plan.machine();
        let config = UnitConfig {
            interrupts: Some(InterruptConfig {
                entries_log2: 8,
                extended,
            }),
            ..plan.config()
        };
        plan.discover(&machine, &fake)
            .quiesce(&machine, TimeLimits::default())
            .unwrap()
            .prepare(&machine, &config)
            .err()
    };
    assert_eq!(
        refused(ECAP_LEGACY & !8, false),
        Some(BringUpError::NoInterruptRemapping { unit: UNIT })
    );
    assert_eq!(
        refused(ECAP_LEGACY, true),
        Some(BringUpError::NoExtendedInterrupts { unit: UNIT })
    );
    assert_eq!(refused(ECAP_LEGACY | 1 << 4, true), None);
}

#[test]
fn the_fault_event_is_programmed_and_unmasked() {
    let world = Plan::legacy().boot();
    assert_eq!(world.fake.get32(0x3c), 0x40);
    assert_eq!(world.fake.get32(0x40), 0xfee0_1000);
    assert_eq!(world.fake.get32(FECTL), 0);
}

#[test]
fn faults_of_firmware_are_cleared() {
    let plan = Plan {
        cap: CAP | 3 << 40,
        ..Plan::legacy()
    };
    let (machine, fake) = plan.machine();
    fake.fault(0, 0, 0);
    fake.fault(3, 0, 0);
    fake.fault(3, 0, 0);
    assert_eq!(fake.get32(FSTS) & 3, PFO | PPF);
    let _ready = plan.ready(&machine, &fake);
    assert_eq!(fake.get32(FSTS), 0);
}

/// Puts the unit into the state that firmware may leave: queue and interrupt remapping on.
fn leave_on(fake: &Fake, machine: &Machine, bits: u32) {
    let queue = machine.allocate(iommu_core::Order::PAGE).unwrap();
    fake.set64(IQA, queue.hpa().as_u64());
    fake.set32(GSTS, bits);
    drop(queue);
}

#[test]
fn queue_and_interrupt_remapping_of_firmware_are_turned_off_first() {
    let plan = Plan::legacy();
    let (machine, fake) = plan.machine();
    leave_on(&fake, &machine, QIE | IRE | SIRTP | CFI);
    let discovered = plan.discover(&machine, &fake);
    let state = discovered.firmware_state();
    assert!(state.queue && state.interrupt_remapping && !state.translation);
    let quiesced = discovered.quiesce(&machine, TimeLimits::default()).unwrap();
    assert_eq!(fake.get32(GSTS) & (QIE | IRE), 0);
    assert_eq!(fake.state().commands, [QIE | CFI, CFI]);
    quiesced.prepare(&machine, &plan.config()).unwrap();
    assert_eq!(
        fake.get32(GSTS) & CFI,
        0,
        "compatibility format is blocked before remapping is on"
    );
}

#[test]
fn a_queue_that_firmware_left_with_an_error_is_turned_off_as_it_is() {
    let plan = Plan::legacy();
    let (machine, fake) = plan.machine();
    leave_on(&fake, &machine, QIE);
    fake.set64(IQT, 0x20);
    fake.set64(IQH, 0x10);
    fake.set32(FSTS, IQE);
    let _ready = plan.ready(&machine, &fake);
    assert!(machine.saw(|event| matches!(event, Event::FirmwareQueueNotEmpty { unit: UNIT })));
    assert_eq!(fake.get32(FSTS), 0);
}

#[test]
fn translation_of_firmware_stays_on_while_tables_are_exchanged() {
    let plan = Plan::legacy();
    let (machine, fake) = plan.machine();
    leave_on(&fake, &machine, TE | SRTP);
    let ready = plan.ready(&machine, &fake);
    assert!(!ready.needs_translation_window());
    let scopes = Box::new(|_| Some(UNIT));
    let driver = vtd::Driver::new(machine.clone(), [ready], scopes, &plan.config).unwrap();
    driver.enable().unwrap();
    assert!(
        fake.state()
            .commands
            .iter()
            .all(|command| command & TE != 0)
    );
    assert!(!machine.saw(|event| matches!(event, Event::TranslationWindow { .. })));
}

#[test]
fn a_change_of_table_mode_needs_a_window_unless_hardware_can_do_it_live() {
    for (cap, window) in [(CAP, true), (CAP | 1 << 63, false)] {
        let plan = Plan {
            cap,
            ..Plan::second_stage()
        };
        let (machine, fake) = plan.machine();
        leave_on(&fake, &machine, TE | SRTP);
        let ready = plan.ready(&machine, &fake);
        assert_eq!(ready.needs_translation_window(), window);
        let scopes = Box::new(|_| Some(UNIT));
        let driver = vtd::Driver::new(machine.clone(), [ready], scopes, &plan.config).unwrap();
        driver.enable().unwrap();
        let went_off = fake.state().commands.iter().any(|c| c & TE == 0);
        assert_eq!(went_off, window);
        assert_eq!(
            machine.saw(|event| matches!(event, Event::TranslationWindow { .. })),
            window
        );
        assert!(fake.get32(GSTS) & TE != 0);
    }
}

#[test]
fn protected_memory_goes_only_after_translation_is_on() {
    let plan = Plan {
        cap: CAP | 1 << 5,
        ..Plan::legacy()
    };
    let (machine, fake) = plan.machine();
    fake.set32(PMEN, 1 << 31 | 1);
    let driver = plan.preparing(&machine, &fake);
    assert_eq!(fake.get32(PMEN) & 1, 1);
    driver.enable().unwrap();
    assert_eq!(fake.get32(PMEN), 0);
    assert!(machine.saw(|event| matches!(event, Event::ProtectedMemoryOff { unit: UNIT })));
}

#[test]
fn no_allocation_failure_during_bring_up_leaks() {
    for plan in [Plan::legacy(), Plan::first_stage()] {
        for n in 1.. {
            let (machine, fake) = plan.machine();
            let quiesced = plan
                .discover(&machine, &fake)
                .quiesce(&machine, TimeLimits::default())
                .unwrap();
            machine.memory.fail_allocation(n);
            let result = quiesced.prepare(&machine, &plan.config());
            if machine.memory.failure_is_pending() {
                assert!(result.is_ok() && n > 3);
                break;
            }
            assert!(matches!(result, Err(BringUpError::OutOfFrames(_))));
            assert_eq!(machine.memory.outstanding(), 0);
            assert!(fake.state().commands.is_empty(), "nothing was begun");
        }
    }
}
