//! A ring of operations does what single calls would do, for one exit, and whatever its
//! guest writes where.

mod common;

use common::machine::{LEAVES, ROOT, VM, rid};
use common::memory::GuestRam;
use common::ring::{RawRing, call, counted};
use common::tables::FULL;
use common::{Bench, Machine, Setup};
use iommu::Quota;
use iommu_abi::{
    Argument, Bind, Destroy, DeviceInfo, Errno, Info, IntoBytes as _, Invalidate, InvalidateRange,
    IoasAllocate, IoasMap, Op, PasidAllocate, RingCreate, RingEnter, RingIndices, RingSubmission,
    Unbind,
};
use iommu_core::TableFormat::FirstStage4;
use iommu_core::{Access, Backing, Gpa, GuestMemory, GuestMemoryError, VmId};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Where rings lie, in scattered memory; and arguments of their operations, 256 bytes each.
const RING: u64 = 60 << 12;
const ARGUMENTS: u64 = 64 << 12;
/// The same in memory for large rings.
const LARGE_RING: u64 = 0x900 << 12;
const LARGE_ARGUMENTS: u64 = 0xa00 << 12;

fn refused(errno: Errno) -> i64 {
    errno.to_register()
}

/// Writes the argument of the next operation, and submits it.
fn submit<A: Argument>(ring: &mut RawRing, ram: &GuestRam, argument: &A) -> u64 {
    let at = ARGUMENTS + 256 * u64::from(ring.tail & 63);
    ram.write_bytes(at, argument.as_bytes());
    ring.submit(ram, A::OP.as_u32(), at);
    at
}

fn info() -> Info {
    Info::new()
}

/// One range of a page, behind its argument.
fn change(ram: &GuestRam, at: u64, ioas_id: u32, address: u64) -> Invalidate {
    let range = InvalidateRange {
        address,
        pages: 1,
        ..InvalidateRange::default()
    };
    ram.write_bytes(at + 128, range.as_bytes());
    Invalidate {
        ioas_id,
        granularity: 2,
        entries: at + 128,
        entry_size: 24,
        entry_count: 1,
        model: 1,
        ..Invalidate::new()
    }
}

fn submit_change(ring: &mut RawRing, ram: &GuestRam, ioas_id: u32, address: u64) -> u64 {
    let at = ARGUMENTS + 256 * u64::from(ring.tail & 63);
    submit(ring, ram, &change(ram, at, ioas_id, address))
}

#[test]
fn many_operations_are_done_in_order_for_one_call() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, RING, 16, 0);
    let table = ring.id + 1;
    submit(&mut ring, ram, &bench.user_table(ROOT));
    submit(
        &mut ring,
        ram,
        &Bind {
            device_id: bench.device_id,
            ioas_id: table,
            ..Bind::new()
        },
    );
    submit_change(&mut ring, ram, table, 0x5000);
    submit(
        &mut ring,
        ram,
        &Destroy {
            id: table,
            ..Destroy::new()
        },
    );
    let before = counted(machine);
    let (result, enter) = ring.enter(machine, ram, 0);
    assert_eq!((result, enter.completed, enter.remaining), (4, 4, 0));
    assert_eq!(counted(machine), (before.0 + 1, before.1 + 4));
    assert_eq!(ring.results(ram), [0, 0, 1, refused(Errno::EBUSY)]);
    bench.check((0..16).map(|page| page << 12));
    assert!(bench.sees(0x5000).is_some());
    bench.end();
}

#[test]
fn a_guest_may_limit_what_a_call_does() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, RING, 8, 7);
    for _ in 0..5 {
        submit(&mut ring, ram, &info());
    }
    let (result, enter) = ring.enter(machine, ram, 3);
    assert_eq!((result, enter.completed, enter.remaining), (3, 3, 2));
    let (result, enter) = ring.enter(machine, ram, 0);
    assert_eq!((result, enter.completed, enter.remaining), (2, 2, 0));
    assert_eq!(ring.results(ram), [0; 5]);
    bench.end();
}

#[test]
fn indices_go_round_and_wrap() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, RING, 4, u32::MAX - 5);
    for round in 0..8 {
        for _ in 0..3 {
            submit(&mut ring, ram, &info());
        }
        assert_eq!(ring.enter(machine, ram, 0).0, 3, "round {round}");
        assert_eq!(ring.results(ram), [0; 3]);
    }
    assert_eq!(ring.tail, 18);
    assert_eq!(ring.indices(ram).submission_head, 18);
    bench.end();
}

