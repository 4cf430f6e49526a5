//! The structures of `linux/iommu.h` (v5.10), as the bytes that a C program has: what they
//! ask for is done, and where the driver behind the header went wrong, it is done right.

mod common;

use common::machine::{LEAVES, ROOT, VM, device, rid};
use common::tables::FULL;
use common::{Bench, Setup};
use iommu_abi::*;
use iommu_core::TableFormat::{FirstStage4, SecondStage4};
use iommu_core::{
    Access, FaultKind, FaultReason, FaultRecord, Iova, Nanoseconds, Pasid, ResponseCode, Slot,
};

const AT: u64 = 82 << 12;
const PASID: u64 = 9;

/// A structure as a C program lays it out: fields at offsets.
#[derive(Clone)]
struct C(Vec<u8>);

impl C {
    fn new(size: usize) -> Self {
        Self(vec![0; size]).u32(0, size as u32).u32(4, 1)
    }

    fn u8(mut self, at: usize, value: u8) -> Self {
        self.0[at] = value;
        self
    }

    fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(mut self, at: usize, value: u64) -> Self {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
        self
    }

    fn tail(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        let size = self.0.len() as u32;
        self.u32(0, size)
    }
}

/// `iommu_gpasid_bind_data`: VT-d, 48 bits, this root, this PASID.
fn bind_data(root: u64, pasid: u64) -> C {
    C::new(72)
        .u32(8, 1)
        .u32(12, 48)
        .u64(24, root)
        .u64(32, pasid)
}

const IOTLB: u8 = 1;
const DEV_IOTLB: u8 = 2;
const PASID_CACHE: u8 = 4;

/// `iommu_cache_invalidate_info` of these caches and this granularity.
fn info(cache: u8, granularity: u8) -> C {
    C::new(56).u8(8, cache).u8(9, granularity)
}

/// By PASID.
fn of_pasid(cache: u8, pasid: u64) -> C {
    info(cache, 1).u32(16, 1).u64(24, pasid)
}

/// By address: start, granule, granules.
fn of_addresses(pasid: u64, addr: u64, granule: u64, count: u64) -> C {
    info(IOTLB, 2)
        .u32(16, 1)
        .u64(24, pasid)
        .u64(32, addr)
        .u64(40, granule)
        .u64(48, count)
}

trait Calls {
    fn bind_gpasid(&self, data: &C) -> Result<u32, Errno>;
    fn unbind_gpasid(&self, data: &C) -> Result<u64, Errno>;
    fn cache_invalidate(&self, data: &C) -> Result<u64, Errno>;
    fn page_response(&self, data: &C) -> Result<u64, Errno>;
    fn take_pasid(&self, pasid: u64);
}

impl Calls for Bench {
    fn bind_gpasid(&self, data: &C) -> Result<u32, Errno> {
        self.machine.ram.write_bytes(AT, &data.0);
        let mut ask = LinuxBindGpasid {
            device_id: self.device_id,
            structure: AT,
            ..LinuxBindGpasid::new()
        };
        Errno::from_register(self.machine.call(&mut ask)).map(|_| ask.ioas_id)
    }

    fn unbind_gpasid(&self, data: &C) -> Result<u64, Errno> {
        self.machine.ram.write_bytes(AT, &data.0);
        Errno::from_register(self.machine.call(&mut LinuxUnbindGpasid {
            device_id: self.device_id,
            structure: AT,
            ..LinuxUnbindGpasid::new()
        }))
    }

    fn cache_invalidate(&self, data: &C) -> Result<u64, Errno> {
        self.machine.ram.write_bytes(AT, &data.0);
        Errno::from_register(self.machine.call(&mut LinuxCacheInvalidate {
            device_id: self.device_id,
            structure: AT,
            ..LinuxCacheInvalidate::new()
        }))
    }

    fn page_response(&self, data: &C) -> Result<u64, Errno> {
        self.machine.ram.write_bytes(AT, &data.0);
        Errno::from_register(self.machine.call(&mut LinuxPageResponse {
            device_id: self.device_id,
            structure: AT,
            ..LinuxPageResponse::new()
        }))
    }

    fn take_pasid(&self, pasid: u64) {
        let pasid = pasid as u32;
        let mut ask = PasidAllocate {
            minimum: pasid,
            maximum: pasid,
            ..PasidAllocate::new()
        };
        assert_eq!(self.machine.call(&mut ask), 0);
    }
}

