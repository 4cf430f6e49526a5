//! Handles, what may be destroyed when, and what operations make of each other's objects.

mod common;

use common::machine::{ROOT, rid};
use common::tables::FULL;
use common::{Bench, Setup};
use iommu_abi::*;
use iommu_core::TableFormat::{self, FirstStage4, SecondStage3, SecondStage4};
use iommu_core::{Pasid, Slot};

fn destroy(bench: &Bench, id: u32) -> Result<u64, Errno> {
    Errno::from_register(bench.machine.call(&mut Destroy {
        id,
        ..Destroy::new()
    }))
}

fn managed(bench: &Bench) -> u32 {
    let mut ask = IoasAllocate {
        device_id: bench.device_id,
        ..IoasAllocate::new()
    };
    assert_eq!(bench.machine.call(&mut ask), 0);
    ask.ioas_id
}

fn bind_pasid(bench: &Bench, ioas_id: u32, pasid: u32, flags: u32) -> Result<u64, Errno> {
    Errno::from_register(bench.machine.call(&mut Bind {
        flags: Bind::PASID | flags,
        device_id: bench.device_id,
        ioas_id,
        pasid,
        ..Bind::new()
    }))
}

fn pasid(bench: &Bench, minimum: u32, maximum: u32) -> Result<u32, Errno> {
    let mut ask = PasidAllocate {
        minimum,
        maximum,
        ..PasidAllocate::new()
    };
    let result = bench.machine.call(&mut ask);
    Errno::from_register(result).map(|_| ask.pasid)
}

fn free_pasid(bench: &Bench, pasid: u32) -> Result<u64, Errno> {
    Errno::from_register(bench.machine.call(&mut PasidFree {
        pasid,
        ..PasidFree::new()
    }))
}

#[test]
fn handles_are_small_numbers_and_the_lowest_free_one_comes_first() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let handles: Vec<u32> = (0..3).map(|_| bench.allocate(ROOT)).collect();
    assert_eq!(handles, [2, 3, 4]);
    assert_eq!(destroy(&bench, 3), Ok(0));
    assert_eq!(bench.allocate(ROOT), 3);
    bench.end();
}

#[test]
fn what_is_in_use_cannot_be_destroyed() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    assert_eq!(destroy(&bench, table), Err(Errno::EBUSY));
    assert!(bench.sees(0x5000).is_some());
    assert_eq!(bench.unbind(bench.device_id), 0);
    assert_eq!(destroy(&bench, table), Ok(0));
    assert_eq!(destroy(&bench, table), Err(Errno::ENOENT));
    bench.end();
}

#[test]
fn a_device_is_not_the_guests_to_destroy() {
    let bench = Bench::new(Setup::new(FirstStage4));
    assert_eq!(destroy(&bench, bench.device_id), Err(Errno::EPERM));
    bench.end();
}

#[test]
fn a_handle_of_another_kind_or_of_nobody_does_not_exist() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let device_id = bench.device_id;
    for nobody in [0, 99, u32::MAX] {
        assert_eq!(destroy(&bench, nobody), Err(Errno::ENOENT));
        assert_eq!(bench.bind(nobody, table), Errno::ENOENT.to_register());
    }
    let enoent = Errno::ENOENT.to_register();
    let second = bench.machine.assign(5);
    assert_eq!(bench.bind(second, device_id), enoent);
    // What does not exist comes before what is in use.
    assert_eq!(bench.bind(device_id, 99), enoent);
    assert_eq!(bench.bind(table, table), enoent);
    assert_eq!(bench.unbind(table), enoent);
    assert_eq!(bench.invalidate(device_id, &[]).0, enoent);
    assert_eq!(bench.invalidate(managed(&bench), &[]).0, enoent);
    let mut info = DeviceInfo {
        device_id: table,
        ..DeviceInfo::new()
    };
    assert_eq!(bench.machine.call(&mut info), enoent);
    assert_eq!(bench.bind(second, table), 0);
    bench.end();
}

#[test]
fn a_bound_device_is_not_bound_again_unless_it_is_a_replacement() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let other_root = 0x8000;
    bench.machine.ram.write(other_root, 0x9000 | FULL);
    let other = bench.allocate(other_root);
    let device_id = bench.device_id;
    assert_eq!(bench.bind(device_id, other), Errno::EBUSY.to_register());
    assert!(bench.sees(0x5000).is_some());
    let mut replace = Bind {
        flags: Bind::REPLACE,
        device_id,
        ioas_id: other,
        ..Bind::new()
    };
    assert_eq!(bench.machine.call(&mut replace), 0);
    assert_eq!(replace.hitless, 1);
    assert_eq!(bench.sees(0x5000), None);
    bench.machine.check_caches();
    // The old table is free now, the new one is not.
    assert_eq!(destroy(&bench, table), Ok(0));
    assert_eq!(destroy(&bench, other), Err(Errno::EBUSY));
    assert_eq!(bench.unbind(device_id), 0);
    assert_eq!(
        bench.machine.call(&mut replace),
        Errno::ENOENT.to_register()
    );
    assert_eq!(bench.unbind(device_id), Errno::ENOENT.to_register());
    bench.end();
}