#[test]
fn indices_that_cannot_be_are_refused_and_nothing_is_done() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, RING, 4, u32::MAX);
    for _ in 0..4 {
        submit(&mut ring, ram, &info());
    }
    let first = u64::from(u32::MAX);
    let good = (3, first);
    let wrong = [
        (4, first),
        (first - 1, first),
        (1 << 32 | 3, first),
        (u64::MAX, first),
        // More completions wait than there are places, or they are read before they are.
        (3, first - 5),
        (3, 0),
        (3, 1 << 32 | first),
    ];
    for (tail, head) in wrong {
        ram.write(RING, tail);
        ram.write(RING + 8, head);
        let (result, enter) = ring.enter(machine, ram, 0);
        assert_eq!(result, refused(Errno::EINVAL), "{tail:#x}, {head:#x}");
        assert_eq!(enter.completed, 0);
        assert_eq!(ring.indices(ram).submission_head, first);
    }
    ram.write(RING, good.0);
    ram.write(RING + 8, good.1);
    assert_eq!(ring.enter(machine, ram, 0).0, 4);
    assert_eq!(ring.results(ram), [0; 4]);
    bench.end();
}

#[test]
fn an_operation_waits_until_there_is_room_for_its_completion() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, RING, 4, 0);
    for _ in 0..3 {
        submit(&mut ring, ram, &info());
    }
    assert_eq!(ring.enter(machine, ram, 0).0, 3);
    // None of them is read, and three more are submitted.
    for _ in 0..3 {
        submit(&mut ring, ram, &info());
    }
    let (result, enter) = ring.enter(machine, ram, 0);
    assert_eq!((result, enter.remaining), (1, 2));
    let (result, enter) = ring.enter(machine, ram, 0);
    assert_eq!((result, enter.remaining), (0, 2));
    assert_eq!(ring.results(ram), [0; 4]);
    assert_eq!(ring.enter(machine, ram, 0).0, 2);
    assert_eq!(ring.results(ram), [0; 2]);
    bench.end();
}

#[test]
fn a_ring_must_lie_in_memory_that_can_be_written() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let machine = &bench.machine;
    let good = RawRing::ask(RING, 8, 0);
    let cases = [
        (Errno::EINVAL, RingCreate { entries: 0, ..good }),
        (Errno::EINVAL, RingCreate { entries: 6, ..good }),
        (
            Errno::EDQUOT,
            RingCreate {
                entries: 8192,
                ..good
            },
        ),
        (
            Errno::EINVAL,
            RingCreate {
                indices: RING + 4,
                ..good
            },
        ),
        (
            Errno::EINVAL,
            RingCreate {
                submissions: RING + 4,
                ..good
            },
        ),
        (
            Errno::EFAULT,
            RingCreate {
                indices: 0x7000_0000,
                ..good
            },
        ),
        (
            Errno::EFAULT,
            RingCreate {
                completions: 0x700 << 12,
                ..good
            },
        ),
        (
            Errno::EFAULT,
            RingCreate {
                submissions: u64::MAX - 7,
                ..good
            },
        ),
        (
            Errno::EFAULT,
            RingCreate {
                indices: u64::MAX - 7,
                ..good
            },
        ),
    ];
    for (errno, ask) in cases {
        let (result, _) = call(machine, VM, &machine.ram, &ask);
        assert!(
            result == refused(errno) || result == refused(Errno::EOVERFLOW),
            "{ask:?}: {result}"
        );
    }
    assert_eq!(call(machine, VM, &machine.ram, &good).0, 0);
    bench.end();
}

