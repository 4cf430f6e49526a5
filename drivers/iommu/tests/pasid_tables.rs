//! A PASID table of the guest's own: what it says is bound, no more and no less, whatever
//! stands in it.

mod common;

use common::machine::{LEAVES, ROOT, VM, device, rid};
use common::tables::FULL;
use common::{Bench, Setup};
use iommu_abi::*;
use iommu_core::TableFormat::{FirstStage4, SecondStage4};
use iommu_core::{AddressRange, Gpa, Pasid, Slot};

/// The guest's directory, and a PASID table for its first entries.
const DIRECTORY: u64 = 40 << 12;
const TABLE: u64 = 41 << 12;
/// Another table with its root, of which page 5 leads elsewhere.
const OTHER_ROOT: u64 = 42 << 12;

const PRESENT: u64 = 1;
/// PGTT 001.
const FIRST_STAGE: u64 = 1 << 6;

struct Keeper {
    bench: Bench,
}

impl Keeper {
    fn new(setup: Setup) -> Self {
        let bench = Bench::new(setup);
        let ram = &bench.machine.ram;
        for (at, to) in [(OTHER_ROOT, 43u64), (43 << 12, 44), (44 << 12, 45)] {
            ram.write(at, to << 12 | FULL);
        }
        ram.write((45 << 12) + 8 * 5, 0x30_000 | FULL);
        ram.write(DIRECTORY, TABLE | PRESENT);
        Self { bench }
    }

    /// Writes the entry of a PASID below 64: a first stage with this root.
    fn set(&self, pasid: u64, root: u64) {
        self.set_words(pasid, [PRESENT | FIRST_STAGE, 0, root]);
    }

    fn set_words(&self, pasid: u64, words: [u64; 3]) {
        for (word, at) in words.iter().zip((TABLE + 64 * pasid..).step_by(8)) {
            self.bench.machine.ram.write(at, *word);
        }
    }

    fn try_bind(
        &self,
        change: impl FnOnce(&mut PasidTableBind),
    ) -> (Result<u64, Errno>, PasidTableBind) {
        let mut ask = PasidTableBind {
            device_id: self.bench.device_id,
            directory: DIRECTORY,
            ..PasidTableBind::new()
        };
        change(&mut ask);
        let result = self.bench.machine.call(&mut ask);
        (Errno::from_register(result), ask)
    }

    #[track_caller]
    fn bind(&self) -> PasidTableBind {
        let (result, ask) = self.try_bind(|_| ());
        assert_eq!(result, Ok(0));
        ask
    }

    fn invalidate(&self, first: u32, last: u32) -> (Result<u64, Errno>, PasidTableInvalidate) {
        let mut ask = PasidTableInvalidate {
            device_id: self.bench.device_id,
            first_pasid: first,
            last_pasid: last,
            ..PasidTableInvalidate::new()
        };
        let result = self.bench.machine.call(&mut ask);
        (Errno::from_register(result), ask)
    }

    #[track_caller]
    fn told(&self, pasid: u32) -> PasidTableInvalidate {
        let (result, ask) = self.invalidate(pasid, pasid);
        assert_eq!(result, Ok(0));
        ask
    }

    fn unbind(&self) -> Result<u64, Errno> {
        Errno::from_register(self.bench.machine.call(&mut PasidTableUnbind {
            device_id: self.bench.device_id,
            ..PasidTableUnbind::new()
        }))
    }

    /// Where page 5 leads with a PASID of the machine's.
    fn sees(&self, host_pasid: u32) -> Option<u64> {
        let walked = self.bench.machine.hardware.walk(slot(host_pasid), 0x5000);
        walked.map(|(host, _)| host)
    }

    /// Where page 5 leads without PASID.
    fn sees_without(&self) -> Option<u64> {
        self.bench.sees(0x5000)
    }

    fn host(&self, gpa: u64) -> Option<u64> {
        self.bench.host(gpa)
    }

    fn objects(&self) -> usize {
        let is_there = |id: &u32| {
            let mut ask = IoasRanges {
                ioas_id: *id,
                ..IoasRanges::new()
            };
            self.bench.machine.call(&mut ask) != Errno::ENOENT.to_register()
        };
        (2..64).filter(is_there).count()
    }
}

