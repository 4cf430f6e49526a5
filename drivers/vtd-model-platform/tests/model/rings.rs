//! Rings of operations down to what units are told: doorbells and waits, counted.

use crate::guest::{ALL, Guest};
use crate::guests::{Change, House, Hypervisor, Tenant, Way, ways};
use crate::rig::{FREEDOMS, ONE};
use iommu::{Figures, Quota};
use iommu_abi::{
    IntoBytes as _, Invalidate, InvalidateRange, Op, RingCompletion, RingCreate, RingEnter,
    RingSubmission,
};
use iommu_core::{Gpa, GuestMemory, Platform as _, VmId};
use iommu_guest::{DeviceId, FlushList, RingMemory, UserTable};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use vtd_model::Freedom;
use x86_64::structures::paging::{Page, page::PageRangeInclusive};
use x86_64::{PhysAddr, VirtAddr};

fn pages(first: u64, count: u64) -> PageRangeInclusive {
    let page = |address| Page::containing_address(VirtAddr::new(address));
    Page::range_inclusive(page(first), page(first + (count - 1) * 0x1000))
}

/// Memory for a ring of the guest library, in pages of the guest's from this one on.
fn memory(tenant: &Tenant<'_>, first: u64, count: u64) -> RingMemory<'static> {
    let words = (0..count * 512).map(|_| AtomicU64::new(0)).collect();
    let words = Vec::leak(words);
    let address = PhysAddr::new(tenant.guest.data(first));
    // SAFETY: `Calls` carries the words to and from the guest's pages at this address.
    unsafe { RingMemory::new(words, address) }.expect("memory for a ring")
}

struct Spent {
    calls: u64,
    doorbells: u64,
    waits: u64,
    descriptors: u64,
}

/// What was spent on something.
fn spent<R>(house: &House, act: impl FnOnce() -> R) -> (R, Spent) {
    let before: Figures = house.iommu.figures();
    let result = act();
    let after = house.iommu.figures();
    let spent = Spent {
        calls: after.calls - before.calls,
        doorbells: after.doorbells - before.doorbells,
        waits: after.waits - before.waits,
        descriptors: after.descriptors - before.descriptors,
    };
    (result, spent)
}

fn each(mut test: impl FnMut(&House, &Way)) {
    for way in ways() {
        for freedom in FREEDOMS {
            eprintln!("{}, {freedom:?}", way.name);
            let host = Hypervisor::default();
            let house = House::new(&way, freedom, &host);
            test(&house, &way);
            house.assert_clean();
        }
    }
}

#[test]
fn a_guest_binds_flushes_and_unbinds_by_its_ring() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let device = tenant.device;
        let mut ring = tenant
            .client
            .create_ring(memory(&tenant, 20, 3))
            .map_err(|(error, _)| error)
            .expect("a ring");
        assert_eq!(ring.entries(), 16);
        let first = tenant.guest.data(3);
        tenant.guest.map(root, 0x7000, first, ALL);
        for round in 0..5 {
            let mut operations = ring.round();
            let bind = operations.add(&iommu_abi::Bind {
                device_id: device_of(device),
                ioas_id: table.id(),
                ..iommu_abi::Bind::new()
            });
            let bind = bind.expect("room");
            let flushing = operations.flush(changed(&table, &[0x7000, 0x9000]));
            let flushing = flushing.map_err(|(full, _)| full).expect("room");
            let (done, spent) = spent(house, || tenant.client.enter(operations));
            let done = done.expect("done");
            assert_eq!(spent.calls, 1, "round {round}");
            done.take(&bind).expect("bound");
            let held = done.settled(flushing).map_err(|unsettled| unsettled.error);
            assert_eq!(held.expect("settled").as_slice(), [0x7000, 0x9000]);
            drop(done);
            house.assert_reaches(&tenant.read(0x7000), tenant.guest.hpa(first));
            let mut operations = ring.round();
            let unbind = operations.add(&iommu_abi::Unbind {
                device_id: device_of(device),
                ..iommu_abi::Unbind::new()
            });
            let unbind = unbind.expect("room");
            let done = tenant.client.enter(operations).expect("done");
            done.take(&unbind).expect("unbound");
            drop(done);
            house.assert_blocked(&tenant.read(0x7000));
        }
        tenant
            .client
            .destroy_ring(ring)
            .map_err(|(error, _)| error)
            .expect("destroyed");
        tenant.client.destroy_table(table).expect("destroyed");
    });
}

fn device_of(device: DeviceId) -> u32 {
    device.as_u32()
}