#[test]
fn what_no_single_call_could_do_is_refused_in_a_ring_too() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, RING, 16, 0);
    let other = RawRing::new(machine, RING + 0x1000, 16, 0);
    // Numbers that mean nothing, or something to the hypervisor around.
    for operation in [0, 1, 0xff, 0x1ff, 0x400, u32::MAX] {
        ring.submit(ram, operation, ARGUMENTS);
    }
    let wrong = [
        RingSubmission {
            flags: 1,
            ..RingSubmission::default()
        },
        RingSubmission {
            reserved: 1,
            ..RingSubmission::default()
        },
    ];
    for submission in wrong {
        let user_data = 0xabcd_0000 + u64::from(ring.tail);
        ring.write(
            ram,
            &RingSubmission {
                operation: Op::Info.as_u32(),
                argument: ARGUMENTS,
                user_data,
                ..submission
            },
        );
    }
    ram.write(RING, ring.tail.into());
    ring.submit(ram, Op::Info.as_u32(), 0x7000_0000);
    let enter = RingEnter {
        ring_id: other.id,
        ..RingEnter::new()
    };
    submit(&mut ring, ram, &enter);
    submit(&mut ring, ram, &RawRing::ask(RING + 0x2000, 4, 0));
    for id in [ring.id, other.id, other.id] {
        submit(
            &mut ring,
            ram,
            &Destroy {
                id,
                ..Destroy::new()
            },
        );
    }
    assert_eq!(ring.enter(machine, ram, 0).0, 14);
    let results = ring.results(ram);
    assert_eq!(results[..6], [refused(Errno::ENOTTY); 6]);
    let unsupported = refused(Errno::EOPNOTSUPP);
    assert_eq!(results[6..8], [unsupported; 2]);
    assert_eq!(results[8], refused(Errno::EFAULT));
    assert_eq!(results[9..11], [unsupported; 2]);
    let own = refused(Errno::EBUSY);
    assert_eq!(results[11..], [own, 0, refused(Errno::ENOENT)]);
    // By a call it can be destroyed.
    let destroy = Destroy {
        id: ring.id,
        ..Destroy::new()
    };
    assert_eq!(call(machine, VM, ram, &destroy).0, 0);
    assert_eq!(ring.enter(machine, ram, 0).0, refused(Errno::ENOENT));
    bench.end();
}

#[test]
fn the_work_of_one_call_is_bounded_and_the_rest_is_done_by_the_next() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, LARGE_RING, 512, 0);
    ram.write_bytes(LARGE_ARGUMENTS, info().as_bytes());
    for _ in 0..300 {
        ring.submit(ram, Op::Info.as_u32(), LARGE_ARGUMENTS);
    }
    let (result, enter) = ring.enter(machine, ram, 0);
    assert_eq!((result, enter.remaining), (256, 44));
    let (result, enter) = ring.enter(machine, ram, 0);
    assert_eq!((result, enter.remaining), (44, 0));
    assert_eq!(ring.results(ram), [0; 300]);
    bench.end();
}

#[test]
fn looking_at_much_ends_a_call_between_two_operations() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, LARGE_RING, 512, 0);
    let everything = Invalidate {
        ioas_id: table,
        granularity: 1,
        ..Invalidate::new()
    };
    ram.write_bytes(LARGE_ARGUMENTS, everything.as_bytes());
    for _ in 0..100 {
        ring.submit(ram, Op::Invalidate.as_u32(), LARGE_ARGUMENTS);
    }
    // Four pages of 512 entries, each time.
    let (result, enter) = ring.enter(machine, ram, 0);
    assert_eq!((result, enter.remaining), (32, 68));
    let mut done = result;
    while done < 100 {
        let (more, _) = ring.enter(machine, ram, 0);
        assert!(more > 0);
        done += more;
    }
    assert_eq!(ring.results(ram), [0; 100]);
    bench.end();
}

#[test]
fn invalidations_that_follow_each_other_are_one_flush() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, RING, 64, 0);
    for page in [5, 8, 10, 12] {
        ram.write(LEAVES + 8 * page, (0x30 + page) << 12 | FULL);
        submit_change(&mut ring, ram, table, page << 12);
    }
    bench.told();
    let before = bench.commits();
    assert_eq!(ring.enter(machine, ram, 0).0, 4);
    assert_eq!(bench.commits() - before, 1);
    let page = |page: u64| (page << 12, 1, true);
    assert_eq!(bench.told(), ([5, 8, 10, 12].map(page).to_vec(), 0));
    assert_eq!(ring.results(ram), [1; 4]);
    bench.check((0..16).map(|page| page << 12));
    machine.check_caches();
    bench.end();
}

