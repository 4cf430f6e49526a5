//! Devices and guests come and go, and what they had goes with them.

mod common;

use common::machine::{ROOT, VM, device, rid};
use common::{Bench, Setup};
use iommu::{Config, IommuError, Quota};
use iommu_abi::{Errno, Info};
use iommu_core::TableFormat::FirstStage4;
use iommu_core::{Gpa, ResetError, VmId};

const OTHER: VmId = VmId(5);

#[test]
fn a_guest_that_does_not_exist_may_do_nothing() {
    let bench = Bench::new(Setup::new(FirstStage4));
    for vm in [OTHER, VmId(15), VmId(16), VmId(u16::MAX)] {
        let result = bench.machine.policy.call(vm, 0x101, Gpa::new(0));
        assert_eq!(result, Errno::EPERM.to_register());
    }
    assert_eq!(bench.machine.call(&mut Info::new()), 0);
    bench.end();
}

#[test]
fn a_device_belongs_to_one_guest_at_a_time() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let policy = &bench.machine.policy;
    let ram = bench.machine.ram.clone();
    policy.create_guest(OTHER, Quota::default(), ram).unwrap();
    assert_eq!(
        policy.assign(OTHER, device(4), 0),
        Err(IommuError::Owned {
            device: device(4),
            by: VM
        })
    );
    policy.take_back(VM, device(4)).unwrap();
    assert_eq!(policy.assign(OTHER, device(4), 0), Ok(1));
    assert_eq!(
        policy.take_back(VM, device(4)),
        Err(IommuError::NotOwned(device(4)))
    );
    policy.destroy_guest(OTHER).unwrap();
    bench.end();
}

#[test]
fn a_device_is_reset_before_it_is_given_and_after_it_is_taken() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    let resets = || bench.machine.around.resets.lock().unwrap().len();
    assert_eq!(resets(), 1);
    bench.machine.policy.take_back(VM, device(4)).unwrap();
    assert_eq!(resets(), 2);
    assert_eq!(bench.machine.hardware.walk(rid(4), 0x5000), None);
    assert_eq!(
        bench.bind(bench.device_id, 2),
        Errno::ENOENT.to_register(),
        "the handle is gone"
    );
    bench.end();
}

#[test]
fn a_device_that_cannot_be_reset_is_not_given_unless_policy_says_so() {
    for allow_without_reset in [false, true] {
        let config = Config {
            allow_without_reset,
            ..Config::default()
        };
        let machine = Setup {
            config,
            ..Setup::new(FirstStage4)
        }
        .build();
        *machine.around.no_reset.lock().unwrap() = true;
        let given = machine.policy.assign(VM, device(4), 0);
        if allow_without_reset {
            assert_eq!(given, Ok(1));
        } else {
            let error = ResetError::NoMethod(device(4));
            assert_eq!(given, Err(IommuError::Reset(error)));
            *machine.around.no_reset.lock().unwrap() = false;
            assert_eq!(machine.policy.assign(VM, device(4), 0), Ok(1));
        }
    }
}

#[test]
fn a_device_whose_interrupts_are_not_remapped_is_not_given_unless_policy_says_so() {
    for (interrupts_remapped, allow_unremapped_interrupts) in
        [(true, false), (false, false), (false, true)]
    {
        let config = Config {
            allow_unremapped_interrupts,
            ..Config::default()
        };
        let machine = Setup {
            config,
            interrupts_remapped,
            ..Setup::new(FirstStage4)
        }
        .build();
        let given = machine.policy.assign(VM, device(4), 0);
        if interrupts_remapped || allow_unremapped_interrupts {
            assert_eq!(given, Ok(1));
        } else {
            assert_eq!(given, Err(IommuError::InterruptsNotRemapped(device(4))));
        }
    }
}

#[test]
fn everything_of_a_guest_goes_when_it_dies_bound_as_it_is() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    let second = bench.machine.assign(5);
    let table = bench.allocate(ROOT);
    assert_eq!(bench.bind(second, table), 0);
    assert_ne!(bench.machine.platform.outstanding(), 0);
    bench.machine.policy.destroy_guest(VM).unwrap();
    assert_eq!(bench.machine.hardware.walk(rid(4), 0x5000), None);
    assert_eq!(bench.machine.hardware.walk(rid(5), 0x5000), None);
    bench.machine.check_nothing_left();
    // Its number can be used again, and finds nothing.
    let ram = bench.machine.ram.clone();
    let policy = &bench.machine.policy;
    policy
        .create_guest(VM, bench.machine.setup.quota, ram)
        .unwrap();
    let mut info = Info::new();
    assert_eq!(bench.machine.call(&mut info), 0);
    assert_eq!(info.shadow_pages_used, 0);
    bench.end();
}

#[test]
fn a_guest_whose_device_cannot_be_blocked_is_gone_and_its_tables_are_never_reused() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    bench.machine.hardware.fail_next("replace");
    assert!(bench.machine.policy.destroy_guest(VM).is_err());
    // Hardware walks on, through tables that nobody else can get.
    assert!(bench.machine.hardware.walk(rid(4), 0x5000).is_some());
    assert_eq!(bench.machine.platform.outstanding(), 2 * 4);
}

#[test]
fn a_guest_whose_flush_fails_is_gone_and_its_tables_are_in_quarantine() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    bench.machine.hardware.fail_next("commit");
    assert!(bench.machine.policy.destroy_guest(VM).is_err());
    assert_eq!(bench.machine.hardware.parked().1, 4);
    assert_eq!(bench.machine.platform.outstanding(), 4);
}

#[test]
fn a_guest_whose_unbind_was_not_confirmed_ends_when_hardware_has_forgotten_it() {
    for again in [false, true] {
        let (bench, _) = Bench::bound(Setup::new(FirstStage4));
        bench.machine.hardware.fail_next("commit");
        assert_eq!(
            bench.unbind(bench.device_id),
            Errno::ETIMEDOUT.to_register()
        );
        assert_ne!(bench.machine.hardware.stale(), []);
        if again {
            bench.machine.hardware.fail_next("reclaim");
        }
        assert_eq!(bench.machine.policy.destroy_guest(VM).is_err(), again);
        assert_eq!(bench.machine.hardware.stale().is_empty(), !again);
    }
}

#[test]
fn guests_are_created_once() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let policy = &bench.machine.policy;
    let ram = bench.machine.ram.clone();
    assert_eq!(
        policy.create_guest(VM, Quota::default(), ram.clone()),
        Err(IommuError::GuestExists(VM))
    );
    assert_eq!(
        policy.create_guest(VmId(16), Quota::default(), ram),
        Err(IommuError::NoSuchSlot(VmId(16)))
    );
    assert_eq!(policy.destroy_guest(OTHER), Err(IommuError::NoGuest(OTHER)));
    bench.end();
}