#[test]
fn a_replacement_that_fails_leaves_what_was() {
    for failure in ["create", "replace"] {
        let (bench, _) = Bench::bound(Setup::new(FirstStage4));
        bench.machine.ram.write(0x8000, 0x9000 | FULL);
        let other = bench.allocate(0x8000);
        let pages = bench.machine.platform.outstanding();
        bench.machine.hardware.fail_next(failure);
        let mut replace = Bind {
            flags: Bind::REPLACE,
            device_id: bench.device_id,
            ioas_id: other,
            ..Bind::new()
        };
        assert!(bench.machine.call(&mut replace) < 0);
        bench.check([0x5000]);
        assert!(bench.sees(0x5000).is_some());
        assert_eq!(bench.machine.platform.outstanding(), pages);
        assert_eq!(bench.machine.call(&mut replace), 0, "its twin");
        bench.end();
    }
}

#[test]
fn a_bind_whose_steps_fail_leaves_nothing() {
    for failure in ["create", "replace"] {
        let bench = Bench::new(Setup::new(FirstStage4));
        let table = bench.allocate(ROOT);
        bench.machine.hardware.fail_next(failure);
        assert!(bench.bind(bench.device_id, table) < 0);
        assert_eq!(bench.machine.platform.outstanding(), 0);
        assert_eq!(bench.sees(0x5000), None);
        assert_eq!(bench.bind(bench.device_id, table), 0);
        bench.end();
    }
}

#[test]
fn a_pasid_is_bound_beside_the_device_itself() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    bench.machine.ram.write(0x8000, 0x2000 | FULL);
    let other = bench.allocate(0x8000);
    assert_eq!(pasid(&bench, 500, 600), Ok(500));
    assert_eq!(bind_pasid(&bench, other, 500, 0), Ok(0));
    let slot = Slot {
        device: rid(4).device,
        pasid: Pasid::new(1),
    };
    bench.machine.check_translation(slot, 0x8000, 0x5000);
    assert!(bench.machine.hardware.walk(slot, 0x5000).is_some());
    assert_eq!(bind_pasid(&bench, table, 500, 0), Err(Errno::EBUSY));
    assert_eq!(bind_pasid(&bench, table, 500, Bind::REPLACE), Ok(0));
    assert_eq!(free_pasid(&bench, 500), Err(Errno::EBUSY));
    let mut unbind = Unbind {
        flags: Unbind::PASID,
        device_id: bench.device_id,
        pasid: 500,
        ..Unbind::new()
    };
    assert_eq!(bench.machine.call(&mut unbind), 0);
    assert_eq!(bench.machine.hardware.walk(slot, 0x5000), None);
    assert!(bench.sees(0x5000).is_some());
    assert_eq!(free_pasid(&bench, 500), Ok(0));
    bench.end();
}

#[test]
fn only_pasids_that_the_guest_has_can_be_bound() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    assert_eq!(pasid(&bench, 500, 600), Ok(500));
    // 1 is the host's number behind it: it means nothing to the guest.
    for (number, errno) in [
        (1, Errno::ENOENT),
        (501, Errno::ENOENT),
        (0, Errno::ENOENT),
        (1 << 20, Errno::EINVAL),
        (u32::MAX, Errno::EINVAL),
    ] {
        assert_eq!(bind_pasid(&bench, table, number, 0), Err(errno), "{number}");
    }
    // A PASID without the flag is a reserved field.
    let mut bind = Bind {
        device_id: bench.machine.assign(5),
        ioas_id: table,
        pasid: 500,
        ..Bind::new()
    };
    assert_eq!(
        bench.machine.call(&mut bind),
        Errno::EOPNOTSUPP.to_register()
    );
    assert_eq!(bind_pasid(&bench, table, 500, 0), Ok(0));
    bench.end();
}