#[test]
fn an_operation_between_invalidations_comes_after_those_before_it() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, RING, 64, 0);
    let change = |ring: &mut RawRing, page: u64| {
        ram.write(LEAVES + 8 * page, (0x30 + page) << 12 | FULL);
        submit_change(ring, ram, table, page << 12);
    };
    change(&mut ring, 5);
    change(&mut ring, 6);
    submit(&mut ring, ram, &info());
    change(&mut ring, 7);
    change(&mut ring, 8);
    let before = bench.commits();
    assert_eq!(ring.enter(machine, ram, 0).0, 5);
    assert_eq!(bench.commits() - before, 2);
    assert_eq!(ring.results(ram), [1, 1, 0, 1, 1]);
    bench.check((0..16).map(|page| page << 12));
    bench.end();
}

#[test]
fn a_wrong_invalidation_fails_alone() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, RING, 64, 0);
    for page in [5, 6] {
        ram.write(LEAVES + 8 * page, (0x30 + page) << 12 | FULL);
    }
    submit_change(&mut ring, ram, table, 0x5000);
    submit_change(&mut ring, ram, table + 1, 0x5000);
    let misaligned = submit_change(&mut ring, ram, table, 0x5001);
    submit_change(&mut ring, ram, table, 0x6000);
    assert_eq!(ring.enter(machine, ram, 0).0, 4);
    let expected = [1, refused(Errno::ENOENT), refused(Errno::EINVAL), 1];
    assert_eq!(ring.results(ram), expected);
    // The bad entry is named.
    assert_eq!(ram.read_bytes(misaligned + 36, 4), [0; 4]);
    bench.check((0..16).map(|page| page << 12));
    bench.end();
}

#[test]
fn a_flush_that_fails_is_the_result_of_all_that_it_was_for() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, RING, 64, 0);
    for page in [5, 6] {
        ram.write(LEAVES + 8 * page, 0);
        submit_change(&mut ring, ram, table, page << 12);
    }
    submit(&mut ring, ram, &info());
    machine.hardware.fail_next("commit");
    assert_eq!(ring.enter(machine, ram, 0).0, 3);
    let failed = refused(Errno::ETIMEDOUT);
    assert_eq!(ring.results(ram), [failed, failed, 0]);
    machine.policy.destroy_guest(VM).unwrap();
}

#[test]
fn a_guest_that_dies_leaves_nothing_of_its_rings() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, RING, 64, 0);
    submit_change(&mut ring, ram, table, 0x5000);
    bench.end();
}

// ---- a guest that writes while it is read ----

type Deed = Box<dyn FnOnce(&GuestRam) + Send>;

/// A guest's memory in which something happens when a certain place is read.
struct Fickle {
    ram: Arc<GuestRam>,
    watched: AtomicU64,
    reads: AtomicU64,
    deed: Mutex<Option<Deed>>,
}

impl Fickle {
    fn machine() -> (Machine, Arc<Self>) {
        let machine = Setup::new(FirstStage4).build();
        let ram = Arc::new(GuestRam::default());
        ram.add(0, 96, 0xa_0000, Access::READ_WRITE, Some(3));
        let memory = Arc::new(Self {
            ram,
            watched: AtomicU64::new(u64::MAX),
            reads: AtomicU64::new(0),
            deed: Mutex::default(),
        });
        let quota = Quota::default();
        machine
            .policy
            .create_guest(OTHER, quota, memory.clone())
            .unwrap();
        (machine, memory)
    }

    fn when_read(&self, at: u64, deed: impl FnOnce(&GuestRam) + Send + 'static) {
        self.watched.store(at, Ordering::Relaxed);
        self.reads.store(0, Ordering::Relaxed);
        *self.deed.lock().unwrap() = Some(Box::new(deed));
    }

    fn note(&self, gpa: Gpa, bytes: u64) {
        let watched = self.watched.load(Ordering::Relaxed);
        if (gpa.as_u64()..gpa.as_u64() + bytes).contains(&watched) {
            self.reads.fetch_add(1, Ordering::Relaxed);
            if let Some(deed) = self.deed.lock().unwrap().take() {
                deed(&self.ram);
            }
        }
    }
}

const OTHER: VmId = VmId(4);

impl GuestMemory for Fickle {
    fn resolve(&self, gpa: Gpa, access: Access) -> Result<Backing, GuestMemoryError> {
        self.ram.resolve(gpa, access)
    }

