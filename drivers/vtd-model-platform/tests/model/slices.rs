//! A device that several guests share, each by PASIDs of its own, contained from each other.

use crate::guest::{ALL, PRESENT, USER};
use crate::guests::{Change, House, Hypervisor, Tenant, Way, ways};
use crate::rig::{FREEDOMS, ONE, OTHER, device, read, refused, write};
use iommu::IommuError;
use iommu_abi::IntoBytes as _;
use iommu_core::{Backend, BackendError, Gpa, GuestMemory as _, Pasid, Platform as _, VmId};
use iommu_guest::{Capabilities, Errno, GuestPasid, Use, UserTable};
use std::sync::atomic::Ordering;
use vtd::ModeRequest;
use vtd_model::{Config, Owner, Request};

fn each(mut test: impl FnMut(&House, &Way)) {
    for way in ways().into_iter().filter(Way::has_pasids) {
        for freedom in FREEDOMS {
            eprintln!("{}, {freedom:?}", way.name);
            let host = Hypervisor::default();
            let house = House::new(&way, freedom, &host);
            test(&house, &way);
            house.assert_clean();
        }
    }
}

/// One guest's part of the device: a table that is bound to a PASID of its.
struct Part<'i> {
    tenant: Tenant<'i>,
    root: u64,
    table: UserTable,
    pasid: GuestPasid,
    host_pasid: u32,
}

/// Where all guests map something.
const HERE: u64 = 0x1234_5000;

fn part<'i>(house: &'i House<'i>, vm: u16) -> Part<'i> {
    let mut tenant = house.guest_with_slice(vm, 64, ONE);
    // All guests have the same number for it.
    let pasid = tenant.client.allocate_pasid(500, 1000).expect("a PASID");
    assert_eq!(pasid.as_u32(), 500);
    let number = Pasid::new(500).expect("20 bits");
    let host = house.iommu.host_pasid(tenant.vm, device(ONE), number);
    let host_pasid = host.expect("the machine's").as_u32();
    let owner = Owner::Guest(vm.into());
    house
        .platform
        .with_machine(|machine| machine.assign(ONE, Some(host_pasid), owner));
    let (root, table) = tenant.root();
    let page = tenant.guest.data(3);
    tenant.guest.map(root, HERE, page, ALL);
    tenant.bind(Some(pasid), &table);
    Part {
        tenant,
        root,
        table,
        pasid,
        host_pasid,
    }
}

impl Part<'_> {
    fn request(&self, address: u64) -> Request {
        Request {
            pasid: Some(self.host_pasid),
            ..read(ONE, address)
        }
    }

    #[track_caller]
    fn assert_reaches(&self, address: u64, page: u64) {
        let hpa = self.tenant.guest.hpa(self.tenant.guest.data(page));
        self.tenant
            .house
            .assert_reaches(&self.request(address), hpa);
    }

    /// From now on hardware must not fail to reach it, at any instant.
    fn rely(&self, address: u64, page: u64) {
        let at = self.tenant.guest.hpa(self.tenant.guest.data(page)).as_u64();
        self.tenant.house.platform.with_machine(|machine| {
            machine.expect(ONE, Some(self.host_pasid), address, 0x1000, at, true);
        });
    }

    fn end(self) {
        let house = self.tenant.house;
        house.platform.with_machine(|machine| {
            machine.release(ONE, Some(self.host_pasid), 0, u64::MAX);
        });
        house.iommu.destroy_guest(self.tenant.vm).expect("ended");
        for frame in self.tenant.guest.take_all() {
            house.platform.release(frame);
        }
        house.assert_blocked(&Request {
            pasid: Some(self.host_pasid),
            ..read(ONE, HERE)
        });
    }
}