fn changed<'t>(table: &'t UserTable, addresses: &[u64]) -> FlushList<'t, u64, 8> {
    let mut list = FlushList::new(table);
    for &address in addresses {
        let owed = table.tables_changed(pages(address, 1)).holding(address);
        list.add(owed).expect("room");
    }
    list
}

#[test]
fn what_a_round_did_not_settle_is_owed_still() {
    let way = &ways()[0];
    let host = Hypervisor::default();
    let house = House::new(way, FREEDOMS[0], &host);
    let mut tenant = house.guest(1, 64, ONE);
    let (_, table) = tenant.root();
    let ring = tenant.client.create_ring(memory(&tenant, 20, 3));
    let mut ring = ring.map_err(|(error, _)| error).expect("a ring");
    // Never entered.
    let mut round = ring.round();
    drop(round.flush(changed(&table, &[0x7000])).expect("room"));
    drop(round);
    // The next flush is of everything, and settles it.
    let mut round = ring.round();
    let flushing = round.flush(changed(&table, &[0x7000])).expect("room");
    assert_eq!(round.len(), 1);
    let done = tenant.client.enter(round).expect("done");
    done.settled(flushing).expect("settled");
    drop(done);
    let gone = tenant.client.destroy_table(table);
    gone.map_err(|(error, _)| error).expect("destroyed");
    house.assert_clean();
}

#[test]
fn no_call_is_made_while_the_hypervisor_polls() {
    let way = &ways()[0];
    let host = Hypervisor::default();
    let house = House::new(way, FREEDOMS[1], &host);
    let mut tenant = house.guest(1, 64, ONE);
    let ring = tenant.client.create_ring(memory(&tenant, 20, 3));
    let ring = ring.map_err(|(error, _)| error).expect("a ring");
    assert!(!ring.is_polled());
    house.iommu.set_polling(tenant.vm, true).expect("polled");
    // What the guest would see in its memory.
    let state = tenant.guest.data(20) + 32;
    assert_eq!(tenant.guest.load(state), 1);
    house.iommu.set_polling(tenant.vm, false).expect("ended");
    assert_eq!(tenant.guest.load(state), 0);
}

/// A ring of 4,096 invalidations of a page each, as a guest would write it word by word.
struct Many<'g> {
    guest: &'g Arc<Guest>,
    indices: u64,
    submissions: u64,
    arguments: u64,
    id: u32,
    tail: u32,
}

/// Leaf entries that are changed: every second page.
fn scattered(index: u64) -> u64 {
    0x4000_0000 + index * 0x2000
}

impl<'g> Many<'g> {
    const ENTRIES: u64 = 4096;

    fn new(house: &House, guest: &'g Arc<Guest>, vm: VmId, first: u64) -> Self {
        let indices = guest.data(first);
        let submissions = indices + 0x1000;
        let completions = submissions + Self::ENTRIES * 32;
        let arguments = completions + Self::ENTRIES * 16;
        let create = RingCreate {
            indices,
            submissions,
            completions,
            entries: Self::ENTRIES as u32,
            ..RingCreate::new()
        };
        let (result, create) = raw(house, guest, vm, &create);
        assert_eq!(result, 0);
        Self {
            guest,
            indices,
            submissions,
            arguments,
            id: create.ring_id,
            tail: 0,
        }
    }

    /// Pages that it needs.
    const fn pages() -> u64 {
        1 + Self::ENTRIES * (32 + 16 + 64) / 4096
    }

    fn submit(&mut self, ioas_id: u32, address: u64) {
        let place = u64::from(self.tail) % Self::ENTRIES;
        let at = self.arguments + 64 * place;
        let invalidate = Invalidate {
            ioas_id,
            granularity: 2,
            entries: at + 40,
            entry_size: 24,
            entry_count: 1,
            model: 1,
            ..Invalidate::new()
        };
        let range = InvalidateRange {
            address,
            pages: 1,
            flags: InvalidateRange::LEAF,
            reserved: 0,
        };
        let submission = RingSubmission {
            operation: Op::Invalidate.as_u32(),
            argument: at,
            user_data: place,
            ..RingSubmission::default()
        };
        self.put(at, invalidate.as_bytes());
        self.put(at + 40, range.as_bytes());
        self.put(self.submissions + 32 * place, submission.as_bytes());
        self.tail += 1;
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.guest.copy_out(Gpa::new(at), bytes).expect("memory");
    }

    fn enter(&self, house: &House, vm: VmId) -> RingEnter {
        self.put(self.indices, &u64::from(self.tail).to_le_bytes());
        let enter = RingEnter {
            ring_id: self.id,
            ..RingEnter::new()
        };
        let (result, enter) = raw(house, self.guest, vm, &enter);
        assert!(result >= 0, "{result}");
        enter
    }