    fn read_once(&self, gpa: Gpa) -> Result<u64, GuestMemoryError> {
        let word = self.ram.read_once(gpa);
        self.note(gpa, 8);
        word
    }

    fn copy_in(&self, gpa: Gpa, buffer: &mut [u8]) -> Result<(), GuestMemoryError> {
        self.ram.copy_in(gpa, buffer)?;
        self.note(gpa, buffer.len() as u64);
        Ok(())
    }

    fn copy_out(&self, gpa: Gpa, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        self.ram.copy_out(gpa, bytes)
    }
}

#[test]
fn a_submission_that_changes_while_it_is_read_is_what_was_read() {
    let (machine, memory) = Fickle::machine();
    let ram = memory.ram.clone();
    let mut ring = RawRing::of(&machine, OTHER, &ram, RING, 8, 0);
    let id = ring.id;
    let at = ARGUMENTS;
    ram.write_bytes(at, info().as_bytes());
    ring.submit(&ram, Op::Info.as_u32(), at);
    memory.when_read(RING + 64, move |ram| {
        // Another operation, elsewhere, for somebody else.
        let other = RingSubmission {
            operation: Op::Destroy.as_u32(),
            argument: ARGUMENTS + 256,
            user_data: 1,
            ..RingSubmission::default()
        };
        ram.write_bytes(RING + 64, other.as_bytes());
        let destroy = Destroy {
            id,
            ..Destroy::new()
        };
        ram.write_bytes(ARGUMENTS + 256, destroy.as_bytes());
    });
    assert_eq!(ring.enter(&machine, &ram, 0).0, 1);
    assert_eq!(memory.reads.load(Ordering::Relaxed), 1);
    assert_eq!(ring.results(&ram), [0]);
    assert!(
        ram.read_bytes(at + 8, 4) != [0; 4],
        "what was read was done"
    );
}

#[test]
fn indices_are_read_once_and_those_of_the_hypervisor_never() {
    let (machine, memory) = Fickle::machine();
    let ram = memory.ram.clone();
    let mut ring = RawRing::of(&machine, OTHER, &ram, RING, 8, 0);
    for offset in [0, 8] {
        ram.write_bytes(ARGUMENTS, info().as_bytes());
        ring.submit(&ram, Op::Info.as_u32(), ARGUMENTS);
        memory.when_read(RING + offset, move |ram| {
            ram.write(RING + offset, 0x7777_7777);
        });
        assert_eq!(ring.enter(&machine, &ram, 0).0, 1, "offset {offset}");
        assert_eq!(memory.reads.load(Ordering::Relaxed), 1);
        ram.write(RING, ring.tail.into());
        assert_eq!(ring.results(&ram), [0]);
    }
    for offset in [16, 24, 32] {
        ring.submit(&ram, Op::Info.as_u32(), ARGUMENTS);
        ram.write(RING + offset, 0x7777_7777);
        memory.when_read(RING + offset, |_| ());
        assert_eq!(ring.enter(&machine, &ram, 0).0, 1, "offset {offset}");
        assert_eq!(memory.reads.load(Ordering::Relaxed), 0);
        assert_eq!(ring.results(&ram), [0]);
    }
}

#[test]
fn a_ring_whose_pages_are_taken_back_goes_no_further() {
    let (machine, memory) = Fickle::machine();
    let ram = memory.ram.clone();
    // Completions lie on the page behind submissions.
    let at = RING + 0x1000 - 64 - 8 * 32;
    let mut ring = RawRing::of(&machine, OTHER, &ram, at, 8, 0);
    assert_eq!(ring.completion_at(0), RING + 0x1000);
    let pasid = PasidAllocate {
        minimum: 5,
        maximum: 100,
        ..PasidAllocate::new()
    };
    for _ in 0..3 {
        submit(&mut ring, &ram, &pasid);
    }
    // Before an operation: it is not done.
    let page = (RING >> 12) + 1;
    let host = ram.remove(page, 1)[0].hpa.as_u64() >> 12;
    let (result, enter) = ring.enter(&machine, &ram, 0);
    assert_eq!(result, refused(Errno::EFAULT));
    assert_eq!((enter.completed, enter.remaining), (0, 3));
    ram.add(page, 1, host, Access::READ_WRITE, None);
    // While the second is done: it is done, and its completion is lost.
    memory.when_read(ARGUMENTS + 256 + 12, move |ram| {
        ram.remove(page, 1);
    });
    let (result, enter) = ring.enter(&machine, &ram, 0);
    assert_eq!(result, refused(Errno::EFAULT));
    assert_eq!((enter.completed, enter.remaining), (2, 1));
    ram.add(page, 1, host, Access::READ_WRITE, None);
    let (result, enter) = ring.enter(&machine, &ram, 0);
    assert_eq!((result, enter.remaining), (1, 0));
    // Each was done once.
    let taken = |place: u64| ram.read_bytes(ARGUMENTS + 256 * place + 16, 1)[0];
    assert_eq!([0, 1, 2].map(taken), [5, 6, 7]);
}

