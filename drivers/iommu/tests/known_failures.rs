//! Failures that others are known for, as far as policy alone shows that they do not happen
//! here. Those that need hardware are in `vtd-model-platform`, `model::known_failures`;
//! `docs/security.md` has the table.

mod common;

use common::machine::{LEAVES, ROOT, VM, device, rid};
use common::tables::FULL;
use common::{Bench, Setup};
use iommu::{Config, IommuError, Quota};
use iommu_abi::{Errno, Invalidate};
use iommu_core::TableFormat::{FirstStage4, SecondStage4};
use iommu_core::{ResetError, VmId};

/// The leaf at 0x5000 is taken out; what the guest then says of it is refused, and it is
/// reached until the guest says it well.
#[track_caller]
fn refused_and_not_lost(bench: &Bench, table: u32, call: impl FnOnce() -> i64, errno: Errno) {
    bench.machine.ram.write(LEAVES + 8 * 5, 0x25_000 | FULL);
    bench.changed(table, &[(0x5000, 1)]);
    bench.machine.ram.write(LEAVES + 8 * 5, 0);
    let before = bench.commits();
    let result = call();
    assert_eq!(Errno::from_register(result), Err(errno));
    assert_eq!(bench.commits(), before, "refused, not done in part");
    assert!(bench.sees(0x5000).is_some());
    bench.changed(table, &[(0x5000, 1)]);
    assert_eq!(bench.sees(0x5000), None);
    bench.machine.check_caches();
}

#[test]
fn own_readings_an_invalidation_is_done_whole_or_refused_and_never_dropped() {
    for format in [FirstStage4, SecondStage4] {
        let (bench, table) = Bench::bound(Setup::new(format));
        // Not rounded, not wrapped, not cut to the width of a shift.
        for (range, errno) in [
            ((0x5800, 1), Errno::EINVAL),
            ((0x5001, 1), Errno::EINVAL),
            ((0x5000, 0), Errno::EINVAL),
            ((0x5000, u64::MAX), Errno::EOVERFLOW),
            ((0x5000, 1 << 52), Errno::EOVERFLOW),
            ((0x5000, 1 << 36), Errno::EINVAL),
            ((1 << 47, 1), Errno::EINVAL),
        ] {
            let call = || bench.invalidate(table, &[range]).0;
            refused_and_not_lost(&bench, table, call, errno);
        }
        // A granularity, or a kind of element, that does not exist.
        let good = Invalidate {
            ioas_id: table,
            granularity: 1,
            ..Invalidate::new()
        };
        for (bad, errno) in [
            (
                Invalidate {
                    granularity: 0,
                    ..good
                },
                Errno::EOPNOTSUPP,
            ),
            (
                Invalidate {
                    granularity: 3,
                    ..good
                },
                Errno::EOPNOTSUPP,
            ),
            (
                // What belongs to ranges stands beside everything.
                Invalidate {
                    entry_count: 1,
                    ..good
                },
                Errno::EINVAL,
            ),
            (Invalidate { flags: 4, ..good }, Errno::EOPNOTSUPP),
            (
                Invalidate {
                    ioas_id: table + 7,
                    ..good
                },
                Errno::ENOENT,
            ),
        ] {
            let mut ask = bad;
            let call = || bench.machine.call(&mut ask);
            refused_and_not_lost(&bench, table, call, errno);
        }
        // The largest range that there is means every page of it.
        bench.machine.ram.write(LEAVES + 8 * 6, 0);
        bench.changed(table, &[(0, 1 << 35)]);
        assert_eq!(bench.sees(0x6000), None);
        bench.end();
    }
}

#[test]
fn xsa_306_a_device_goes_to_nobody_between_two_owners() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    let policy = &bench.machine.policy;
    assert!(bench.sees(0x5000).is_some());
    policy.take_back(VM, device(4)).unwrap();
    assert_eq!(bench.machine.hardware.walk(rid(4), 0x5000), None);
    // Given anew, it still reaches nothing until its owner binds something.
    let handle = policy.assign(VM, device(4), 0x20).unwrap();
    assert_eq!(bench.machine.hardware.walk(rid(4), 0x5000), None);
    let table = bench.allocate(ROOT);
    assert_eq!(bench.bind(handle, table), 0);
    assert!(bench.sees(0x5000).is_some());
    bench.end();
}