#[test]
fn two_guests_share_a_device_and_neither_reaches_the_other() {
    each(|house, _| {
        let (first, second) = (part(house, 1), part(house, 2));
        assert_ne!(first.host_pasid, second.host_pasid);
        // The same PASID of theirs, the same address: each its own page.
        first.assert_reaches(HERE, 3);
        second.assert_reaches(HERE, 3);
        // Nobody's PASID, no PASID, another device.
        let strange = [
            Request {
                pasid: Some(9),
                ..read(ONE, HERE)
            },
            read(ONE, HERE),
            write(ONE, HERE),
            Request {
                source: OTHER,
                ..first.request(HERE)
            },
        ];
        for request in strange {
            house.assert_blocked(&request);
        }
        first.end();
        second.end();
    });
}

#[test]
fn whatever_one_guest_does_the_others_requests_go_through() {
    each(|house, _| {
        let (kept, mut other) = (part(house, 1), part(house, 2));
        kept.rely(HERE, 3);
        let tenant = &mut other.tenant;
        let page = tenant.guest.data(5);
        tenant.map(&other.table, other.root, HERE + 0x1000, page, ALL);
        tenant.guest.unmap(other.root, HERE);
        tenant.flush(&other.table, HERE, 1, Change::Leaf);
        house.assert_blocked(&other.request(HERE));
        other.assert_reaches(HERE + 0x1000, 5);
        let tenant = &mut other.tenant;
        tenant
            .client
            .flush_everything(&other.table)
            .expect("flushed");
        tenant.unbind(Some(other.pasid));
        house.assert_blocked(&other.request(HERE + 0x1000));
        let tenant = &mut other.tenant;
        let second = tenant.client.allocate_pasid(1, 9).expect("a PASID");
        tenant.bind(Some(second), &other.table);
        tenant.client.free_pasid(other.pasid).expect("free");
        kept.assert_reaches(HERE, 3);
        // It dies with something bound.
        other.end();
        kept.assert_reaches(HERE, 3);
        // And another takes its place.
        let third = part(house, 3);
        third.assert_reaches(HERE, 3);
        third.end();
        kept.assert_reaches(HERE, 3);
        kept.end();
    });
}

#[test]
fn an_invalidation_of_one_guest_selects_nothing_of_another() {
    let ways = || {
        ways()
            .into_iter()
            .filter(|way| way.has_pasids() && way.is_nested())
    };
    for way in ways() {
        let host = Hypervisor::default();
        // Hardware caches all that it may, and keeps it.
        let house = House::new(&way, FREEDOMS[0], &host);
        let (mut first, mut second) = (part(&house, 1), part(&house, 2));
        second.assert_reaches(HERE, 3);
        // Told to nobody: hardware may go on using what it had.
        second.tenant.guest.unmap(second.root, HERE);
        let request = second.request(HERE);
        let cached = || {
            let possible = house
                .platform
                .with_machine(|machine| machine.possible(&request));
            possible.iter().any(|outcome| outcome.address().is_some())
        };
        assert!(cached(), "{}", way.name);
        first.tenant.flush(&first.table, HERE, 1, Change::Leaf);
        assert!(cached(), "{}: one page", way.name);
        let flushed = first.tenant.client.flush_everything(&first.table);
        flushed.expect("flushed");
        assert!(cached(), "{}: everything", way.name);
        first.tenant.unbind(Some(first.pasid));
        assert!(cached(), "{}: unbound", way.name);
        // Whose it is can.
        second.tenant.flush(&second.table, HERE, 1, Change::Leaf);
        assert!(!cached(), "{}", way.name);
        first.end();
        second.end();
        house.assert_clean();
    }
}