#[test]
fn a_ring_without_its_indices_says_so() {
    let (machine, memory) = Fickle::machine();
    let ram = memory.ram.clone();
    let mut ring = RawRing::of(&machine, OTHER, &ram, RING + 0x1000 - 64, 8, 0);
    submit(&mut ring, &ram, &info());
    let host = ram.remove(RING >> 12, 1)[0].hpa.as_u64() >> 12;
    assert_eq!(ring.enter(&machine, &ram, 0).0, refused(Errno::EFAULT));
    ram.add(RING >> 12, 1, host, Access::READ_WRITE, None);
    assert_eq!(ring.enter(&machine, &ram, 0).0, 1);
}

// ---- polling ----

#[test]
fn while_the_hypervisor_polls_no_call_is_needed() {
    let (bench, table) = Bench::bound(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, RING, 64, 0);
    assert_eq!(ring.indices(ram).state, 0);
    machine.policy.set_polling(VM, true).unwrap();
    assert_eq!(ring.indices(ram).state, RingIndices::POLLED);
    // One that is made meanwhile is polled too.
    let mut second = RawRing::new(machine, RING + 0x1000, 8, 0);
    assert_eq!(second.indices(ram).state, RingIndices::POLLED);
    let calls = counted(machine).0;
    assert_eq!(machine.policy.poll_rings(VM), Ok(0));
    ram.write(LEAVES + 8 * 5, 0x3_5000 | FULL);
    submit_change(&mut ring, ram, table, 0x5000);
    second.submit(ram, Op::Info.as_u32(), 0x7000_0000);
    assert_eq!(machine.policy.poll_rings(VM), Ok(2));
    assert_eq!(ring.results(ram), [1]);
    assert_eq!(second.results(ram), [refused(Errno::EFAULT)]);
    bench.check((0..16).map(|page| page << 12));
    assert_eq!(counted(machine).0, calls);
    bench.end();
}

#[test]
fn what_was_submitted_before_polling_ended_is_done() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let mut ring = RawRing::new(machine, LARGE_RING, 512, 0);
    machine.policy.set_polling(VM, true).unwrap();
    ram.write_bytes(LARGE_ARGUMENTS, info().as_bytes());
    // More than one call does.
    for _ in 0..400 {
        ring.submit(ram, Op::Info.as_u32(), LARGE_ARGUMENTS);
    }
    machine.policy.set_polling(VM, false).unwrap();
    assert_eq!(ring.indices(ram).state, 0);
    assert_eq!(ring.results(ram), [0; 400]);
    // From now on it must be entered.
    ring.submit(ram, Op::Info.as_u32(), LARGE_ARGUMENTS);
    assert_eq!(machine.policy.poll_rings(VM), Ok(0));
    assert_eq!(ring.enter(machine, ram, 0).0, 1);
    bench.end();
}

#[test]
fn a_ring_that_cannot_go_on_is_polled_no_more_and_others_are() {
    let bench = Bench::new(Setup::new(FirstStage4));
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let bad = RawRing::new(machine, RING, 8, 0);
    let mut good = RawRing::new(machine, RING + 0x1000, 8, 0);
    machine.policy.set_polling(VM, true).unwrap();
    ram.write(RING, 9);
    submit(&mut good, ram, &info());
    assert_eq!(machine.policy.poll_rings(VM), Ok(1));
    assert_eq!(bad.indices(ram).state, 0);
    assert_eq!(good.indices(ram).state, RingIndices::POLLED);
    assert_eq!(bad.enter(machine, ram, 0).0, refused(Errno::EINVAL));
    assert_eq!(good.results(ram), [0]);
    bench.end();
}