/// By the machine's PASID: the lowest that are free, in the order in which they were taken.
fn slot(host_pasid: u32) -> Slot {
    Slot {
        device: device(4),
        pasid: Pasid::new(host_pasid),
    }
}

#[test]
fn every_present_entry_is_bound_and_no_other() {
    for format in [FirstStage4, SecondStage4] {
        let keeper = Keeper::new(Setup::new(format));
        keeper.set(0, OTHER_ROOT);
        keeper.set(3, ROOT);
        keeper.set(63, OTHER_ROOT);
        let bound = keeper.bind();
        assert_eq!((bound.bound, bound.refused, bound.next_pasid), (3, 0, 0));
        // Entry 0 is for requests without PASID; the others in ascending order.
        assert_eq!(keeper.sees_without(), keeper.host(0x30_000));
        assert_eq!(keeper.sees(1), keeper.host(0x25_000));
        assert_eq!(keeper.sees(2), keeper.host(0x30_000));
        assert_eq!(keeper.sees(3), None);
        for page in 4..14u64 {
            keeper
                .bench
                .machine
                .check_translation(slot(1), ROOT, page << 12);
        }
        assert_eq!(keeper.unbind(), Ok(0));
        assert_eq!((keeper.sees_without(), keeper.sees(1)), (None, None));
        keeper.bench.machine.check_caches();
        assert_eq!(keeper.objects(), 0, "address spaces stayed");
        assert_eq!(keeper.unbind(), Err(Errno::ENOENT));
        keeper.bench.end();
    }
}

#[test]
fn a_change_is_followed_when_it_is_told_and_the_rest_is_left_alone() {
    let keeper = Keeper::new(Setup::new(FirstStage4));
    keeper.set(3, ROOT);
    keeper.bind();
    // Not present to present.
    keeper.set(5, ROOT);
    assert_eq!(keeper.sees(2), None);
    assert_eq!(keeper.told(5).bound, 2);
    assert_eq!(keeper.sees(2), keeper.host(0x25_000));
    // From one table to another: the same PASID goes on.
    keeper.set(5, OTHER_ROOT);
    assert_eq!(keeper.told(5).bound, 2);
    assert_eq!(keeper.sees(2), keeper.host(0x30_000));
    keeper.bench.machine.check_caches();
    // What did not change costs hardware nothing.
    let before = keeper.bench.commits();
    let (result, all) = keeper.invalidate(0, 0xf_ffff);
    assert_eq!((result, all.bound, all.next_pasid), (Ok(0), 2, 0));
    assert_eq!(keeper.bench.commits(), before);
    // Present to not present.
    keeper.set_words(5, [0, 0, OTHER_ROOT]);
    assert_eq!(keeper.told(4).bound, 2, "another one was told");
    assert!(keeper.sees(2).is_some());
    assert_eq!(keeper.told(5).bound, 1);
    assert_eq!(keeper.sees(2), None);
    assert_eq!(keeper.sees(1), keeper.host(0x25_000));
    // A directory entry that is taken out takes all behind it.
    keeper.bench.machine.ram.write(DIRECTORY, 0);
    assert_eq!(keeper.told(63).bound, 1, "only what is told is looked at");
    assert_eq!(keeper.invalidate(0, 63).1.bound, 0);
    assert_eq!(keeper.sees(1), None);
    assert_eq!(keeper.objects(), 0);
    keeper.bench.end();
}