#[test]
fn a_device_without_pasids_says_so() {
    for (pasid_bits, result) in [(20, Ok(0)), (0, Err(Errno::EOPNOTSUPP))] {
        let setup = Setup {
            pasid_bits,
            ..Setup::new(SecondStage4)
        };
        let (bench, table) = Bench::bound(setup);
        assert_eq!(pasid(&bench, 500, 600), Ok(500));
        assert_eq!(bind_pasid(&bench, table, 500, 0), result);
        bench.end();
    }
}

#[test]
fn pasids_are_the_lowest_free_ones_of_the_range_that_was_asked_for() {
    let bench = Bench::new(Setup::new(FirstStage4).quota(|quota| quota.pasids = 4));
    assert_eq!(pasid(&bench, 7, 9), Ok(7));
    assert_eq!(pasid(&bench, 6, 9), Ok(6));
    assert_eq!(pasid(&bench, 6, 9), Ok(8));
    assert_eq!(pasid(&bench, 6, 8), Err(Errno::ENOSPC));
    assert_eq!(pasid(&bench, 6, 9), Ok(9));
    assert_eq!(pasid(&bench, 1, 5), Err(Errno::EDQUOT));
    assert_eq!(free_pasid(&bench, 7), Ok(0));
    assert_eq!(free_pasid(&bench, 7), Err(Errno::ENOENT));
    assert_eq!(pasid(&bench, 6, 8), Ok(7));
    for (minimum, maximum) in [(0, 5), (5, 4), (1, 1 << 20), (u32::MAX, u32::MAX)] {
        assert_eq!(pasid(&bench, minimum, maximum), Err(Errno::EINVAL));
    }
    bench.end();
}

#[test]
fn pasids_of_a_dead_guest_can_be_had_again() {
    // The machine has 1,023.
    for _ in 0..20 {
        let bench = Bench::new(Setup::new(FirstStage4));
        for _ in 0..60 {
            pasid(&bench, 1, 1000).unwrap();
        }
        bench.end();
    }
    let bench = Bench::new(Setup::new(FirstStage4));
    for _ in 0..40 {
        for number in 0..60 {
            assert_eq!(pasid(&bench, 1, 1000), Ok(number + 1));
        }
        let vm = common::machine::VM;
        bench.machine.policy.destroy_guest(vm).unwrap();
        let (quota, ram) = (bench.machine.setup.quota, bench.machine.ram.clone());
        bench.machine.policy.create_guest(vm, quota, ram).unwrap();
    }
    bench.end();
}

#[test]
fn devices_are_listed_as_far_as_there_is_room() {
    let bench = Bench::new(Setup::new(FirstStage4));
    bench.machine.assign(5);
    let buffer = 82 << 12;
    bench.machine.ram.write_bytes(buffer, &[0xff; 64]);
    let mut list = DeviceList {
        buffer,
        entry_size: 16,
        capacity: 1,
        ..DeviceList::new()
    };
    assert_eq!(bench.machine.call(&mut list), Errno::EMSGSIZE.to_register());
    assert_eq!(list.count, 2);
    assert_eq!(bench.machine.ram.read_bytes(buffer + 16, 8), [0xff; 8]);
    list.capacity = 2;
    assert_eq!(bench.machine.call(&mut list), 2);
    let bytes = bench.machine.ram.read_bytes(buffer + 16, 16);
    let entry = DeviceEntry::read_from_bytes(&bytes).unwrap();
    assert_eq!((entry.device_id, entry.virtual_id), (2, 5 << 3));
    bench.end();
}

#[test]
fn a_device_says_what_can_be_done_with_it() {
    let all = [
        (FirstStage4, 48, true, true),
        (FirstStage4, 39, false, true),
        (SecondStage4, 48, false, true),
        (SecondStage3, 39, false, true),
        (TableFormat::SecondStage5, 57, false, false),
    ];
    for (format, iova_bits, upper_half, user_table) in all {
        let setup = Setup {
            iova_bits,
            ..Setup::new(format)
        };
        let bench = Bench::new(setup);
        let mut info = DeviceInfo {
            device_id: bench.device_id,
            ..DeviceInfo::new()
        };
        assert_eq!(bench.machine.call(&mut info), 0);
        let has = Capabilities::from_bits_retain(info.capabilities);
        assert_eq!(
            has.contains(Capabilities::UPPER_HALF),
            upper_half,
            "{format:?}"
        );
        assert_eq!(has.contains(Capabilities::USER_TABLE), user_table);
        assert_eq!(has.contains(Capabilities::INVALIDATE_ON_MAP), user_table);
        assert!(!has.intersects(
            Capabilities::HARDWARE_NESTED
                | Capabilities::ACCESSED_DIRTY
                | Capabilities::PAGE_REQUESTS
        ));
        assert_eq!(info.formats, if user_table { 1 << 1 } else { 0 });
        let mut table = bench.user_table(ROOT);
        let allocated = Errno::from_register(bench.machine.call(&mut table));
        assert_eq!(allocated.is_ok(), user_table);
        // The composed answer says what is missing.
        let mut probe = Probe {
            subject: Subject::Use.as_u32(),
            number: Use::SharedVirtualAddressing.as_u32().into(),
            device_id: bench.device_id,
            ..Probe::new()
        };
        assert_eq!(bench.machine.call(&mut probe), 0);
        let missing = Capabilities::from_bits_retain(probe.missing);
        assert!(missing.contains(Capabilities::PAGE_REQUESTS));
        assert_eq!(missing.contains(Capabilities::USER_TABLE), !user_table);
        assert_eq!(probe.supported, 0);
        bench.end();
    }
}

