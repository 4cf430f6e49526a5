//! Address spaces that the hypervisor keeps: mapped and unmapped by calls.

mod common;

use common::machine::{CONTIGUOUS, ON_INTERRUPTS, READ_ONLY as READ_ONLY_MEMORY, ROOT, VM};
use common::{Bench, Setup};
use iommu_abi::*;
use iommu_core::TableFormat::SecondStage4;
use iommu_core::{AddressRange, Gpa};

const BOTH: u32 = IoasMap::READABLE | IoasMap::WRITEABLE;

fn space() -> (Bench, u32) {
    let bench = Bench::new(Setup::new(SecondStage4).quota(|quota| quota.mappings = 8));
    let mut ask = IoasAllocate {
        device_id: bench.device_id,
        max_iova_hint: 0xffff_ffff,
        ..IoasAllocate::new()
    };
    assert_eq!(bench.machine.call(&mut ask), 0);
    assert_eq!(bench.bind(bench.device_id, ask.ioas_id), 0);
    (bench, ask.ioas_id)
}

fn map(
    bench: &Bench,
    ioas_id: u32,
    flags: u32,
    iova: u64,
    gpa: u64,
    length: u64,
) -> Result<u64, Errno> {
    let mut ask = IoasMap {
        flags,
        ioas_id,
        gpa,
        length,
        iova,
        ..IoasMap::new()
    };
    let result = bench.machine.call(&mut ask);
    Errno::from_register(result).map(|_| ask.iova)
}

fn fixed(bench: &Bench, ioas_id: u32, iova: u64, gpa: u64, length: u64) -> Result<u64, Errno> {
    map(
        bench,
        ioas_id,
        IoasMap::FIXED_IOVA | BOTH,
        iova,
        gpa,
        length,
    )
}

fn unmap(bench: &Bench, ioas_id: u32, iova: u64, length: u64) -> Result<u64, Errno> {
    let mut ask = IoasUnmap {
        ioas_id,
        iova,
        length,
        ..IoasUnmap::new()
    };
    let result = bench.machine.call(&mut ask);
    Errno::from_register(result).map(|_| ask.length)
}

#[test]
fn a_device_sees_what_is_mapped_until_it_is_unmapped() {
    let (bench, space) = space();
    assert_eq!(
        fixed(&bench, space, 0x10_0000, 0x20_000, 0x3000),
        Ok(0x10_0000)
    );
    for page in 0..3u64 {
        let at = page << 12;
        assert_eq!(bench.sees(0x10_0000 + at), bench.host(0x20_000 + at));
        assert!(bench.sees(0x10_0000 + at).is_some());
    }
    assert_eq!(bench.sees(0x10_3000), None);
    assert_eq!(unmap(&bench, space, 0x10_0000, 0x3000), Ok(0x3000));
    assert_eq!(bench.sees(0x10_0000), None);
    bench.end();
}

#[test]
fn free_addresses_are_found_between_what_is_taken() {
    let (bench, space) = space();
    let anywhere = |length| map(&bench, space, BOTH, u64::MAX, 0x20_000, length);
    assert_eq!(anywhere(0x2000), Ok(0x1000), "not page 0");
    assert_eq!(anywhere(0x1000), Ok(0x3000));
    assert_eq!(anywhere(0x1000), Ok(0x4000));
    assert_eq!(unmap(&bench, space, 0x3000, 0x1000), Ok(0x1000));
    assert_eq!(anywhere(0x2000), Ok(0x5000));
    assert_eq!(anywhere(0x1000), Ok(0x3000));
    bench.end();
}

#[test]
fn addresses_that_mean_interrupts_or_lie_outside_the_window_are_not_given() {
    let (bench, space) = space();
    for (iova, errno) in [
        (0xfedf_f000, None),
        (0xfef0_0000, None),
        (0xfee0_0000, Some(Errno::EINVAL)),
        (0xfeef_f000, Some(Errno::EINVAL)),
        (0xffff_f000, None),
        (0x1_0000_0000, Some(Errno::EINVAL)),
        (0x1001, Some(Errno::EINVAL)),
        (u64::MAX << 12, Some(Errno::EINVAL)),
    ] {
        let result = fixed(&bench, space, iova, 0x20_000, 0x1000);
        assert_eq!(result.err(), errno, "{iova:#x}");
    }
    // Most of what is below the interrupt range is taken: the next lies above it.
    bench.end();
}