#[test]
fn changes_of_the_tables_behind_are_told_by_pasid() {
    let keeper = Keeper::new(Setup::new(FirstStage4));
    keeper.set(3, ROOT);
    keeper.bind();
    keeper
        .bench
        .machine
        .ram
        .write(LEAVES + 8 * 5, 0x31_000 | FULL);
    let at = 82 << 12;
    let info = LinuxCacheInvalidateInfo {
        argsz: 56,
        version: 1,
        cache: LinuxCacheInvalidateInfo::IOTLB,
        granularity: 1,
        ..LinuxCacheInvalidateInfo::default()
    };
    let of_pasid = LinuxInvPasidInfo {
        flags: LinuxInvPasidInfo::PASID,
        pasid: 3,
        ..LinuxInvPasidInfo::default()
    };
    let write = |info: &LinuxCacheInvalidateInfo| {
        keeper.bench.machine.ram.write_bytes(at, info.as_bytes());
        keeper
            .bench
            .machine
            .ram
            .write_bytes(at + 16, of_pasid.as_bytes());
        Errno::from_register(keeper.bench.machine.call(&mut LinuxCacheInvalidate {
            device_id: keeper.bench.device_id,
            structure: at,
            ..LinuxCacheInvalidate::new()
        }))
    };
    assert_eq!(write(&info), Ok(0));
    assert_eq!(keeper.sees(1), keeper.host(0x31_000));
    // The PASID cache is what entries are told by.
    keeper.set(3, OTHER_ROOT);
    assert_eq!(write(&info), Ok(0));
    assert_eq!(keeper.sees(1), keeper.host(0x31_000));
    let entries = LinuxCacheInvalidateInfo {
        cache: LinuxCacheInvalidateInfo::PASID,
        ..info
    };
    assert_eq!(write(&entries), Ok(0));
    assert_eq!(keeper.sees(1), keeper.host(0x30_000));
    keeper.set_words(3, [0; 3]);
    let all = LinuxCacheInvalidateInfo {
        cache: LinuxCacheInvalidateInfo::PASID,
        granularity: 0,
        ..info
    };
    assert_eq!(write(&all), Ok(0));
    assert_eq!(keeper.sees(1), None);
    keeper.bench.end();
}

#[test]
fn an_entry_that_hardware_would_refuse_is_blocked_with_its_reason() {
    for (what, words, reason) in [
        ("no translation", [PRESENT, 0, ROOT], 0x5b),
        ("second stage", [PRESENT | 2 << 6, 0, ROOT], 0x5b),
        ("nested", [PRESENT | 3 << 6, 0, ROOT], 0x5b),
        ("pass-through", [PRESENT | 4 << 6, 0, ROOT], 0x5b),
        (
            "five levels",
            [PRESENT | FIRST_STAGE, 0, ROOT | 1 << 2],
            0x5b,
        ),
        (
            "no such paging mode",
            [PRESENT | FIRST_STAGE, 0, ROOT | 2 << 2],
            0x5b,
        ),
        (
            "supervisor requests on a shadow",
            [PRESENT | FIRST_STAGE, 0, ROOT | 1],
            0x5b,
        ),
        (
            "reserved bit 5",
            [PRESENT | FIRST_STAGE | 1 << 5, 0, ROOT],
            0x5a,
        ),
        (
            "reserved bit 10",
            [PRESENT | FIRST_STAGE | 1 << 10, 0, ROOT],
            0x5a,
        ),
        (
            "reserved bit 80",
            [PRESENT | FIRST_STAGE, 1 << 16, ROOT],
            0x5a,
        ),
        (
            "cache disable",
            [PRESENT | FIRST_STAGE, 1 << 25, ROOT],
            0x5a,
        ),
        (
            "page attributes",
            [PRESENT | FIRST_STAGE, 6 << 32, ROOT],
            0x5a,
        ),
        (
            "reserved bit 129",
            [PRESENT | FIRST_STAGE, 0, ROOT | 2],
            0x5a,
        ),
        (
            "extended accessed flags",
            [PRESENT | FIRST_STAGE, 0, ROOT | 1 << 7],
            0x5a,
        ),
        (
            "a root outside memory",
            [PRESENT | FIRST_STAGE, 0, 0x600_000],
            0x79,
        ),
        (
            "a root beyond any memory",
            [PRESENT | FIRST_STAGE, 0, 1 << 51],
            0x79,
        ),
    ] {
        let keeper = Keeper::new(Setup::new(FirstStage4));
        keeper.set(2, OTHER_ROOT);
        keeper.set(3, ROOT);
        assert_eq!(keeper.bind().bound, 2);
        keeper.set_words(3, words);
        let told = keeper.told(3);
        assert_eq!((told.bound, told.refused), (1, 1), "{what}");
        assert_eq!((told.refused_pasid, told.reason), (3, reason), "{what}");
        assert_eq!(keeper.sees(2), None, "{what}");
        assert_eq!(
            keeper.sees(1),
            keeper.host(0x30_000),
            "{what}: its neighbour"
        );
        keeper.set(3, ROOT);
        let told = keeper.told(3);
        assert_eq!((told.bound, told.refused, told.reason), (2, 0, 0), "{what}");
        keeper.bench.end();
    }
    // What hardware ignores in a first-stage entry is ignored.
    let keeper = Keeper::new(Setup::new(FirstStage4));
    let ignored = 1 << 1 | 3 << 2 | 1 << 9 | 0x7000;
    let words = [
        PRESENT | FIRST_STAGE | ignored,
        0x80_ffff,
        ROOT | 1 << 5 | 1 << 6,
    ];
    keeper.set_words(3, words);
    assert_eq!(
        (keeper.bind().bound, keeper.sees(1)),
        (1, keeper.host(0x25_000))
    );
    keeper.bench.end();
}