#[test]
fn xsa_306_a_device_that_was_not_reset_is_given_to_nobody() {
    let machine = Setup {
        config: Config::default(),
        ..Setup::new(FirstStage4)
    }
    .build();
    *machine.around.no_reset.lock().unwrap() = true;
    let refused = machine.policy.assign(VM, device(4), 0);
    let why = IommuError::Reset(ResetError::NoMethod(device(4)));
    assert_eq!(refused, Err(why));
    *machine.around.no_reset.lock().unwrap() = false;
    assert_eq!(machine.policy.assign(VM, device(4), 0), Ok(1));
    machine.policy.destroy_guest(VM).unwrap();
    machine.check_nothing_left();
}

#[test]
fn xsa_492_who_owns_a_device_is_asked_in_every_call_about_it() {
    const OTHER: VmId = VmId(5);
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let policy = &bench.machine.policy;
    let ram = bench.machine.ram.clone();
    policy.create_guest(OTHER, Quota::default(), ram).unwrap();
    let owned = IommuError::Owned {
        device: device(4),
        by: VM,
    };
    assert_eq!(policy.assign(OTHER, device(4), 0), Err(owned));
    let not_owned = Err(IommuError::NotOwned(device(4)));
    assert_eq!(policy.take_back(OTHER, device(4)), not_owned);
    // A guest that does not exist has no handles, whatever their numbers.
    for vm in [VmId(9), VmId(u16::MAX)] {
        let result = policy.call(vm, 0x122, iommu_core::Gpa::new(0));
        assert_eq!(result, Errno::EPERM.to_register());
    }
    bench.changed(table, &[(0x5000, 1)]);
    bench.check([0x5000]);
    policy.destroy_guest(OTHER).unwrap();
    bench.end();
}

/// The group of device 4, and other ids that devices send requests under.
fn around(group: &[u8], aliases: &[(u8, u8)]) -> Bench {
    let machine = Setup::new(FirstStage4).build();
    *machine.around.group.lock().unwrap() = group.iter().map(|number| device(*number)).collect();
    *machine.around.aliases.lock().unwrap() = aliases
        .iter()
        .map(|(of, alias)| (device(*of), device(*alias).source))
        .collect();
    Bench::on(machine)
}

#[test]
fn xsa_449_phantom_functions_go_where_their_device_goes() {
    const IDS: [u8; 3] = [4, 20, 21];
    let bench = around(&[], &[(4, 20), (4, 21)]);
    let reached = |bench: &Bench| {
        let walk = |id| bench.machine.hardware.walk(rid(id), 0x5000).is_some();
        IDS.map(walk)
    };
    assert_eq!(reached(&bench), [false; 3], "nothing is bound");
    let table = bench.allocate(ROOT);
    assert_eq!(bench.bind(bench.device_id, table), 0);
    assert_eq!(reached(&bench), [true; 3]);
    assert_eq!(
        bench.machine.hardware.walk(rid(22), 0x5000),
        None,
        "not its id"
    );
    bench.machine.policy.take_back(VM, device(4)).unwrap();
    assert_eq!(reached(&bench), [false; 3]);
    for id in IDS {
        assert!(bench.machine.hardware.cached(rid(id), 0x5000).is_empty());
    }
    bench.end();
}

#[test]
fn xsa_461_devices_that_cannot_be_kept_apart_have_one_owner() {
    const OTHER: VmId = VmId(5);
    let bench = around(&[4, 5], &[]);
    let policy = &bench.machine.policy;
    let ram = bench.machine.ram.clone();
    policy.create_guest(OTHER, Quota::default(), ram).unwrap();
    let companion = IommuError::Companion {
        device: device(5),
        companion: device(4),
        by: Some(VM),
    };
    assert_eq!(policy.assign(OTHER, device(5), 0), Err(companion));
    assert_eq!(policy.assign(OTHER, device(6), 0), Ok(1), "of no group");
    policy.take_back(VM, device(4)).unwrap();
    assert_eq!(
        policy.assign(OTHER, device(5), 0),
        Ok(2),
        "all are nobody's"
    );
    policy.destroy_guest(OTHER).unwrap();
    bench.end();
}
