//! Devices that share an id, and devices that cannot be kept apart.

mod common;

use common::machine::{ROOT, VM, device, rid};
use common::{Bench, Setup};
use iommu::{IommuError, Quota};
use iommu_abi::Errno;
use iommu_core::TableFormat::FirstStage4;
use iommu_core::{
    Access, DeviceId, FaultKind, FaultReason, FaultRecord, Iova, Nanoseconds, ResetError, Slot,
    VmId,
};

const OTHER: VmId = VmId(5);

fn setup() -> Setup {
    Setup::new(FirstStage4)
}

/// A guest with device 4, whose group and other ids are said before.
fn bench(group: &[u8], aliases: &[(u8, u8)]) -> Bench {
    let machine = setup().build();
    describe(&machine.around, group, aliases);
    Bench::on(machine)
}

fn describe(around: &common::machine::Around, group: &[u8], aliases: &[(u8, u8)]) {
    *around.group.lock().unwrap() = group.iter().map(|number| device(*number)).collect();
    *around.aliases.lock().unwrap() = aliases
        .iter()
        .map(|(of, alias)| (device(*of), device(*alias).source))
        .collect();
}

fn bound(group: &[u8], aliases: &[(u8, u8)]) -> (Bench, u32) {
    let bench = bench(group, aliases);
    let ioas_id = bench.allocate(ROOT);
    assert_eq!(bench.bind(bench.device_id, ioas_id), 0);
    (bench, ioas_id)
}

fn with_other_guest(bench: &Bench) {
    let ram = bench.machine.ram.clone();
    let policy = &bench.machine.policy;
    policy.create_guest(OTHER, Quota::default(), ram).unwrap();
}

#[test]
fn every_id_of_a_device_leads_where_the_device_leads_and_nowhere_once_it_is_unbound() {
    let (bench, _) = bound(&[], &[(4, 20), (4, 21)]);
    let machine = &bench.machine;
    for id in [4, 20, 21] {
        machine.check_translation(rid(id), ROOT, 0x5000);
        assert!(machine.hardware.walk(rid(id), 0x5000).is_some(), "{id}");
    }
    assert_eq!(machine.hardware.walk(rid(22), 0x5000), None);
    assert_eq!(bench.unbind(bench.device_id), 0);
    for id in [4, 20, 21] {
        assert_eq!(machine.hardware.walk(rid(id), 0x5000), None, "{id}");
        assert!(machine.hardware.cached(rid(id), 0x5000).is_empty());
    }
    bench.end();
}

#[test]
fn an_id_that_cannot_be_led_leaves_all_where_they_were() {
    for nth in 1..=3 {
        let bench = bench(&[], &[(4, 20), (4, 21)]);
        let ioas_id = bench.allocate(ROOT);
        bench.machine.hardware.fail_nth("replace", nth);
        assert_eq!(
            bench.bind(bench.device_id, ioas_id),
            Errno::EOPNOTSUPP.to_register()
        );
        for id in [4, 20, 21] {
            assert_eq!(bench.machine.hardware.walk(rid(id), 0x5000), None);
        }
        assert_eq!(bench.bind(bench.device_id, ioas_id), 0, "the next time");
        bench.machine.hardware.fail_nth("replace", nth);
        assert_ne!(bench.unbind(bench.device_id), 0);
        for id in [4, 20, 21] {
            assert!(bench.machine.hardware.walk(rid(id), 0x5000).is_some());
        }
        bench.end();
    }
}

#[test]
fn a_common_id_leads_to_one_address_space_until_the_last_of_its_users_is_unbound() {
    let (bench, ioas_id) = bound(&[4, 5], &[(4, 20), (5, 20)]);
    let machine = &bench.machine;
    let other_id = machine.assign(5);
    assert!(
        machine.hardware.walk(rid(20), 0x5000).is_some(),
        "giving the other away takes nothing from the first"
    );
    let elsewhere = bench.allocate(ROOT);
    assert_eq!(
        bench.bind(other_id, elsewhere),
        Errno::EBUSY.to_register(),
        "another address space"
    );
    assert_eq!(bench.bind(other_id, ioas_id), 0, "the same");
    assert_eq!(bench.unbind(bench.device_id), 0);
    assert_eq!(machine.hardware.walk(rid(4), 0x5000), None);
    assert!(machine.hardware.walk(rid(20), 0x5000).is_some());
    assert_eq!(bench.unbind(other_id), 0);
    assert_eq!(machine.hardware.walk(rid(20), 0x5000), None);
    assert_eq!(bench.bind(other_id, elsewhere), 0, "now nobody minds");
    bench.end();
}

#[test]
fn a_device_that_has_the_common_id_for_its_own_goes_along() {
    // Device 20 lies where the bridge's id is.
    let (bench, ioas_id) = bound(&[4, 20], &[(4, 20)]);
    let twenty = bench.machine.assign(20);
    let elsewhere = bench.allocate(ROOT);
    assert_eq!(bench.bind(twenty, elsewhere), Errno::EBUSY.to_register());
    assert_eq!(bench.bind(twenty, ioas_id), 0);
    assert_eq!(bench.unbind(twenty), 0);
    assert!(
        bench.machine.hardware.walk(rid(20), 0x5000).is_some(),
        "device 4 still requests under it"
    );
    bench.end();
}