#[test]
fn a_directory_that_points_outside_memory_blocks_what_is_behind() {
    for (entry, reason) in [(0x600_000 | PRESENT, 0x58), (TABLE | PRESENT | 4, 0x52)] {
        let keeper = Keeper::new(Setup::new(FirstStage4));
        keeper.set(3, ROOT);
        assert_eq!(keeper.bind().bound, 1);
        keeper.bench.machine.ram.write(DIRECTORY, entry);
        let (result, told) = keeper.invalidate(0, 0x1fff);
        assert_eq!((result, told.bound), (Ok(0), 0));
        assert_eq!((told.refused_pasid, told.reason), (0, reason));
        assert_eq!(keeper.sees(1), None);
        keeper.bench.end();
    }
}

#[test]
fn a_directory_that_leads_to_itself_costs_no_more_than_its_pasids() {
    let keeper = Keeper::new(Setup::new(FirstStage4).quota(|quota| quota.pasids = 8));
    let ram = &keeper.bench.machine.ram;
    // Every entry leads to the directory, whose words are then entries of PASID tables: a
    // type that does not exist.
    for index in 0..128 {
        ram.write(DIRECTORY + 8 * index, DIRECTORY | PRESENT);
    }
    ram.take_reads();
    let bound = keeper.bind();
    assert_eq!(bound.bound, 0);
    assert!(bound.refused > 0);
    // Now all of them lead to one table with two good entries: only so many PASIDs there
    // are, and the call says where it stopped.
    keeper.set(7, ROOT);
    keeper.set(9, OTHER_ROOT);
    for index in 0..128 {
        ram.write(DIRECTORY + 8 * index, TABLE | PRESENT);
    }
    let (result, told) = keeper.invalidate(0, 0xf_ffff);
    assert_eq!(result, Err(Errno::EDQUOT));
    assert_eq!((told.bound, told.next_pasid), (8, 4 * 64 + 7));
    assert_eq!(keeper.sees(8), keeper.host(0x30_000));
    keeper.bench.end();
}

#[test]
fn one_call_looks_at_so_many_entries_and_says_where_to_go_on() {
    let keeper = Keeper::new(Setup::new(FirstStage4));
    // 2^20 PASIDs behind one empty table, the last one behind another that is not.
    let directory = 0x800 << 12;
    let ram = &keeper.bench.machine.ram;
    for index in 0..16384 {
        ram.write(directory + 8 * index, 46 << 12 | PRESENT);
    }
    ram.write(directory + 8 * 16383, TABLE | PRESENT);
    keeper.set(63, ROOT);
    ram.take_reads();
    let (result, bound) = keeper.try_bind(|ask| {
        ask.directory = directory;
        ask.directory_size = 7;
    });
    assert_eq!((result, bound.bound), (Ok(0), 0));
    assert!(ram.take_reads() < 20_000, "unbounded work in one call");
    let mut next = bound.next_pasid;
    let mut calls = 0;
    while next != 0 {
        calls += 1;
        let (result, told) = keeper.invalidate(next, 0xf_ffff);
        assert_eq!(result, Ok(0));
        assert!(told.next_pasid == 0 || told.next_pasid > next);
        assert!(ram.take_reads() < 20_000, "unbounded work in one call");
        next = told.next_pasid;
    }
    assert!(calls > 10);
    assert_eq!(keeper.sees(1), keeper.host(0x25_000), "the last PASID");
    keeper.bench.end();
}