// ---- the same by calls and by a ring ----

/// One operation of a course, with the argument that it begins with.
#[derive(Clone, Debug)]
struct Step {
    op: Op,
    argument: Vec<u8>,
    /// Bytes behind the argument.
    array: Vec<u8>,
}

/// What the guest writes into its tables, and then the operations that it makes.
struct Group {
    writes: Vec<(u64, u64)>,
    steps: Vec<Step>,
}

fn step<A: Argument>(argument: &A) -> Step {
    Step {
        op: A::OP,
        argument: argument.as_bytes().to_vec(),
        array: Vec::new(),
    }
}

/// Operations that may be right or wrong, of few objects, so that they meet.
fn random_step(random: &mut fastrand::Rng, at: u64) -> Step {
    let id = random.u32(0..7).max(random.u32(0..4));
    let page = |random: &mut fastrand::Rng| random.u64(0..16) << 12;
    let id = if random.bool() { 3 } else { id };
    match random.u32(0..30) {
        0 | 10 => step(&IoasAllocate {
            flags: IoasAllocate::USER_TABLE,
            format: random.u32(0..8).min(1),
            user_page_directory: [ROOT, ROOT, 0x5001, 0x7000_0000][random.usize(0..4)],
            device_id: random.u32(0..8).min(2),
            ..IoasAllocate::new()
        }),
        1 => step(&IoasAllocate {
            device_id: 1,
            ..IoasAllocate::new()
        }),
        2 => step(&IoasMap {
            flags: random.u32(0..8),
            ioas_id: id,
            gpa: page(random) + (0x20 << 12),
            length: 0x1000 * random.u64(0..4),
            iova: page(random),
            ..IoasMap::new()
        }),
        3 => step(&Destroy {
            id,
            ..Destroy::new()
        }),
        4 | 5 | 11 => step(&Bind {
            flags: [0, 2, 1, 3][random.usize(0..4)],
            device_id: random.u32(1..3),
            ioas_id: id,
            pasid: random.u32(0..3),
            ..Bind::new()
        }),
        6 => step(&Unbind {
            device_id: random.u32(1..3),
            ..Unbind::new()
        }),
        7 => step(&PasidAllocate {
            minimum: 1,
            maximum: 4,
            ..PasidAllocate::new()
        }),
        8 => step(&DeviceInfo {
            device_id: id,
            ..DeviceInfo::new()
        }),
        9 => step(&Invalidate {
            ioas_id: id,
            granularity: 1,
            ..Invalidate::new()
        }),
        _ => {
            let count = random.u32(0..4);
            let mut array = Vec::new();
            for _ in 0..count {
                let range = InvalidateRange {
                    address: page(random) | u64::from(random.u8(..) == 0),
                    pages: random.u64(0..4) + u64::from(random.u8(..) != 0),
                    flags: random.u32(0..2),
                    reserved: 0,
                };
                array.extend_from_slice(range.as_bytes());
            }
            let mut invalidate = step(&Invalidate {
                ioas_id: id,
                granularity: 2,
                entries: at + 128,
                entry_size: 24,
                entry_count: count,
                model: 1,
                ..Invalidate::new()
            });
            invalidate.array = array;
            invalidate
        }
    }
}

fn random_course(seed: u64) -> Vec<Group> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..20)
        .map(|_| {
            let writes = (0..random.usize(0..6)).map(|_| {
                let entry = LEAVES + 8 * random.u64(0..16);
                let leaf = (0x20 + random.u64(0..16)) << 12 | FULL;
                (entry, if random.bool() { leaf } else { 0 })
            });
            let writes = writes.collect();
            let count = random.u64(1..16);
            let steps = (0..count)
                .map(|place| random_step(&mut random, ARGUMENTS + 256 * place))
                .collect();
            Group { writes, steps }
        })
        .collect()
}

fn bench_with_two_devices() -> Bench {
    let bench = Bench::new(Setup::new(FirstStage4).quota(|quota| quota.shadow_pages = 24));
    assert_eq!(bench.machine.assign(5), 2);
    // One table is in use from the beginning.
    let table = bench.allocate(ROOT);
    assert_eq!(
        (table, bench.bind(1, table), bench.bind(2, table)),
        (3, 0, 0)
    );
    bench
}