/// Where requests with the guest's first PASID are looked up.
fn slot() -> Slot {
    Slot {
        device: device(4),
        pasid: Pasid::new(1),
    }
}

/// A machine with the guest's table bound to PASID 9 by the old structure.
fn bound(setup: Setup) -> Bench {
    let bench = Bench::new(setup);
    bench.take_pasid(PASID);
    bench.bind_gpasid(&bind_data(ROOT, PASID)).unwrap();
    bench
}

/// Clears the leaf of a page without telling anybody, and says whether hardware still has
/// it after what `tell` tells.
fn still_cached(bench: &Bench, page: u64, tell: impl FnOnce()) -> bool {
    let address = page << 12;
    let slot = slot();
    assert!(!bench.machine.hardware.cached(slot, address).is_empty());
    bench.machine.ram.write(LEAVES + 8 * page, 0);
    tell();
    !bench.machine.hardware.cached(slot, address).is_empty()
}

#[test]
fn a_bound_pasid_uses_the_table_until_it_is_unbound() {
    for format in [FirstStage4, SecondStage4] {
        let bench = bound(Setup::new(format));
        for page in 4..14u64 {
            bench.machine.check_translation(slot(), ROOT, page << 12);
        }
        assert_eq!(bench.machine.hardware.walk(rid(4), 0x5000), None);
        assert_eq!(bench.unbind_gpasid(&bind_data(0, PASID)), Ok(0));
        assert_eq!(bench.machine.hardware.walk(slot(), 0x5000), None);
        assert!(bench.machine.hardware.cached(slot(), 0x5000).is_empty());
        bench.end();
    }
}

#[test]
fn the_address_space_of_a_binding_goes_with_it() {
    let bench = Bench::new(Setup::new(FirstStage4));
    bench.take_pasid(PASID);
    let ioas_id = bench.bind_gpasid(&bind_data(ROOT, PASID)).unwrap();
    // It is one like others: it can be invalidated by its handle.
    bench.changed(ioas_id, &[(0x5000, 1)]);
    let destroy = || {
        bench.machine.call(&mut Destroy {
            id: ioas_id,
            ..Destroy::new()
        })
    };
    assert_eq!(destroy(), Errno::EBUSY.to_register());
    assert_eq!(bench.unbind_gpasid(&bind_data(0, PASID)), Ok(0));
    assert_eq!(destroy(), Errno::ENOENT.to_register());
    // What the other call unbinds goes too.
    assert_eq!(bench.bind_gpasid(&bind_data(ROOT, PASID)), Ok(ioas_id));
    let unbound = bench.machine.call(&mut Unbind {
        flags: Unbind::PASID,
        device_id: bench.device_id,
        pasid: PASID as u32,
        ..Unbind::new()
    });
    assert_eq!((unbound, destroy()), (0, Errno::ENOENT.to_register()));
    bench.end();
}