#[test]
fn what_the_guest_writes_while_an_entry_is_read_makes_no_entry_of_another() {
    // The entry changes between two of its words: root and type are then of two entries, and
    // both are the guest's. Whatever comes out, it is one of its tables or nothing.
    let keeper = Keeper::new(Setup::new(FirstStage4));
    keeper.set(3, ROOT);
    let ram = keeper.bench.machine.ram.clone();
    let mut reads = 0;
    keeper.bench.machine.ram.before_reads(move |at| {
        if (TABLE + 64 * 3..TABLE + 64 * 4).contains(&at) {
            reads += 1;
            let root = [ROOT, OTHER_ROOT, 0x600_000][reads % 3];
            ram.write(TABLE + 64 * 3 + 16, root);
        }
    });
    keeper.bind();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..24 {
        let (result, _) = keeper.invalidate(3, 3);
        assert_eq!(result, Ok(0));
        let known = [None, keeper.host(0x25_000), keeper.host(0x30_000)];
        assert!(known.contains(&keeper.sees(1)));
        seen.insert(keeper.sees(1));
        keeper.bench.machine.check_caches();
    }
    assert!(seen.len() > 1, "nothing changed while it was read");
    keeper.bench.end();
}

#[test]
fn a_device_that_keeps_a_pasid_table_is_bound_by_nothing_else() {
    let keeper = Keeper::new(Setup::new(FirstStage4));
    keeper.set(3, ROOT);
    let table = keeper.bench.allocate(ROOT);
    let device_id = keeper.bench.device_id;
    let busy = Errno::EBUSY.to_register();
    // One way.
    assert_eq!(keeper.bench.bind(device_id, table), 0);
    assert_eq!(keeper.try_bind(|_| ()).0, Err(Errno::EBUSY));
    assert_eq!(keeper.bench.unbind(device_id), 0);
    // And the other.
    keeper.bind();
    assert_eq!(keeper.try_bind(|_| ()).0, Err(Errno::EBUSY));
    assert_eq!(keeper.bench.bind(device_id, table), busy);
    assert_eq!(keeper.bench.unbind(device_id), busy);
    let second = keeper.bench.machine.assign(5);
    assert_eq!(keeper.bench.bind(second, table), 0, "another device");
    assert_eq!(keeper.unbind(), Ok(0));
    assert_eq!(keeper.bench.bind(device_id, table), 0);
    keeper.bench.end();
}

#[test]
fn what_is_wrong_in_a_bind_is_refused_and_nothing_is_bound() {
    let keeper = Keeper::new(Setup::new(FirstStage4));
    keeper.set(3, ROOT);
    type Change = fn(&mut PasidTableBind);
    let wrong: [(Change, Errno); 6] = [
        (|ask| ask.directory += 8, Errno::EINVAL),
        (|ask| ask.directory = 0x600_000, Errno::EFAULT),
        (|ask| ask.directory = u64::MAX - 0xfff, Errno::EFAULT),
        // Memory ends within it.
        (
            |ask| (ask.directory, ask.directory_size) = (95 << 12, 3),
            Errno::EFAULT,
        ),
        (|ask| ask.directory_size = 8, Errno::EINVAL),
        (
            |ask| ask.flags = PasidTableBind::PAGE_REQUESTS,
            Errno::EOPNOTSUPP,
        ),
    ];
    for (change, errno) in wrong {
        let (result, ask) = keeper.try_bind(change);
        assert_eq!(result, Err(errno), "{ask:?}");
        assert_eq!(keeper.sees(1), None);
    }
    let (result, ask) = keeper.try_bind(|ask| ask.directory_size = 2);
    assert_eq!((result, ask.bound), (Ok(0), 1));
    let (result, _) = keeper.invalidate(4, 3);
    assert_eq!(result, Err(Errno::EINVAL));
    let (result, _) = keeper.invalidate(0, 1 << 20);
    assert_eq!(result, Err(Errno::EINVAL));
    keeper.bench.end();
}

