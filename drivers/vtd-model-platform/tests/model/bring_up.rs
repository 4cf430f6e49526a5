//! From reset to translation, on units of every kind.

use crate::rig::{FREEDOMS, ONE, OTHER, Plan, assert_clean, read, reason_of};
use crate::units;
use vtd::InterruptConfig;
use vtd_model::{Config, Freedom};

#[test]
fn every_kind_of_unit_comes_up_and_blocks_every_device() {
    for kind in units::all() {
        for freedom in FREEDOMS {
            eprintln!("{}, {freedom:?}", kind.name);
            let plan = Plan::new(kind.config.clone())
                .mode(kind.mode)
                .freedom(freedom);
            let platform = plan.platform();
            // Translation is off: what is refused below passes here.
            let passes = platform.with_machine(|machine| machine.request(&read(ONE, 0x5000)));
            assert_eq!(passes.address(), Some(0x5000));
            let rig = plan.start_on(platform);
            for source in [ONE, OTHER] {
                let possible = rig.with(|machine| machine.possible(&read(source, 0x5000)));
                assert!(possible.iter().all(|outcome| reason_of(outcome).is_some()));
            }
            rig.assert_clean();
        }
    }
}

#[test]
fn interrupt_remapping_comes_up_in_both_modes_or_stays_off() {
    for interrupts in [
        None,
        Some(InterruptConfig {
            entries_log2: 8,
            extended: true,
        }),
        Some(InterruptConfig {
            entries_log2: 16,
            extended: false,
        }),
    ] {
        for freedom in FREEDOMS {
            for config in [Config::legacy(), Config::everything()] {
                let plan = Plan {
                    interrupts,
                    ..Plan::new(config).freedom(freedom)
                };
                plan.start().assert_clean();
            }
        }
    }
}

#[test]
fn several_units_come_up_each_in_its_own_way() {
    for freedom in FREEDOMS {
        let mut plan = Plan::new(Config::legacy()).freedom(freedom);
        plan.units.push(Config::scalable());
        plan.units.push(Config::scalable().non_coherent());
        let rig = plan.device(OTHER, 2).start();
        assert_eq!(rig.driver.units().collect::<Vec<_>>(), [0, 1, 2]);
        rig.assert_blocked(&read(ONE, 0x5000));
        rig.assert_blocked(&read(OTHER, 0x5000));
        rig.assert_clean();
    }
}

#[test]
fn a_bring_up_that_runs_out_of_memory_gives_all_of_it_back() {
    let plan = Plan::new(Config::scalable()).freedom(Freedom::Random(7));
    for failing in 1.. {
        let platform = plan.platform();
        platform.arena().fail_allocation(failing);
        let prepared = plan.prepare(&platform);
        if !platform.arena().failure_is_pending() {
            assert!(prepared.is_err(), "allocation {failing}");
            assert_eq!(platform.arena().outstanding(), 0, "allocation {failing}");
            assert_clean(&platform);
            continue;
        }
        assert!(prepared.is_ok() && failing > 3);
        return;
    }
}