#[test]
fn what_is_wrong_in_a_bind_is_refused_and_its_twin_is_not() {
    let bench = Bench::new(Setup::new(FirstStage4));
    bench.take_pasid(PASID);
    let good = || bind_data(ROOT, PASID);
    for (what, data, errno) in [
        (
            "argsz below the union",
            C(good().0[..56].to_vec()).u32(0, 56),
            Errno::EINVAL,
        ),
        ("argsz below the least", good().u32(0, 55), Errno::EINVAL),
        ("argsz 0", good().u32(0, 0), Errno::EINVAL),
        ("version 0", good().u32(4, 0), Errno::EINVAL),
        ("version 2", good().u32(4, 2), Errno::EINVAL),
        ("format 0", good().u32(8, 0), Errno::EINVAL),
        ("format 2", good().u32(8, 2), Errno::EINVAL),
        ("47 bits", good().u32(12, 47), Errno::EINVAL),
        ("57 bits on a unit of 48", good().u32(12, 57), Errno::EINVAL),
        ("unknown flag", good().u64(16, 2), Errno::EINVAL),
        ("unknown upper flag", good().u64(16, 1 << 63), Errno::EINVAL),
        ("root not aligned", good().u64(24, ROOT + 8), Errno::EINVAL),
        (
            "root outside memory",
            good().u64(24, 0x600_000),
            Errno::EFAULT,
        ),
        ("PASID 0", good().u64(32, 0), Errno::EINVAL),
        (
            "PASID of 21 bits",
            good().u64(32, 1 << 20 | PASID),
            Errno::EINVAL,
        ),
        (
            "PASID with bits above 32",
            good().u64(32, 1 << 32 | PASID),
            Errno::EINVAL,
        ),
        (
            "PASID that is not the guest's",
            good().u64(32, PASID + 1),
            Errno::ENOENT,
        ),
        (
            "two numbers",
            good().u64(16, 1).u64(40, PASID + 1),
            Errno::EINVAL,
        ),
        ("padding", good().u8(55, 1), Errno::EINVAL),
        (
            "supervisor requests on a shadow",
            good().u64(56, 1),
            Errno::EINVAL,
        ),
        ("extended accessed flags", good().u64(56, 2), Errno::EINVAL),
        ("memory types", good().u64(56, 0x3c), Errno::EINVAL),
        ("unknown vendor flag", good().u64(56, 64), Errno::EINVAL),
        (
            "a tail that says something",
            good().tail(&[0, 1]),
            Errno::E2BIG,
        ),
        ("larger than anything", good().u32(0, 4097), Errno::E2BIG),
    ] {
        assert_eq!(bench.bind_gpasid(&data), Err(errno), "{what}");
        assert_eq!(bench.machine.hardware.walk(slot(), 0x5000), None, "{what}");
    }
    for (what, data) in [
        ("as it is", good()),
        ("the same number twice", good().u64(16, 1).u64(40, PASID)),
        ("a number that does not count", good().u64(40, 77)),
        (
            "page attributes that do not count",
            good().u32(64, 6).u32(68, 7),
        ),
        ("a tail that says nothing", good().tail(&[0; 8])),
    ] {
        assert_eq!(bench.bind_gpasid(&data), Ok(2), "{what}");
        assert_eq!(bench.bind_gpasid(&data), Err(Errno::EBUSY), "{what}, again");
        assert_eq!(bench.unbind_gpasid(&good()), Ok(0));
        assert_eq!(bench.unbind_gpasid(&good()), Err(Errno::ENOENT));
    }
    bench.end();
}

#[test]
fn what_another_call_bound_is_not_unbound_by_the_old_structure() {
    let bench = Bench::new(Setup::new(FirstStage4));
    bench.take_pasid(PASID);
    let ioas_id = bench.allocate(ROOT);
    let bound = bench.machine.call(&mut Bind {
        flags: Bind::PASID,
        device_id: bench.device_id,
        ioas_id,
        pasid: PASID as u32,
        ..Bind::new()
    });
    assert_eq!(bound, 0);
    let data = bind_data(ROOT, PASID);
    assert_eq!(bench.bind_gpasid(&data), Err(Errno::EBUSY));
    assert_eq!(bench.unbind_gpasid(&data), Err(Errno::ENOENT));
    assert!(bench.machine.hardware.walk(slot(), 0x5000).is_some());
    bench.end();
}

#[test]
fn every_invalidation_of_the_headers_table_is_done() {
    let whole = |granularity: u8, cache: u8| match granularity {
        0 => info(cache, 0),
        1 => of_pasid(cache, PASID),
        _ => of_addresses(PASID, 0x5000, 0x1000, 1).u8(8, cache),
    };
    for (granularity, cache) in [
        (0, IOTLB),
        (1, IOTLB),
        (1, DEV_IOTLB),
        (1, IOTLB | DEV_IOTLB),
        (1, IOTLB | DEV_IOTLB | PASID_CACHE),
        (2, IOTLB),
        (2, DEV_IOTLB),
        (2, IOTLB | DEV_IOTLB),
    ] {
        let bench = bound(Setup::new(FirstStage4));
        let stale = still_cached(&bench, 5, || {
            let done = bench.cache_invalidate(&whole(granularity, cache));
            assert_eq!(done, Ok(0), "{granularity} {cache}");
        });
        assert!(!stale, "{granularity} {cache}");
        bench.machine.check_caches();
        bench.end();
    }
    // Entries of a PASID table are nowhere cached, since the guest keeps none.
    let bench = bound(Setup::new(FirstStage4));
    assert_eq!(bench.cache_invalidate(&info(PASID_CACHE, 0)), Ok(0));
    assert_eq!(bench.cache_invalidate(&of_pasid(PASID_CACHE, PASID)), Ok(0));
    assert_eq!(bench.cache_invalidate(&info(0, 0)), Ok(0));
    bench.end();
}