#[test]
fn requests_without_pasid_can_be_bound_by_nobody() {
    each(|house, _| {
        let mut slice = part(house, 1);
        let tenant = &mut slice.tenant;
        let refused = tenant.client.bind(tenant.device, &slice.table);
        assert_eq!(refused.expect_err("EPERM").errno(), Some(Errno::EPERM));
        // Nor can a whole table of PASIDs, of which others have some.
        let whole_table = iommu_abi::PasidTableBind {
            device_id: tenant.device.as_u32(),
            directory: tenant.guest.data(9),
            ..iommu_abi::PasidTableBind::new()
        };
        let at = Gpa::new(tenant.guest.data(0));
        let bytes = whole_table.as_bytes();
        tenant.guest.copy_out(at, bytes).expect("memory");
        let operation = iommu_abi::Op::PasidTableBind.as_u32().into();
        let refused = house.iommu.call(tenant.vm, operation, at);
        assert_eq!(refused, Errno::EPERM.to_register());
        let missing = |tenant: &mut Tenant<'_>, purpose| {
            let missing = tenant.client.missing_for(purpose, tenant.device);
            missing.expect("an answer")
        };
        let whole = Capabilities::WITHOUT_PASID;
        assert_eq!(missing(tenant, Use::UserTable), whole);
        assert_eq!(missing(tenant, Use::ManagedDma), whole);
        let none = Capabilities::empty();
        assert_eq!(missing(tenant, Use::UserTableByPasid), none);
        // The twin has all of a device.
        let mut owner = house.guest(2, 64, OTHER);
        assert_eq!(missing(&mut owner, Use::UserTable), none);
        let (_, table) = owner.root();
        owner.client.bind(owner.device, &table).expect("bound");
        owner.client.unbind(owner.device).expect("unbound");
        slice.end();
    });
}

#[test]
fn each_guest_is_told_of_the_faults_of_its_own_pasids() {
    each(|house, _| {
        let (mut first, mut second) = (part(house, 1), part(house, 2));
        let report = |request: &Request| {
            let record = refused(&house.platform, house.driver(), request);
            house.iommu.report(&record)
        };
        let told = |part: &mut Part<'_>| {
            let mut faults = Vec::new();
            part.tenant
                .client
                .read_faults(|fault| faults.push(fault))
                .expect("faults");
            faults
        };
        let attribution = report(&second.request(0x9000)).expect("the second's");
        assert_eq!(attribution.vm, VmId(2));
        assert_eq!(attribution.pasid, Pasid::new(500));
        assert!(told(&mut first).is_empty());
        let faults = told(&mut second);
        let [fault] = faults[..] else {
            panic!("{faults:?}")
        };
        assert_eq!(fault.pasid, Some(second.pasid));
        assert_eq!(fault.device, second.tenant.device);
        assert_eq!(fault.ioas_id, Some(second.table.id()));
        // A PASID that it has and that leads nowhere.
        first.tenant.unbind(Some(first.pasid));
        let attribution = report(&first.request(HERE)).expect("the first's");
        assert_eq!(attribution.vm, VmId(1));
        assert_eq!(
            (attribution.pasid, attribution.ioas_id),
            (Pasid::new(500), None)
        );
        assert_eq!(told(&mut first).len(), 1);
        assert!(told(&mut second).is_empty());
        // Requests of no guest are the hypervisor's.
        assert_eq!(report(&read(ONE, HERE)), None);
        let strange = Request {
            pasid: Some(40),
            ..read(ONE, HERE)
        };
        assert_eq!(report(&strange), None);
        first.end();
        second.end();
    });
}

#[test]
fn a_device_is_shared_or_one_guests_and_reset_when_that_changes() {
    each(|house, _| {
        let resets = || house.host.resets.load(Ordering::Relaxed);
        let (first, second) = (part(house, 1), part(house, 2));
        assert_eq!(resets(), 1, "when it was shared first");
        let owner = house.guest(3, 64, OTHER);
        let owned =
            |result: Result<u32, IommuError>| matches!(result, Err(IommuError::Owned { .. }));
        assert!(owned(house.iommu.assign(owner.vm, device(ONE), 0)));
        assert!(owned(house.iommu.assign_slice(VmId(1), device(OTHER), 0)));
        assert!(owned(house.iommu.assign_slice(VmId(1), device(ONE), 0)));
        let before = resets();
        first.end();
        assert_eq!(resets(), before, "somebody shares it still");
        second.assert_reaches(HERE, 3);
        second.end();
        assert_eq!(resets(), before + 1);
        house
            .iommu
            .assign(owner.vm, device(ONE), 0)
            .expect("nobody shares it");
    });
}