#[test]
fn only_memory_that_the_guest_has_with_these_rights_is_mapped() {
    let (bench, space) = space();
    let read = IoasMap::FIXED_IOVA | IoasMap::READABLE;
    for (flags, gpa, length, errno) in [
        (read, 0x20_000, 0x1000, None),
        (read, 0x20_001, 0x1000, Some(Errno::EINVAL)),
        (read, 0x20_000, 0x1001, Some(Errno::EINVAL)),
        (read, 0x20_000, 0, Some(Errno::EINVAL)),
        (read, u64::MAX << 12, 0x2000, Some(Errno::EOVERFLOW)),
        (read, 0x600_000, 0x1000, Some(Errno::EFAULT)),
        (read, ON_INTERRUPTS << 12, 0x1000, Some(Errno::EFAULT)),
        (read, READ_ONLY_MEMORY << 12, 0x1000, None),
        (
            read | IoasMap::WRITEABLE,
            READ_ONLY_MEMORY << 12,
            0x1000,
            Some(Errno::EFAULT),
        ),
        (IoasMap::FIXED_IOVA, 0x20_000, 0x1000, Some(Errno::EINVAL)),
    ] {
        let result = map(&bench, space, flags, 0x10_0000, gpa, length);
        assert_eq!(result.err(), errno, "{gpa:#x} {length:#x}");
        if result.is_ok() {
            assert_eq!(unmap(&bench, space, 0x10_0000, length), Ok(length));
        }
        assert_eq!(bench.sees(0x10_0000), None);
    }
    bench.end();
}

#[test]
fn a_mapping_that_hardware_does_not_confirm_leaves_nothing() {
    let (bench, space) = space();
    bench.machine.hardware.fail_next("commit");
    let failed = fixed(&bench, space, 0x20_0000, 0x20_000, 0x2000);
    assert_eq!(failed, Err(Errno::ETIMEDOUT));
    assert_eq!(bench.sees(0x20_0000), None);
    assert_eq!(bench.sees(0x20_1000), None);
    assert_eq!(
        fixed(&bench, space, 0x20_0000, 0x20_000, 0x2000),
        Ok(0x20_0000)
    );
    assert_eq!(bench.sees(0x20_1000), bench.host(0x21_000));
    bench.end();
}

#[test]
fn a_mapping_that_fails_and_stays_is_known_and_goes_with_its_memory() {
    let (bench, space) = space();
    bench.machine.hardware.fail_next("commit");
    bench.machine.hardware.fail_next("unmap");
    let failed = fixed(&bench, space, 0x20_0000, 0x20_000, 0x1000);
    assert_eq!(failed, Err(Errno::ETIMEDOUT));
    assert!(bench.sees(0x20_0000).is_some());
    let runs = bench.machine.ram.remove(0x20, 1);
    let gone = AddressRange::of_pages(Gpa::new(0x20_000), 1).unwrap();
    bench.machine.policy.forget(VM, &gone, &runs).unwrap();
    bench.machine.ram.reuse(&runs);
    assert_eq!(bench.sees(0x20_0000), None);
    assert_eq!(unmap(&bench, space, 0x20_0000, 0x1000), Ok(0x1000));
    bench.end();
}

#[test]
fn an_address_space_whose_end_hardware_does_not_confirm_is_gone() {
    let bench = Bench::new(Setup::new(SecondStage4));
    let mut ask = IoasAllocate {
        device_id: bench.device_id,
        ..IoasAllocate::new()
    };
    assert_eq!(bench.machine.call(&mut ask), 0);
    let mut destroy = Destroy {
        id: ask.ioas_id,
        ..Destroy::new()
    };
    bench.machine.hardware.fail_next("commit");
    let result = bench.machine.call(&mut destroy);
    assert_eq!(result, Errno::ETIMEDOUT.to_register());
    let result = bench.machine.call(&mut destroy);
    assert_eq!(result, Errno::ENOENT.to_register());
    bench.machine.policy.destroy_guest(VM).unwrap();
}

