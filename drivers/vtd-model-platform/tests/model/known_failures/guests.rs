//! What guests did to their hypervisor, or to each other, through these interfaces.

use crate::guest::{ALL, PRESENT, WRITABLE};
use crate::guests::{Change, each};
use crate::page_requests::{self, INVALID_REQUEST, ask, each_space, events, take_answers, touch};
use crate::rig::{ONE, OTHER, device, read};
use iommu::{PageRequestsServed, Quota};
use iommu_core::{AddressRange, FaultReason, Gpa, Run, VmId};
use iommu_guest::Errno;
use vtd_model::Request;

#[test]
fn xsa_285_a_page_on_its_way_out_is_not_mapped_again() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let [leaving, kept] = [tenant.guest.data(3), tenant.guest.data(4)];
        tenant.guest.map(root, 0x5000, leaving, ALL);
        tenant.guest.map(root, 0x6000, kept, ALL);
        tenant.bind(None, &table);
        tenant.assert_reaches(&tenant.read(0x5000), leaving);
        // The memory map has lost it, the hypervisor has not asked for it yet, and just then
        // the guest makes all of its table be looked at again.
        let host = tenant.guest.hpa(leaving);
        let frame = tenant.guest.lose(leaving);
        tenant.guest.map(root, 0x9000, leaving, ALL);
        tenant.client.flush_everything(&table).expect("flushed");
        let range = AddressRange::page_of(Gpa::new(leaving));
        let run = Run {
            hpa: host,
            pages: 1,
        };
        house
            .iommu
            .forget(tenant.vm, &range, &[run])
            .expect("forgotten");
        iommu_core::Platform::release(&*house.platform, frame);
        tenant.client.flush_everything(&table).expect("flushed");
        for at in [0x5000, 0x9000] {
            house.assert_blocked(&tenant.read(at));
        }
        tenant.assert_reaches(&tenant.read(0x6000), kept);
        tenant.unbind(None);
    });
}

#[test]
fn xsa_304_what_a_guest_does_to_its_own_tables_is_no_shadows_table() {
    each(|house, way| {
        if way.nested {
            return;
        }
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let data = tenant.guest.data(3);
        tenant.guest.map(root, 0x5000, data, ALL);
        tenant.bind(None, &table);
        tenant.assert_reaches(&tenant.read(0x5000), data);
        // Another size for the same addresses, as it may be for processors: devices have
        // tables of their own, and see it when they are told, whole.
        let directory = tenant.guest.entry(root, 4, 0x5000, 2);
        let pages = tenant.guest.load(directory);
        tenant
            .guest
            .store(directory, crate::guest::BASE | 0x80 | ALL);
        tenant.assert_reaches(&tenant.read(0x5000), data);
        tenant.flush(&table, 0, 512, Change::Table);
        let fifth = tenant.guest.data(5);
        tenant.assert_reaches(&tenant.read(0x5000), fifth);
        tenant.guest.store(directory, pages);
        tenant.flush(&table, 0, 512, Change::Table);
        tenant.assert_reaches(&tenant.read(0x5000), data);
        tenant.unbind(None);
    });
}

#[test]
fn xsa_492_what_one_guest_names_is_never_another_guests() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let mut neighbour = house.guest(2, 64, OTHER);
        let (root, table) = tenant.root();
        let data = tenant.guest.data(3);
        tenant.guest.map(root, 0x5000, data, ALL);
        // A table that the neighbour has not: it has no second handle.
        let (_, second) = tenant.root();
        tenant.bind(None, &table);
        // The same numbers in the mouth of the neighbour.
        let (theirs, mine) = (neighbour.device, tenant.device);
        for handle in [&table, &second] {
            let refused = neighbour.client.bind(theirs, handle).unwrap_err();
            assert_eq!(refused.errno(), Some(Errno::ENOENT));
        }
        assert_eq!(theirs, mine, "a number of each guest's own");
        assert!(
            neighbour.client.unbind(theirs).is_err(),
            "nothing of its own is bound"
        );
        tenant.assert_reaches(&tenant.read(0x5000), data);
        house.assert_blocked(&read(OTHER, 0x5000));
        // The hypervisor's own operations ask who owns the device, too.
        assert!(house.iommu.assign(VmId(2), device(ONE), 9).is_err());
        assert!(house.iommu.take_back(VmId(2), device(ONE)).is_err());
        tenant.assert_reaches(&tenant.read(0x5000), data);
        tenant.unbind(None);
    });
}