#[test]
fn all_tables_of_a_device_are_forgotten_under_one_flush() {
    for range in [None, Some(0x5000)] {
        let bench = bound(Setup::new(FirstStage4));
        bench.take_pasid(PASID + 1);
        for level in [0x38_000, 0x39_000, 0x3a_000] {
            bench.machine.ram.write(level, (level + 0x1000) | FULL);
        }
        let leaf = 0x3b_000 + 8 * 5;
        bench.machine.ram.write(leaf, 0x25_000 | FULL);
        bench
            .bind_gpasid(&bind_data(0x38_000, PASID + 1))
            .expect("another table");
        let data = match range {
            None => info(IOTLB, 0),
            // Without a PASID: of all that the device uses.
            Some(addr) => of_addresses(PASID, addr, 0x1000, 1).u32(16, 0).u64(24, 0),
        };
        let before = bench.commits();
        let stale = still_cached(&bench, 5, || {
            bench.machine.ram.write(leaf, 0);
            assert_eq!(bench.cache_invalidate(&data), Ok(0));
        });
        assert!(!stale);
        assert_eq!(bench.commits() - before, 1);
        let other = Slot {
            pasid: Pasid::new(2),
            ..slot()
        };
        assert!(bench.machine.hardware.cached(other, 0x5000).is_empty());
        bench.machine.check_caches();
        bench.end();
    }
}

#[test]
fn what_is_wrong_in_an_invalidation_is_refused() {
    let bench = bound(Setup::new(FirstStage4));
    let good = || of_addresses(PASID, 0x5000, 0x1000, 1);
    for (what, data, errno) in [
        (
            "argsz below the least",
            info(IOTLB, 0).u32(0, 15),
            Errno::EINVAL,
        ),
        (
            "argsz below the PASID's",
            of_pasid(IOTLB, PASID).u32(0, 31),
            Errno::EINVAL,
        ),
        (
            "argsz below the addresses'",
            good().u32(0, 55),
            Errno::EINVAL,
        ),
        ("version 2", good().u32(4, 2), Errno::EINVAL),
        ("unknown cache", good().u8(8, 8), Errno::EINVAL),
        ("unknown granularity", good().u8(9, 3), Errno::EINVAL),
        ("padding", good().u8(15, 1), Errno::EINVAL),
        ("architecture's id", good().u32(16, 3), Errno::EINVAL),
        ("unknown flag", good().u32(16, 9), Errno::EINVAL),
        (
            "architecture's id of a PASID",
            of_pasid(IOTLB, PASID).u32(16, 3),
            Errno::EINVAL,
        ),
        ("not page-aligned", good().u64(32, 0x5010), Errno::EINVAL),
        ("not canonical", good().u64(32, 1 << 60), Errno::EINVAL),
        (
            "a tail that says something",
            good().tail(&[0, 1]),
            Errno::E2BIG,
        ),
    ] {
        assert_eq!(bench.cache_invalidate(&data), Err(errno), "{what}");
    }
    assert_eq!(bench.cache_invalidate(&good()), Ok(0));
    assert_eq!(bench.cache_invalidate(&info(IOTLB, 0).u32(0, 16)), Ok(0));
    assert_eq!(
        bench.cache_invalidate(&of_pasid(IOTLB, PASID).u32(0, 32)),
        Ok(0)
    );
    bench.end();
}

// The nine defects of the driver behind the header, one test each.

#[test]
fn linux_1_an_invalidation_that_is_not_supported_is_an_error_and_not_dropped() {
    let bench = bound(Setup::new(FirstStage4));
    for (what, data) in [
        ("device-TLB of a domain", info(DEV_IOTLB, 0)),
        ("both TLBs of a domain", info(IOTLB | DEV_IOTLB, 0)),
        (
            "PASID cache by address",
            of_addresses(PASID, 0x5000, 0x1000, 1).u8(8, PASID_CACHE),
        ),
    ] {
        assert_eq!(bench.cache_invalidate(&data), Err(Errno::EINVAL), "{what}");
    }
    bench.end();
}