#[test]
fn an_address_space_says_which_addresses_it_translates() {
    let fee = (0xfee0_0000u64, 0xfeef_ffffu64);
    let upper = (0xffff_8000_0000_0000, u64::MAX);
    let lower = |bits: u32| vec![(0, fee.0 - 1), (fee.1 + 1, (1 << bits) - 1)];
    for (format, iova_bits, ranges) in [
        (FirstStage4, 48, [lower(47), vec![upper]].concat()),
        (FirstStage4, 40, lower(40)),
        (SecondStage4, 48, lower(47)),
        (SecondStage3, 48, lower(39)),
    ] {
        let setup = Setup {
            iova_bits,
            ..Setup::new(format)
        };
        let bench = Bench::new(setup);
        let mut ask = IoasRanges {
            ioas_id: bench.allocate(ROOT),
            capacity: 4,
            buffer: 82 << 12,
            ..IoasRanges::new()
        };
        assert_eq!(bench.machine.call(&mut ask), ranges.len() as i64);
        let told: Vec<(u64, u64)> = (0..u64::from(ask.count))
            .map(|index| {
                let word = |at| {
                    bench
                        .machine
                        .ram
                        .read((82 << 12) + 16 * index + at)
                        .unwrap()
                };
                (word(0), word(8))
            })
            .collect();
        assert_eq!(told, ranges, "{format:?} {iova_bits}");
        ask.capacity = 1;
        assert_eq!(bench.machine.call(&mut ask), Errno::EMSGSIZE.to_register());
        assert_eq!(ask.count as usize, ranges.len());
        bench.end();
    }
}

#[test]
fn hints_narrow_the_ranges_that_are_given() {
    let bench = Bench::new(Setup::new(FirstStage4));
    for (base, max, expected) in [
        (
            None,
            0xffff_ffff,
            vec![(0, 0xfedf_ffff), (0xfef0_0000, 0xffff_ffff)],
        ),
        (
            Some(0x1_0000_0000),
            0x1_ffff_ffff,
            vec![(0x1_0000_0000, 0x1_ffff_ffff)],
        ),
    ] {
        let mut ask = IoasAllocate {
            max_iova_hint: max,
            base_iova_hint: base.unwrap_or(0),
            ranges: 82 << 12,
            range_capacity: 4,
            ..bench.user_table(ROOT)
        };
        if base.is_some() {
            ask.flags |= IoasAllocate::HINT_BASE_IOVA;
        }
        assert_eq!(bench.machine.call(&mut ask), 0);
        let told: Vec<(u64, u64)> = (0..u64::from(ask.range_count))
            .map(|index| {
                let word = |at| {
                    bench
                        .machine
                        .ram
                        .read((82 << 12) + 16 * index + at)
                        .unwrap()
                };
                (word(0), word(8))
            })
            .collect();
        assert_eq!(told, expected);
    }
    let mut without_flag = bench.user_table(ROOT);
    without_flag.base_iova_hint = 0x1000;
    let result = bench.machine.call(&mut without_flag);
    assert_eq!(result, Errno::EINVAL.to_register());
    let mut empty = bench.user_table(ROOT);
    empty.flags |= IoasAllocate::HINT_BASE_IOVA;
    (empty.base_iova_hint, empty.max_iova_hint) = (0x2000, 0x1000);
    assert_eq!(bench.machine.call(&mut empty), Errno::EINVAL.to_register());
    bench.end();
}