#[test]
fn a_fault_under_another_id_is_its_devices() {
    let (bench, ioas_id) = bound(&[], &[(4, 20)]);
    let record = |number| FaultRecord {
        unit: 0,
        device: device(number),
        pasid: None,
        kind: FaultKind::Dma {
            address: Iova::new(0x9_9000),
            access: Access::READ,
        },
        reason: FaultReason::READ_DENIED,
        privileged: false,
        at: Nanoseconds(0),
    };
    let policy = &bench.machine.policy;
    let told = policy.report(&record(20)).unwrap();
    assert_eq!((told.vm, told.device_id), (VM, bench.device_id));
    assert_eq!(told.ioas_id, Some(ioas_id));
    assert_eq!(policy.report(&record(21)), None);
    policy.take_back(VM, device(4)).unwrap();
    assert_eq!(policy.report(&record(20)), None, "nobody's any more");
    bench.end();
}

#[test]
fn companions_of_a_guests_device_are_kept_from_other_guests() {
    let bench = bench(&[4, 5], &[]);
    with_other_guest(&bench);
    let policy = &bench.machine.policy;
    assert_eq!(
        policy.assign(OTHER, device(5), 0),
        Err(IommuError::Companion {
            device: device(5),
            companion: device(4),
            by: Some(VM)
        })
    );
    assert_eq!(policy.assign(OTHER, device(6), 0), Ok(1), "of no group");
    bench.machine.assign(5);
    policy.take_back(VM, device(4)).unwrap();
    assert_eq!(
        policy.assign(OTHER, device(4), 0),
        Err(IommuError::Companion {
            device: device(4),
            companion: device(5),
            by: Some(VM)
        })
    );
    policy.take_back(VM, device(5)).unwrap();
    assert_eq!(
        policy.assign(OTHER, device(4), 0),
        Ok(2),
        "all are nobody's"
    );
    policy.destroy_guest(OTHER).unwrap();
    bench.end();
}

#[test]
fn a_companion_that_the_hypervisor_uses_keeps_guests_from_all_of_the_group() {
    let machine = setup().build();
    describe(&machine.around, &[4, 5], &[]);
    let held = machine.hold_for_the_hypervisor(rid(5));
    assert_eq!(
        machine.policy.assign(VM, device(4), 0),
        Err(IommuError::Companion {
            device: device(4),
            companion: device(5),
            by: None
        })
    );
    assert!(
        machine.around.resets.lock().unwrap().is_empty(),
        "nothing was disturbed"
    );
    held.let_go();
    assert_eq!(machine.policy.assign(VM, device(4), 0), Ok(1));
    machine.policy.destroy_guest(VM).unwrap();
    machine.check_nothing_left();
}

#[test]
fn devices_that_are_reset_together_are_reset_while_none_of_them_is_used() {
    let (bench, ioas_id) = bound(&[4, 5], &[]);
    let machine = &bench.machine;
    *machine.around.reset_together.lock().unwrap() = vec![device(4), device(5)];
    let policy = &machine.policy;
    assert_eq!(
        policy.assign(VM, device(5), 0),
        Err(IommuError::Reset(ResetError::NoMethod(device(5)))),
        "device 4 is at work"
    );
    assert_eq!(bench.unbind(bench.device_id), 0);
    let five = machine.assign(5);
    assert_eq!(bench.bind(five, ioas_id), 0);
    assert_eq!(bench.bind(bench.device_id, ioas_id), 0);
    // Both at once, when the guest dies.
    policy.destroy_guest(VM).unwrap();
    machine.check_nothing_left();
}

#[test]
fn a_device_that_was_taken_out_is_given_up_and_never_given_away() {
    let (bench, _) = bound(&[], &[]);
    let machine = &bench.machine;
    *machine.around.gone.lock().unwrap() = vec![device(4)];
    machine.policy.take_back(VM, device(4)).unwrap();
    assert_eq!(
        machine.policy.assign(VM, device(4), 0),
        Err(IommuError::Reset(ResetError::Gone(device(4))))
    );
    assert_eq!(machine.hardware.walk(rid(4), 0x5000), None);
    bench.end();
}

#[test]
fn a_device_with_too_many_ids_is_refused_by_name() {
    for (count, expected) in [
        (15, Ok(1)),
        (16, Err(IommuError::TooManyAliases(device(4)))),
    ] {
        let machine = setup().build();
        let aliases: Vec<(u8, u8)> = (0..count).map(|index| (4, 8 + index)).collect();
        describe(&machine.around, &[], &aliases);
        assert_eq!(machine.policy.assign(VM, device(4), 0), expected);
        machine.policy.destroy_guest(VM).unwrap();
        machine.check_nothing_left();
    }
}

#[test]
fn slots_of_pasids_have_the_devices_own_id_alone() {
    let (bench, ioas_id) = bound(&[], &[(4, 20)]);
    let mut pasid = iommu_abi::PasidAllocate {
        minimum: 1,
        maximum: 100,
        ..iommu_abi::PasidAllocate::new()
    };
    assert_eq!(bench.machine.call(&mut pasid), 0);
    let mut ask = iommu_abi::Bind {
        device_id: bench.device_id,
        ioas_id,
        flags: iommu_abi::Bind::PASID,
        pasid: pasid.pasid,
        ..iommu_abi::Bind::new()
    };
    assert_eq!(bench.machine.call(&mut ask), 0);
    let leads = |id: DeviceId| {
        bench
            .machine
            .hardware
            .slots()
            .into_iter()
            .filter(|slot: &Slot| slot.device == id && slot.pasid.is_some())
            .count()
    };
    assert_eq!((leads(device(4)), leads(device(20))), (1, 0));
    bench.end();
}