    /// Every completion says that a range was done.
    fn take(&self) {
        let completions = self.submissions + 32 * Self::ENTRIES;
        for place in 0..u64::from(self.tail) {
            let mut completion = RingCompletion::default();
            let at = Gpa::new(completions + 16 * (place % Self::ENTRIES));
            let bytes = completion.as_mut_bytes();
            self.guest.copy_in(at, bytes).expect("memory");
            assert_eq!(completion.result, 1, "operation {place}");
        }
        self.put(self.indices + 8, &u64::from(self.tail).to_le_bytes());
    }
}

/// A call with its argument in the guest's first page.
fn raw<A: iommu_abi::Argument>(house: &House, guest: &Guest, vm: VmId, argument: &A) -> (i64, A) {
    let at = Gpa::new(guest.data(0));
    guest.copy_out(at, argument.as_bytes()).expect("memory");
    let result = house.iommu.call(vm, A::OP.as_u32().into(), at);
    let mut back = *argument;
    guest.copy_in(at, back.as_mut_bytes()).expect("memory");
    (result, back)
}

#[test]
fn one_range_or_4096_scattered_ones_cost_one_doorbell_and_one_wait() {
    for way in ways().into_iter().step_by(3) {
        let host = Hypervisor::default();
        let house = House::new(&way, Freedom::Random(3), &host);
        let quota = Quota {
            shadow_pages: 64,
            ..Quota::default()
        };
        let mut tenant = house.guest_with(1, Many::pages() + 80, ONE, quota);
        let (root, table) = tenant.root();
        let page = |number| tenant.guest.data(number);
        let [first, last] = [page(1), page(2)];
        for index in 0..Many::ENTRIES {
            let leaf = tenant.guest.entry(root, 4, scattered(index), 1);
            tenant.guest.put_quietly(leaf, first | ALL);
        }
        let pages = [3, 4, 5, 6].map(page);
        tenant.bind(None, &table);
        let guest = Arc::clone(&tenant.guest);
        let mut many = Many::new(&house, &guest, tenant.vm, 8);
        let mut report = Vec::new();
        for (count, to) in [1, 16, 200, 4096].into_iter().zip(pages) {
            for index in 0..count {
                let leaf = tenant.guest.entry(root, 4, scattered(index), 1);
                tenant.guest.put_quietly(leaf, to | ALL);
                many.submit(table.id(), scattered(index));
            }
            let (enter, cost) = spent(&house, || many.enter(&house, tenant.vm));
            assert_eq!((u64::from(enter.completed), enter.remaining), (count, 0));
            many.take();
            let told = (cost.calls, cost.doorbells, cost.waits);
            assert_eq!(told, (1, 1, 1), "{}: {count} ranges", way.name);
            report.push((count, cost.descriptors));
            for index in [0, count / 2, count - 1] {
                let request = tenant.read(scattered(index));
                house.assert_reaches(&request, tenant.guest.hpa(to));
            }
        }
        eprintln!("{}: ranges and descriptors {report:?}", way.name);
        // By single calls each range is a call, a doorbell and a wait.
        let leaf = tenant.guest.entry(root, 4, scattered(0), 1);
        let (_, cost) = spent(&house, || {
            for page in [first, last, first, last] {
                tenant.guest.put_quietly(leaf, page | ALL);
                tenant.flush(&table, scattered(0), 1, Change::Leaf);
            }
        });
        assert_eq!((cost.calls, cost.doorbells, cost.waits), (4, 4, 4));
        house.iommu.destroy_guest(tenant.vm).expect("ended");
        for frame in tenant.guest.take_all() {
            house.platform.release(frame);
        }
        house.assert_clean();
    }
}

#[test]
fn a_guest_dies_in_the_middle_of_its_ring() {
    each(|house, way| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        tenant.guest.map(root, 0x7000, tenant.guest.data(3), ALL);
        tenant.bind(None, &table);
        let ring = tenant.client.create_ring(memory(&tenant, 20, 3));
        let mut ring = ring.map_err(|(error, _)| error).expect("a ring");
        house.iommu.destroy_guest(tenant.vm).expect("ended");
        house.assert_blocked(&tenant.read(0x7000));
        let mut round = ring.round();
        let _ticket = round.add(&iommu_abi::Info::new()).expect("room");
        let dead = tenant.client.enter(round).expect_err(way.name);
        assert_eq!(dead.errno(), Some(iommu_guest::Errno::EPERM));
        for frame in tenant.guest.take_all() {
            house.platform.release(frame);
        }
    });
}