#[test]
fn a_slice_that_is_taken_back_leaves_the_guest_and_the_others_alone() {
    each(|house, _| {
        let (first, second) = (part(house, 1), part(house, 2));
        second.rely(HERE, 3);
        house
            .iommu
            .take_back(first.tenant.vm, device(ONE))
            .expect("taken");
        house.assert_blocked(&first.request(HERE));
        second.assert_reaches(HERE, 3);
        let again = house.iommu.assign_slice(first.tenant.vm, device(ONE), 0);
        assert_eq!(again.expect("a slice"), first.tenant.device.as_u32());
        first.end();
        second.end();
    });
}

#[test]
fn a_pasid_has_another_owner_only_when_the_device_has_stopped_with_it() {
    each(|house, _| {
        let stopped = || std::mem::take(&mut *house.host.stopped.lock().expect("no panic"));
        let cannot = |cannot| house.host.cannot_stop.store(cannot, Ordering::Relaxed);
        let free = |part: &mut Part<'_>| {
            part.tenant.unbind(Some(part.pasid));
            part.tenant.client.free_pasid(part.pasid).expect("free");
        };
        let take = |part: &Part<'_>| {
            let number = Pasid::new(500).expect("20 bits");
            let host = house.iommu.host_pasid(part.tenant.vm, device(ONE), number);
            host.expect("the machine's").as_u32()
        };
        let (mut first, mut second) = (part(house, 1), part(house, 2));
        let given = first.host_pasid;
        free(&mut first);
        assert_eq!(stopped(), [given]);
        free(&mut second);
        // It has stopped: the next to ask gets it.
        second.pasid = second.tenant.client.allocate_pasid(500, 500).expect("one");
        assert_eq!(take(&second), given);
        // It has not: nobody ever gets it again.
        stopped();
        cannot(true);
        second.tenant.client.free_pasid(second.pasid).expect("free");
        cannot(false);
        assert_eq!(house.iommu.figures().retired_pasids, 1);
        first.pasid = first.tenant.client.allocate_pasid(500, 500).expect("one");
        assert_ne!(take(&first), given);
        // The same at the end of a guest.
        let kept = take(&first);
        cannot(true);
        first.end();
        cannot(false);
        assert_eq!(house.iommu.figures().retired_pasids, 2);
        second.pasid = second.tenant.client.allocate_pasid(500, 500).expect("one");
        assert!(![given, kept].contains(&take(&second)));
        second.end();
    });
}

#[test]
fn a_unit_without_pasids_shares_no_device() {
    let legacy = Way::shadowed("legacy", Config::legacy(), ModeRequest::Legacy);
    let host = Hypervisor::default();
    let house = House::new(&legacy, FREEDOMS[0], &host);
    let _owner = house.guest(1, 64, OTHER);
    let refused = house.iommu.assign_slice(VmId(1), device(ONE), 0);
    let unsupported = BackendError::Unsupported(device(ONE));
    assert_eq!(refused, Err(IommuError::Backend(unsupported)));
    // All of it can be had.
    house
        .iommu
        .assign(VmId(1), device(ONE), 0)
        .expect("the device");
    assert_eq!(
        house
            .driver()
            .capabilities(device(ONE))
            .expect("known")
            .pasid_bits,
        0
    );
    house.assert_clean();
}

#[test]
fn a_page_that_one_guest_may_only_read_is_no_other_guests_matter() {
    each(|house, _| {
        let (mut first, second) = (part(house, 1), part(house, 2));
        let page = first.tenant.guest.data(7);
        let tenant = &mut first.tenant;
        tenant.map(
            &first.table,
            first.root,
            HERE + 0x2000,
            page,
            PRESENT | USER,
        );
        first.assert_reaches(HERE + 0x2000, 7);
        let writes = |part: &Part<'_>, address| Request {
            pasid: Some(part.host_pasid),
            ..write(ONE, address)
        };
        house.assert_blocked(&writes(&first, HERE + 0x2000));
        house.assert_blocked(&second.request(HERE + 0x2000));
        let own = second.tenant.guest.hpa(second.tenant.guest.data(3));
        house.assert_reaches(&writes(&second, HERE), own);
        first.end();
        second.end();
    });
}