#[test]
fn linux_2_a_range_that_is_no_aligned_power_of_two_is_invalidated_to_its_end() {
    // Pages 7 to 9: 3 pages, 4 by the next power of two, and those would be 4 to 7.
    for page in 7..10 {
        let bench = bound(Setup::new(FirstStage4));
        let data = of_addresses(PASID, 0x7000, 0x1000, 3);
        let stale = still_cached(&bench, page, || {
            assert_eq!(bench.cache_invalidate(&data), Ok(0));
        });
        assert!(!stale, "page {page}");
        bench.machine.check_caches();
        bench.end();
    }
    // And no further.
    let bench = bound(Setup::new(FirstStage4));
    bench.told();
    let data = of_addresses(PASID, 0x7000, 0x1000, 3);
    let stale = still_cached(&bench, 10, || {
        assert_eq!(bench.cache_invalidate(&data), Ok(0));
    });
    assert!(stale, "a page beside the range was invalidated");
    bench.end();
}

#[test]
fn linux_3_a_range_whose_length_wraps_or_is_no_page_is_refused() {
    let bench = bound(Setup::new(FirstStage4));
    for (granule, count, errno) in [
        (1 << 63, 2, Errno::EOVERFLOW),
        (0x1000, 1 << 52, Errno::EOVERFLOW),
        (0x1000, u64::MAX, Errno::EOVERFLOW),
        (0x800, 1, Errno::EINVAL),
        (0x800, 2, Errno::EINVAL),
        (0x1001, 1, Errno::EINVAL),
        (0, 1, Errno::EINVAL),
        (0x1000, 0, Errno::EINVAL),
    ] {
        let data = of_addresses(PASID, 0x5000, granule, count);
        let told = bench.cache_invalidate(&data);
        assert_eq!(told, Err(errno), "{granule:#x} * {count:#x}");
    }
    let good = of_addresses(PASID, 0x5000, 0x1000, 2);
    assert_eq!(bench.cache_invalidate(&good), Ok(0));
    bench.end();
}

#[test]
fn linux_4_a_range_of_more_than_2_to_31_pages_is_invalidated_whole() {
    for pages_log2 in [31, 32, 34] {
        let bench = bound(Setup::new(FirstStage4));
        let data = of_addresses(PASID, 0, 0x1000, 1 << pages_log2);
        let stale = still_cached(&bench, 12, || {
            assert_eq!(bench.cache_invalidate(&data), Ok(0));
        });
        assert!(!stale, "2^{pages_log2} pages");
        bench.machine.check_caches();
        bench.end();
    }
}

#[test]
fn linux_5_no_pasid_is_taken_for_pasid_0() {
    let bench = bound(Setup::new(FirstStage4));
    // By PASID, without one: nothing is meant.
    let none = of_pasid(IOTLB, PASID).u32(16, 0);
    assert_eq!(bench.cache_invalidate(&none), Err(Errno::EINVAL));
    let zero = of_pasid(IOTLB, 0);
    assert_eq!(bench.cache_invalidate(&zero), Err(Errno::EINVAL));
    let zero = of_addresses(0, 0x5000, 0x1000, 1);
    assert_eq!(bench.cache_invalidate(&zero), Err(Errno::EINVAL));
    // By address, without one: everything that the device uses, as the header says. The
    // number that stands there does not count.
    for number in [0, PASID, 1 << 40] {
        let bench = bound(Setup::new(FirstStage4));
        let global = of_addresses(number, 0x5000, 0x1000, 1).u32(16, 0);
        let stale = still_cached(&bench, 5, || {
            assert_eq!(bench.cache_invalidate(&global), Ok(0));
        });
        assert!(!stale, "{number:#x}");
        bench.end();
    }
    bench.end();
}

#[test]
fn linux_6_a_pasid_of_more_than_20_bits_reaches_no_descriptor() {
    let bench = bound(Setup::new(FirstStage4));
    bench.told();
    let before = bench.commits();
    for bit in 20..64 {
        let pasid = PASID | 1 << bit;
        let told = bench.cache_invalidate(&of_pasid(IOTLB, pasid));
        assert_eq!(told, Err(Errno::EINVAL), "bit {bit}");
        let told = bench.cache_invalidate(&of_addresses(pasid, 0x5000, 0x1000, 1));
        assert_eq!(told, Err(Errno::EINVAL), "bit {bit}");
    }
    assert_eq!(bench.commits(), before, "hardware was told something");
    assert_eq!(bench.cache_invalidate(&of_pasid(IOTLB, PASID)), Ok(0));
    bench.end();
}