#[test]
fn a_mapping_that_fails_half_way_leaves_nothing() {
    let (bench, space) = space();
    // 8 pages of memory, and then a hole.
    assert_eq!(
        fixed(&bench, space, 0x10_0000, 88 << 12, 16 << 12),
        Err(Errno::EFAULT)
    );
    for page in 0..16u64 {
        assert_eq!(bench.sees(0x10_0000 + (page << 12)), None);
    }
    assert!(fixed(&bench, space, 0x10_0000, 88 << 12, 8 << 12).is_ok());
    bench.machine.hardware.fail_next("map");
    let failed = fixed(&bench, space, 0x20_0000, 0x20_000, 0x1000);
    assert_eq!(failed, Err(Errno::ENOMEM));
    assert!(fixed(&bench, space, 0x20_0000, 0x20_000, 0x1000).is_ok());
    bench.end();
}

#[test]
fn mappings_do_not_overlap_and_are_taken_out_whole() {
    let (bench, space) = space();
    assert!(fixed(&bench, space, 0x10_0000, 0x20_000, 0x4000).is_ok());
    assert_eq!(
        fixed(&bench, space, 0x10_3000, 0x30_000, 0x2000),
        Err(Errno::EEXIST)
    );
    assert!(fixed(&bench, space, 0x10_4000, 0x30_000, 0x2000).is_ok());
    assert_eq!(unmap(&bench, space, 0x10_0000, 0x1000), Err(Errno::ENOENT));
    assert_eq!(unmap(&bench, space, 0x10_0000, 0x5000), Err(Errno::ENOENT));
    assert!(bench.sees(0x10_0000).is_some());
    assert_eq!(unmap(&bench, space, 0x30_0000, 0x1000), Err(Errno::ENOENT));
    assert_eq!(unmap(&bench, space, 0, 0x1000_0000), Ok(0x6000));
    assert_eq!(unmap(&bench, space, 0, u64::MAX), Ok(0));
    bench.end();
}

#[test]
fn many_runs_are_one_mapping() {
    let (bench, space) = space();
    assert!(fixed(&bench, space, 0x10_0000, 0, 90 << 12).is_ok());
    assert!(fixed(&bench, space, 0x100_0000, CONTIGUOUS << 12, 1024 << 12).is_ok());
    for page in 0..90u64 {
        assert_eq!(bench.sees(0x10_0000 + (page << 12)), bench.host(page << 12));
    }
    assert_eq!(unmap(&bench, space, 0, u64::MAX), Ok((90 + 1024) << 12));
    bench.end();
}

#[test]
fn mappings_have_a_quota() {
    let (bench, space) = space();
    for number in 0..8u64 {
        assert!(fixed(&bench, space, 0x10_0000 + (number << 12), 0x20_000, 0x1000).is_ok());
    }
    assert_eq!(
        fixed(&bench, space, 0x20_0000, 0x20_000, 0x1000),
        Err(Errno::EDQUOT)
    );
    assert_eq!(unmap(&bench, space, 0x10_0000, 0x1000), Ok(0x1000));
    assert!(fixed(&bench, space, 0x20_0000, 0x20_000, 0x1000).is_ok());
    bench.end();
}

#[test]
fn a_table_of_the_guests_own_is_not_mapped_into() {
    let bench = Bench::new(Setup::new(SecondStage4));
    let table = bench.allocate(ROOT);
    assert_eq!(
        fixed(&bench, table, 0x10_0000, 0x20_000, 0x1000),
        Err(Errno::ENOENT)
    );
    assert_eq!(unmap(&bench, table, 0, u64::MAX), Err(Errno::ENOENT));
    bench.end();
}

#[test]
fn a_bound_space_goes_with_its_guest() {
    let (bench, space) = space();
    assert!(fixed(&bench, space, 0x10_0000, 0x20_000, 0x1000).is_ok());
    let mut destroy = Destroy {
        id: space,
        ..Destroy::new()
    };
    assert_eq!(bench.machine.call(&mut destroy), Errno::EBUSY.to_register());
    bench.end();
}