#[test]
fn cve_2024_46824_every_operation_number_is_answered() {
    each(|house, _| {
        let tenant = house.guest(1, 64, ONE);
        // Zeroes, and an argument that lies nowhere, for whatever number.
        let zeroes = tenant.guest.data(40);
        for operation in (0..0x400).chain([u64::MAX, 1 << 32 | 0x120]) {
            for at in [zeroes, 0x7fff_0000, 0xffff_ffff_ffff_0000] {
                let result = house.iommu.call(tenant.vm, operation, Gpa::new(at));
                let refused = (-4095..0).contains(&result);
                assert!(refused, "operation {operation:#x} at {at:#x}: {result}");
            }
        }
        house.assert_blocked(&tenant.read(0x5000));
    });
}

#[test]
fn cve_2024_26785_an_object_that_is_gone_is_not_used() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let data = tenant.guest.data(3);
        tenant.guest.map(root, 0x5000, data, ALL);
        tenant.bind(None, &table);
        tenant.unbind(None);
        // The same object twice, as two processors may hold it.
        let again = tenant.table(root);
        tenant.client.destroy_table(table).expect("destroyed");
        tenant.bind(None, &again);
        tenant.assert_reaches(&tenant.read(0x5000), data);
        house
            .iommu
            .take_back(tenant.vm, device(ONE))
            .expect("taken back");
        // The device's handle is gone with all that was bound to it.
        let refused = tenant.client.unbind(tenant.device).unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::ENOENT));
        let refused = tenant.client.bind(tenant.device, &again).unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::ENOENT));
        house.assert_blocked(&tenant.read(0x5000));
        tenant
            .client
            .flush_everything(&again)
            .expect("nothing to do");
        tenant.client.destroy_table(again).expect("destroyed");
    });
}

#[test]
fn cve_2025_71202_supervisor_pages_are_out_of_every_devices_reach() {
    each(|house, way| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let [kernels, users] = [tenant.guest.data(3), tenant.guest.data(4)];
        tenant.guest.map(root, 0x5000, kernels, PRESENT | WRITABLE);
        tenant.guest.map(root, 0x6000, users, ALL);
        let by_pasid = way.config.pasid_bits.is_some() && way.mode != vtd::ModeRequest::Legacy;
        let pasid = by_pasid.then(|| tenant.client.allocate_pasid(1, 1000).expect("a PASID"));
        tenant.bind(pasid, &table);
        let at = |address| Request {
            pasid: by_pasid.then_some(1),
            ..read(ONE, address)
        };
        house.assert_reaches(&at(0x6000), tenant.guest.hpa(users));
        tenant.assert_faults(&at(0x5000), FaultReason::USER_DENIED);
        if by_pasid {
            // Nor with a privilege that the device claims.
            for address in [0x5000, 0x6000] {
                house.assert_blocked(&at(address).privileged());
            }
        }
        // What the kernel frees has never been in a cache.
        tenant.guest.unmap(root, 0x5000);
        crate::guests::forget(&tenant, kernels);
        house.assert_blocked(&at(0x5000));
        tenant.unbind(pasid);
    });
}

/// The device asks, and nobody has answered yet.
fn waiting(
    house: &crate::guests::House<'_>,
    tenant: &mut crate::guests::Tenant<'_>,
    space: &page_requests::Space,
) {
    assert_eq!(touch(house, space, 0x5000).address(), None);
    assert_eq!(ask(house, &[space.asks(0x5000, 7, true)]).told, 1);
    assert_eq!(events(tenant).len(), 1);
    assert!(take_answers(house).is_empty());
}

#[test]
fn cve_2025_38594_requests_that_wait_are_answered_before_their_table_goes() {
    each_space(Quota::default(), |house, tenant, space| {
        waiting(house, tenant, space);
        tenant.unbind(space.pasid);
        assert_eq!(take_answers(house), [(7, INVALID_REQUEST, false)]);
        assert_eq!(touch(house, space, 0x5000).address(), None);
    });
}

#[test]
fn cve_2024_35843_a_request_of_a_device_that_was_taken_back_finds_nobody() {
    each_space(Quota::default(), |house, tenant, space| {
        waiting(house, tenant, space);
        let asking = space.asks(0x6000, 8, true);
        // One is in the unit's queue and not read yet when the device goes.
        house
            .platform
            .with_machine(|machine| machine.page_request(&asking));
        house
            .iommu
            .take_back(tenant.vm, device(asking.source))
            .expect("taken back");
        let served = house.iommu.serve_page_requests();
        assert_eq!(served.told, 0, "{served:?}");
        assert!(events(tenant).is_empty());
        // Both were answered, by whomever; one that comes later is refused by the unit.
        let mut groups: Vec<u16> = take_answers(house).iter().map(|answer| answer.0).collect();
        groups.sort_unstable();
        assert_eq!(groups, [7, 8]);
        assert_eq!(ask(house, &[asking]), PageRequestsServed::default());
    });
}