#[test]
fn linux_7_a_pasid_that_the_caller_has_not_bound_is_not_invalidated() {
    let bench = bound(Setup::new(FirstStage4));
    bench.take_pasid(PASID + 1);
    let before = bench.commits();
    // The guest's and not bound; the machine's number of the bound one; nobody's.
    for pasid in [PASID + 1, 1, 500] {
        for data in [
            of_pasid(IOTLB, pasid),
            of_pasid(PASID_CACHE, pasid),
            of_addresses(pasid, 0x5000, 0x1000, 1),
        ] {
            assert_eq!(bench.cache_invalidate(&data), Err(Errno::ENOENT), "{pasid}");
        }
    }
    assert_eq!(bench.commits(), before, "hardware was told something");
    assert_eq!(bench.cache_invalidate(&of_pasid(IOTLB, PASID)), Ok(0));
    bench.end();
}

#[test]
fn linux_8_what_lies_where_another_granularity_has_its_flags_is_no_hint() {
    // A table page is taken out: with the leaf hint, the pointer to it would stay.
    let bench = bound(Setup::new(FirstStage4));
    bench.machine.ram.write(0x3000, 0);
    // Bit 2 is the leaf hint of the other member; here it is no flag.
    let hinted = of_pasid(IOTLB, PASID).u32(16, 1 | 4);
    assert_eq!(bench.cache_invalidate(&hinted), Err(Errno::EINVAL));
    // What the other member has further on does not count.
    let data = of_pasid(IOTLB, PASID).u64(32, u64::MAX).u64(40, u64::MAX);
    assert_eq!(bench.cache_invalidate(&data), Ok(0));
    assert_eq!(bench.machine.hardware.walk(slot(), 0x5000), None);
    assert!(bench.machine.hardware.cached(slot(), 0x5000).is_empty());
    bench.machine.check_caches();
    // The hint counts where it is one, and leaves the pointers alone.
    bench.machine.ram.write(0x3000, LEAVES | FULL);
    assert_eq!(bench.cache_invalidate(&of_pasid(IOTLB, PASID)), Ok(0));
    bench.told();
    bench.machine.ram.write(LEAVES + 8 * 5, 0);
    let leaf = of_addresses(PASID, 0x5000, 0x1000, 1).u32(16, 1 | 4);
    assert_eq!(bench.cache_invalidate(&leaf), Ok(0));
    assert_eq!(bench.told().0, [(0x5000, 1, true)]);
    bench.end();
}

#[test]
fn linux_9_hardware_is_waited_for_with_no_lock_held() {
    let bench = bound(Setup::new(FirstStage4));
    bench.machine.ram.write(LEAVES + 8 * 5, 0);
    let held = || std::mem::take(&mut bench.machine.hardware.state.lock().unwrap().locks_at_commit);
    held();
    assert_eq!(bench.cache_invalidate(&of_pasid(IOTLB, PASID)), Ok(0));
    let held = held();
    assert!(!held.is_empty(), "hardware was not waited for");
    assert!(held.iter().all(|&locks| locks == 0), "{held:?}");
    bench.end();
}