/// Results and arguments as they came back, of a whole course.
type Told = Vec<(Op, i64, Vec<u8>)>;

fn by_calls(bench: &Bench, course: &[Group]) -> Told {
    let mut told = Told::new();
    let ram = &bench.machine.ram;
    for group in course {
        prepare(ram, group);
        for (place, step) in (0..).zip(&group.steps) {
            let at = ARGUMENTS + 256 * place;
            let operation = step.op.as_u32().into();
            let result = bench.machine.policy.call(VM, operation, Gpa::new(at));
            told.push((step.op, result, ram.read_bytes(at, 256)));
        }
    }
    told
}

fn prepare(ram: &GuestRam, group: &Group) {
    for &(entry, value) in &group.writes {
        ram.write(entry, value);
    }
    for (place, step) in (0..).zip(&group.steps) {
        let at = ARGUMENTS + 256 * place;
        ram.write_bytes(at, &[0; 256]);
        ram.write_bytes(at, &step.argument);
        ram.write_bytes(at + 128, &step.array);
    }
}

fn by_ring(bench: &Bench, course: &[Group], ring: &mut RawRing) -> Told {
    let mut told = Told::new();
    let ram = &bench.machine.ram;
    for group in course {
        prepare(ram, group);
        for (place, step) in (0..).zip(&group.steps) {
            ring.submit(ram, step.op.as_u32(), ARGUMENTS + 256 * place);
        }
        let count = group.steps.len();
        let (result, _) = ring.enter(&bench.machine, ram, 0);
        assert_eq!(result, count as i64);
        for ((place, step), result) in (0..).zip(&group.steps).zip(ring.results(ram)) {
            let back = ram.read_bytes(ARGUMENTS + 256 * place, 256);
            told.push((step.op, result, back));
        }
    }
    told
}

#[test]
fn a_random_course_by_calls_and_by_a_ring_ends_the_same() {
    let (mut fine, mut flushed) = (0u32, (0, 0));
    for seed in 0..24 {
        let course = random_course(seed);
        let (calls, rings) = (bench_with_two_devices(), bench_with_two_devices());
        // The highest handle, so that the others are the same.
        let mut ring = high_ring(&rings);
        high_ring(&calls);
        let begun = (calls.commits(), rings.commits());
        let one = by_calls(&calls, &course);
        let other = by_ring(&rings, &course, &mut ring);
        flushed.0 += calls.commits() - begun.0;
        flushed.1 += rings.commits() - begun.1;
        for (place, (one, other)) in one.iter().zip(&other).enumerate() {
            assert_eq!(one, other, "seed {seed}, operation {place}");
        }
        fine += one.iter().filter(|(_, result, _)| *result >= 0).count() as u32;
        let standing = |bench: &Bench| bench.machine.hardware.standing();
        assert_eq!(
            standing(&calls).attached,
            standing(&rings).attached,
            "seed {seed}"
        );
        for number in [4, 5] {
            for page in 0..24 {
                let walk = |bench: &Bench| bench.machine.hardware.walk(rid(number), page << 12);
                assert_eq!(walk(&calls), walk(&rings), "seed {seed}, page {page}");
            }
        }
        rings.machine.check_caches();
        calls.end();
        rings.end();
    }
    eprintln!("{fine} succeeded, {flushed:?} flushes");
    assert!(fine > 1_000, "only {fine} operations succeeded");
    assert!(
        flushed.1 < flushed.0,
        "{} flushes by rings, {} by calls",
        flushed.1,
        flushed.0
    );
}

/// A ring with a handle above those that a course guesses.
fn high_ring(bench: &Bench) -> RawRing {
    let (machine, ram) = (&bench.machine, &bench.machine.ram);
    let spare: Vec<RawRing> = (0..8)
        .map(|_| RawRing::new(machine, RING + 0x1000, 2, 0))
        .collect();
    let ring = RawRing::new(machine, RING, 64, 0);
    for spare in spare {
        let destroy = Destroy {
            id: spare.id,
            ..Destroy::new()
        };
        assert_eq!(call(machine, VM, ram, &destroy).0, 0);
    }
    ring
}