#[test]
fn a_bind_that_fails_half_way_leaves_nothing() {
    let keeper = Keeper::new(Setup::new(FirstStage4).quota(|quota| quota.pasids = 2));
    for pasid in 3..7 {
        keeper.set(pasid, ROOT);
    }
    assert_eq!(keeper.try_bind(|_| ()).0, Err(Errno::EDQUOT));
    assert_eq!((keeper.sees(1), keeper.objects()), (None, 0));
    keeper.set_words(3, [0; 3]);
    keeper.set_words(4, [0; 3]);
    assert_eq!(keeper.bind().bound, 2);
    keeper.bench.end();
}

#[test]
fn pasids_that_the_guest_took_itself_stay_its_own() {
    let keeper = Keeper::new(Setup::new(FirstStage4));
    let take = |pasid: u32| {
        let mut ask = PasidAllocate {
            minimum: pasid,
            maximum: pasid,
            ..PasidAllocate::new()
        };
        Errno::from_register(keeper.bench.machine.call(&mut ask))
    };
    assert_eq!(take(3), Ok(0));
    keeper.set(3, ROOT);
    keeper.set(4, ROOT);
    keeper.bind();
    assert_eq!(take(4), Err(Errno::ENOSPC), "its table has it");
    assert_eq!(keeper.unbind(), Ok(0));
    assert_eq!(take(3), Err(Errno::ENOSPC), "taken before");
    assert_eq!(take(4), Ok(0), "given back with the table");
    keeper.bench.end();
}

#[test]
fn a_pasid_that_the_device_has_no_bits_for_is_refused() {
    let keeper = Keeper::new(Setup {
        pasid_bits: 2,
        ..Setup::new(FirstStage4)
    });
    keeper.set(0, OTHER_ROOT);
    keeper.set(3, ROOT);
    keeper.set(4, ROOT);
    let bound = keeper.bind();
    assert_eq!((bound.bound, bound.refused), (2, 1));
    assert_eq!((bound.refused_pasid, bound.reason), (4, 0x89));
    keeper.bench.end();
}

#[test]
fn a_device_that_is_taken_away_takes_its_table_along() {
    let keeper = Keeper::new(Setup::new(FirstStage4));
    keeper.set(3, ROOT);
    keeper.bind();
    keeper
        .bench
        .machine
        .policy
        .take_back(VM, device(4))
        .unwrap();
    assert_eq!(keeper.sees(1), None);
    assert_eq!(keeper.objects(), 0);
    assert_eq!(keeper.unbind(), Err(Errno::ENOENT));
    // It comes back with nothing bound, and the guest's PASIDs are free.
    assert_eq!(keeper.bench.machine.assign(4), keeper.bench.device_id);
    assert_eq!(keeper.bench.machine.hardware.walk(rid(4), 0x5000), None);
    assert_eq!(
        (keeper.bind().bound, keeper.sees(1)),
        (1, keeper.host(0x25_000))
    );
    keeper.bench.end();
}

#[test]
fn memory_of_the_table_that_is_lost_is_not_looked_at_again() {
    let keeper = Keeper::new(Setup::new(FirstStage4));
    keeper.set(3, ROOT);
    keeper.bind();
    let runs = keeper.bench.machine.ram.remove(TABLE >> 12, 1);
    let gone = AddressRange::of_pages(Gpa::new(TABLE), 1).unwrap();
    keeper
        .bench
        .machine
        .policy
        .forget(VM, &gone, &runs)
        .unwrap();
    assert_eq!(
        keeper.sees(1),
        keeper.host(0x25_000),
        "bound as it was told"
    );
    let told = keeper.told(3);
    assert_eq!((told.bound, told.refused, told.reason), (0, 1, 0x58));
    assert_eq!(keeper.sees(1), None);
    keeper.bench.end();
}