fn fault(bench: &Bench, address: u64, pasid: Option<u32>) {
    let record = FaultRecord {
        unit: 0,
        device: device(4),
        pasid: pasid.and_then(Pasid::new),
        kind: FaultKind::Dma {
            address: Iova::new(address),
            access: Access::WRITE,
        },
        reason: FaultReason::FIRST_STAGE_NOT_PRESENT,
        privileged: false,
        at: Nanoseconds(0),
    };
    bench.machine.policy.report(&record).expect("the guest's");
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn faults_come_as_the_structure_has_them() {
    let bench = bound(Setup::new(FirstStage4));
    let events = 70 << 12;
    fault(&bench, 20 << 12, Some(1));
    // Another device's does not fit in: the structure does not name it.
    let other = bench.machine.assign(5);
    let record = FaultRecord {
        unit: 0,
        device: device(5),
        pasid: None,
        kind: FaultKind::Dma {
            address: Iova::new(0x1000),
            access: Access::READ,
        },
        reason: FaultReason::PASID_NOT_PRESENT,
        privileged: false,
        at: Nanoseconds(0),
    };
    bench.machine.policy.report(&record).expect("the guest's");
    let mut ask = LinuxFaultRead {
        buffer: events,
        capacity: 8,
        ..LinuxFaultRead::new()
    };
    assert_eq!(bench.machine.call(&mut ask), 1);
    assert_eq!((ask.device_id, ask.count), (bench.device_id, 1));
    assert_eq!((ask.lost, ask.remaining), (0, 1));
    let bytes = bench.machine.ram.read_bytes(events, 64);
    assert_eq!((word(&bytes, 0), word(&bytes, 4)), (1, 0), "unrecoverable");
    assert_eq!(word(&bytes, 8), 5, "PTE_FETCH");
    assert_eq!(word(&bytes, 12), 7, "PASID, address and place are valid");
    assert_eq!(word(&bytes, 16), PASID as u32, "of the guest's numbering");
    assert_eq!(word(&bytes, 20), 2, "a write");
    assert_eq!(long(&bytes, 24), 20 << 12);
    assert_eq!(long(&bytes, 32), LEAVES + 8 * 20);
    assert_eq!(bytes[40..], [0; 24]);
    assert_eq!(bench.machine.call(&mut ask), 1);
    assert_eq!((ask.device_id, ask.remaining), (other, 0));
    let bytes = bench.machine.ram.read_bytes(events, 64);
    assert_eq!(word(&bytes, 8), 3, "PASID_INVALID");
    assert_eq!(bench.machine.call(&mut ask), 0);
    assert_eq!(ask.device_id, 0);
    bench.end();
}

#[test]
fn a_page_request_is_answered_once_by_what_its_device_called_it() {
    let bench = Bench::new(Setup::new(FirstStage4));
    bench.take_pasid(PASID);
    bench.allow_asking();
    bench.bind_gpasid(&bind_data(ROOT, PASID)).unwrap();
    bench.asks(slot(), 7);
    let events = 70 << 12;
    let mut ask = LinuxFaultRead {
        buffer: events,
        capacity: 8,
        ..LinuxFaultRead::new()
    };
    assert_eq!(bench.machine.call(&mut ask), 1);
    let bytes = bench.machine.ram.read_bytes(events, 64);
    assert_eq!((word(&bytes, 0), word(&bytes, 4)), (2, 0), "page request");
    assert_eq!(word(&bytes, 8), 1 | 2 | 8, "PASID, last, needs the PASID");
    assert_eq!(word(&bytes, 12), PASID as u32);
    assert_eq!((word(&bytes, 16), word(&bytes, 20)), (7, 3));
    assert_eq!(long(&bytes, 24), 0x9000);
    assert_eq!(bytes[32..], [0; 32], "what is the device's own stays here");
    let good = || C::new(24).u32(8, 1).u32(12, PASID as u32).u32(16, 7);
    for (what, data, errno) in [
        ("argsz too small", good().u32(0, 23), Errno::EINVAL),
        ("version 2", good().u32(4, 2), Errno::EINVAL),
        ("unknown flag", good().u32(8, 3), Errno::EINVAL),
        (
            "a code that hardware would take for flags",
            good().u32(20, 15),
            Errno::EINVAL,
        ),
        (
            "a code of too many bits",
            good().u32(20, 1 << 16),
            Errno::EINVAL,
        ),
        ("another group", good().u32(16, 8), Errno::ENOENT),
        ("another PASID", good().u32(12, 1), Errno::ENOENT),
        ("PASID 0", good().u32(12, 0), Errno::EINVAL),
        ("no PASID", good().u32(8, 0), Errno::ENOENT),
    ] {
        assert_eq!(bench.page_response(&data), Err(errno), "{what}");
    }
    let answered = || {
        bench
            .machine
            .hardware
            .state
            .lock()
            .unwrap()
            .answered
            .clone()
    };
    assert!(answered().is_empty());
    assert_eq!(bench.page_response(&good()), Ok(0));
    let answers = answered();
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].slot, answers[0].group), (slot(), 7));
    assert_eq!(answers[0].code, ResponseCode::Success);
    assert_eq!(bench.page_response(&good()), Err(Errno::ENOENT), "once");
    // 1 is an invalid request, and 2 is a failure: not hardware's number of one.
    for (code, meant) in [
        (1, ResponseCode::InvalidRequest),
        (2, ResponseCode::Failure),
    ] {
        bench.asks(slot(), 7);
        assert_eq!(bench.page_response(&good().u32(20, code)), Ok(0));
        assert_eq!(answered().last().unwrap().code, meant);
    }
    bench.machine.policy.destroy_guest(VM).unwrap();
}