#[test]
fn what_an_allocation_cannot_have_it_is_refused() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let space = managed(&bench);
    let refused = |change: &dyn Fn(&mut IoasAllocate)| {
        let mut ask = bench.user_table(ROOT);
        change(&mut ask);
        Errno::from_register(bench.machine.call(&mut ask)).err()
    };
    assert_eq!(refused(&|_| {}), None);
    assert_eq!(refused(&|ask| ask.format = 0), Some(Errno::EOPNOTSUPP));
    assert_eq!(
        refused(&|ask| ask.format = 2),
        Some(Errno::EOPNOTSUPP),
        "5 levels"
    );
    assert_eq!(refused(&|ask| ask.format = 9), Some(Errno::EOPNOTSUPP));
    assert_eq!(
        refused(&|ask| ask.format_flags = 1),
        Some(Errno::EOPNOTSUPP)
    );
    assert_eq!(
        refused(&|ask| ask.flags |= IoasAllocate::ENFORCE_SNOOP),
        Some(Errno::EOPNOTSUPP)
    );
    assert_eq!(
        refused(&|ask| ask.parent_ioas_id = space),
        Some(Errno::EOPNOTSUPP)
    );
    assert_eq!(refused(&|ask| ask.parent_ioas_id = 77), Some(Errno::ENOENT));
    assert_eq!(refused(&|ask| ask.device_id = 77), Some(Errno::ENOENT));
    // Without the flag, the hypervisor keeps the table: its fields must say nothing.
    assert_eq!(refused(&|ask| ask.flags = 0), Some(Errno::EOPNOTSUPP));
    assert_eq!(
        refused(&|ask| (ask.flags, ask.format) = (0, 0)),
        Some(Errno::EINVAL)
    );
    bench.end();
}

#[test]
fn probing_tells_what_exists_and_does_nothing() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let ask = |subject: Subject, number: u64, version: u32, device_id: u32| {
        let mut probe = Probe {
            subject: subject.as_u32(),
            number,
            version,
            device_id,
            ..Probe::new()
        };
        let result = bench.machine.call(&mut probe);
        Errno::from_register(result).map(|_| (probe.supported, probe.size, probe.known_flags))
    };
    for version in [1, 2] {
        for &op in Op::ALL {
            let number = op.as_u32().into();
            let (supported, size, _) = ask(Subject::Operation, number, version, 0).unwrap();
            let there_was = size_of_argument(op, version);
            assert_eq!(supported == 1, there_was.is_some(), "{op:?}");
            assert_eq!(size as usize, there_was.unwrap_or(0), "{op:?}");
        }
    }
    assert_eq!(ask(Subject::Operation, 0x131, 1, 0), Ok((0, 0, 0)));
    assert_eq!(ask(Subject::Operation, 0x131, 2, 0), Ok((1, 32, 0)));
    assert_eq!(ask(Subject::Operation, 0x120, 0, 0), Ok((1, 24, 7)));
    assert_eq!(ask(Subject::Operation, 0x1ff, 0, 0), Ok((0, 0, 0)));
    assert_eq!(
        ask(Subject::Operation, 0x120 | 1 << 32, 0, 0),
        Ok((0, 0, 0))
    );
    assert_eq!(ask(Subject::Operation, 0x120, 99, 0), Ok((0, 0, 0)));
    assert_eq!(ask(Subject::Structure, 4, 1, 0), Ok((1, 64, 0)));
    assert_eq!(ask(Subject::Structure, 4, 0, 0), Ok((1, 80, 0)));
    assert_eq!(ask(Subject::Structure, 5, 0, 0), Ok((1, 32, 0)));
    assert_eq!(ask(Subject::Structure, 6, 0, 0), Ok((0, 0, 0)));
    assert_eq!(ask(Subject::Format, 1, 0, bench.device_id), Ok((1, 0, 0)));
    assert_eq!(ask(Subject::Format, 2, 0, bench.device_id), Ok((0, 0, 0)));
    assert_eq!(ask(Subject::Format, 2, 0, 0), Ok((1, 0, 0)));
    assert_eq!(ask(Subject::Format, 1, 0, 77), Err(Errno::ENOENT));
    assert_eq!(ask(Subject::Granularity, 2, 0, 0), Ok((1, 0, 0)));
    assert_eq!(ask(Subject::Granularity, 3, 0, 0), Ok((0, 0, 0)));
    assert_eq!(ask(Subject::Model, 1, 0, 0), Ok((1, 0, 0)));
    assert_eq!(ask(Subject::Use, 2, 0, bench.device_id), Ok((1, 0, 0)));
    let mut unknown = Probe {
        subject: 99,
        ..Probe::new()
    };
    assert_eq!(
        bench.machine.call(&mut unknown),
        Errno::EOPNOTSUPP.to_register()
    );
    bench.end();
}
