//! Making slots lead somewhere, elsewhere, and nowhere.

use crate::fake;
use crate::world::*;
use iommu_core::*;

const EDU: u16 = 0x20;

#[test]
fn everything_is_blocked_until_it_is_attached() {
    for plan in [Plan::legacy(), Plan::second_stage(), Plan::first_stage()] {
        let world = plan.boot();
        assert_eq!(world.context(EDU), None);
        assert_eq!(
            world.driver.attachment(slot(EDU)).unwrap(),
            Attachment::Blocked
        );
        let reason = world.walk(slot(EDU), 5).unwrap_err();
        assert!(
            [
                FaultReason::ROOT_NOT_PRESENT,
                FaultReason::SCALABLE_ROOT_NOT_PRESENT
            ]
            .contains(&reason)
        );
    }
}

#[test]
fn an_attached_device_reaches_what_is_mapped_and_nothing_else() {
    for plan in [Plan::legacy(), Plan::second_stage(), Plan::first_stage()] {
        let world = plan.boot();
        let domain = world.domain();
        world.map(domain, 5);
        world.attach(slot(EDU), Attachment::Domain(domain));
        assert_eq!(world.walk(slot(EDU), 5), Ok(Hpa::new(0x1000_5000)));
        assert!(world.walk(slot(EDU), 6).is_err());
        assert!(
            world.walk(slot(EDU + 1), 5).is_err(),
            "its neighbour does not"
        );
    }
}

#[test]
fn a_first_attachment_needs_no_invalidation() {
    for plan in [Plan::legacy(), Plan::second_stage(), Plan::first_stage()] {
        let world = plan.boot();
        let domain = world.domain();
        let replaced = world
            .driver
            .replace(slot(EDU), Attachment::Domain(domain))
            .unwrap();
        let flushed = world.commit(replaced.owed);
        assert_eq!((flushed.descriptors, flushed.doorbells), (0, 0));
        assert_eq!(world.fake.state().doorbells, 0);
    }
}

#[test]
fn a_unit_in_caching_mode_is_told_of_first_attachments() {
    let world = Plan::legacy().caching().boot();
    let domain = world.domain();
    world.attach(slot(EDU), Attachment::Domain(domain));
    let executed = world.fake.take_executed();
    // The root entry became present too: context and IOTLB, both global.
    assert_eq!(executed, [[0x11, 0], [0xd2, 0]]);
    world.attach(slot(EDU + 1), Attachment::Domain(domain));
    // Device 21h with domain id 0, by which absence is tagged, then domains 0 and 2.
    assert_eq!(
        world.fake.take_executed(),
        [[0x31 | 0x21 << 32, 0], [0xe2, 0], [0xe2 | 2 << 16, 0]]
    );
}

#[test]
fn detaching_forgets_entry_and_translations() {
    let cases = [
        // context device 20h of domain 2, IOTLB domain 2
        (
            Plan::legacy(),
            vec![[0x31 | 2 << 16 | 0x20 << 32, 0], [0xe2 | 2 << 16, 0]],
        ),
        // PASID 0 in domain 2, IOTLB domain 2
        (
            Plan::second_stage(),
            vec![[0x17 | 2 << 16, 0], [0xe2 | 2 << 16, 0]],
        ),
        // PASID 0 in domain 2, IOTLB PASID 0 in domain 2
        (
            Plan::first_stage(),
            vec![[0x17 | 2 << 16, 0], [0x26 | 2 << 16, 0]],
        ),
    ];
    for (plan, expected) in cases {
        let world = plan.boot();
        let domain = world.domain();
        world.map(domain, 5);
        world.attach(slot(EDU), Attachment::Domain(domain));
        world.detach(slot(EDU));
        assert_eq!(world.fake.take_executed(), expected);
        assert_eq!(world.fake.state().doorbells, 1);
        assert!(world.walk(slot(EDU), 5).is_err());
    }
}

#[test]
fn a_blocked_pasid_entry_is_zero_in_its_first_half_at_once_and_whole_after_the_flush() {
    let world = Plan::first_stage().boot();
    let domain = world.domain();
    world.attach(slot(EDU), Attachment::Domain(domain));
    let replaced = world
        .driver
        .replace(slot(EDU), Attachment::Blocked)
        .unwrap();
    let entry = world.pasid_entry(EDU, 0).unwrap();
    assert_eq!(entry[..2], [0, 0]);
    assert_ne!(entry[2], 0, "hardware may be fetching this still");
    world.commit(replaced.owed);
    assert_eq!(world.pasid_entry(EDU, 0).unwrap(), [0; 8]);
}

#[test]
fn a_slot_attached_again_before_the_flush_keeps_its_new_entry() {
    let world = Plan::first_stage().boot();
    let (one, two) = (world.domain(), world.domain());
    world.attach(slot(EDU), Attachment::Domain(one));
    let blocked = world
        .driver
        .replace(slot(EDU), Attachment::Blocked)
        .unwrap();
    let again = world
        .driver
        .replace(slot(EDU), Attachment::Domain(two))
        .unwrap();
    let entry = world.pasid_entry(EDU, 0).unwrap();
    world.try_commit([blocked.owed, again.owed]).unwrap();
    assert_eq!(world.pasid_entry(EDU, 0).unwrap(), entry);
    assert_eq!(entry[0] & 1, 1);
}

#[test]
fn replacing_is_hitless_in_every_mode() {
    for plan in [Plan::legacy(), Plan::second_stage(), Plan::first_stage()] {
        let world = plan.boot();
        let (one, two) = (world.domain(), world.domain());
        world.map(two, 7);
        world.attach(slot(EDU), Attachment::Domain(one));
        let spied = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        spy_on_entries(&world, spied.clone());
        let replaced = world
            .driver
            .replace(slot(EDU), Attachment::Domain(two))
            .unwrap();
        world.machine.memory.unwatch();
        assert!(replaced.hitless);
        assert_eq!(replaced.previous, Attachment::Domain(one));
        world.commit(replaced.owed);
        assert_eq!(world.walk(slot(EDU), 7), Ok(Hpa::new(0x1000_7000)));
        let mut seen = spied.lock().unwrap().clone();
        seen.dedup();
        assert!(
            seen.iter().all(|entry: &Vec<u64>| entry[0] & 1 == 1),
            "it was present at every step"
        );
        assert!(seen.len() <= 2, "old or new, nothing between: {seen:x?}");
    }
}

/// Notes the device's entry as hardware sees it after each of the driver's stores.
fn spy_on_entries(world: &World, into: std::sync::Arc<std::sync::Mutex<Vec<Vec<u64>>>>) {
    let root = world.fake.state().root;
    let look = move |memory: &test_platform::TestPlatform| {
        let load = |at: u64| memory.device_load(Hpa::new(at)).unwrap();
        let context_table = load(root & !0xfff) & !0xfff;
        let entry = if root >> 10 & 3 == 1 {
            let context = load(context_table + 32 * u64::from(EDU));
            let table = load(context & !0xfff) & !0xfff;
            (0..3).map(|n| load(table + 8 * n)).collect()
        } else {
            let at = context_table + 16 * u64::from(EDU);
            vec![load(at), load(at + 8)]
        };
        into.lock().unwrap().push(entry);
    };
    look(&world.machine.memory);
    world.machine.memory.watch(look);
}

#[test]
fn the_width_in_an_entry_is_that_of_its_table() {
    for (format, aw) in [
        (TableFormat::SecondStage3, 1),
        (TableFormat::SecondStage4, 2),
    ] {
        let spec = DomainSpec::Paging(format);
        let world = Plan::legacy().boot();
        let domain = world.driver.create(device(EDU), &spec).unwrap();
        world.attach(slot(EDU), Attachment::Domain(domain));
        assert_eq!(world.context(EDU).unwrap()[1] & 7, aw);
        let world = Plan::second_stage().boot();
        let domain = world.driver.create(device(EDU), &spec).unwrap();
        world.attach(slot(EDU), Attachment::Domain(domain));
        assert_eq!(world.pasid_entry(EDU, 0).unwrap()[0] >> 2 & 7, aw);
    }
}

#[test]
fn debts_of_one_slot_can_be_settled_in_any_order() {
    for later_first in [false, true] {
        let world = Plan::first_stage().boot();
        let (one, two) = (world.domain(), world.domain());
        world.attach(slot(EDU), Attachment::Domain(one));
        let before = world.machine.memory.outstanding();
        let replaced = world
            .driver
            .replace(slot(EDU), Attachment::Domain(two))
            .unwrap();
        let blocked = world
            .driver
            .replace(slot(EDU), Attachment::Blocked)
            .unwrap();
        let (first, second) = if later_first {
            (blocked.owed, replaced.owed)
        } else {
            (replaced.owed, blocked.owed)
        };
        world.commit(first);
        world.commit(second);
        assert_eq!(world.machine.memory.outstanding(), before);
        // Both domain ids are free again.
        world.attach(slot(1), Attachment::Domain(two));
        world.attach(slot(2), Attachment::Domain(one));
        let id_of = |source| world.pasid_entry(source, 0).unwrap()[1] & 0xffff;
        assert_eq!([id_of(1), id_of(2)], [2, 3]);
    }
}

#[test]
fn replacing_a_first_stage_invalidates_all_that_came_from_the_old_table() {
    let world = Plan::first_stage().boot();
    let (one, two) = (world.domain(), world.domain());
    world.attach(slot(EDU), Attachment::Domain(one));
    let before = world.machine.memory.outstanding();
    world.attach(slot(EDU), Attachment::Domain(two));
    // PASID-cache global for the table that was exchanged; PASID 0 in domain 2; its IOTLB.
    assert_eq!(
        world.fake.take_executed(),
        [[0x37, 0], [0x17 | 2 << 16, 0], [0x26 | 2 << 16, 0]]
    );
    assert_eq!(
        world.machine.memory.outstanding(),
        before,
        "the old table came back"
    );
}

#[test]
fn the_same_attachment_again_owes_nothing() {
    let world = Plan::first_stage().boot();
    let domain = world.domain();
    world.attach(slot(EDU), Attachment::Domain(domain));
    let again = world
        .driver
        .replace(slot(EDU), Attachment::Domain(domain))
        .unwrap();
    assert_eq!(world.commit(again.owed).doorbells, 0);
    assert_eq!(
        world.driver.attachment(slot(EDU)).unwrap(),
        Attachment::Domain(domain)
    );
}

#[test]
fn pass_through_and_domains_never_share_a_domain_id() {
    for plan in [Plan::legacy(), Plan::second_stage(), Plan::first_stage()] {
        let world = plan.boot();
        let domain = world.domain();
        world.attach(slot(EDU), Attachment::PassThrough);
        world.attach(slot(EDU + 1), Attachment::Domain(domain));
        let ids = if world.fake.state().root >> 10 & 3 == 1 {
            [EDU, EDU + 1].map(|source| world.pasid_entry(source, 0).unwrap()[1] & 0xffff)
        } else {
            [EDU, EDU + 1].map(|source| world.context(source).unwrap()[1] >> 8 & 0xffff)
        };
        assert_eq!(ids, [1, 2]);
        assert_eq!(world.walk(slot(EDU), 0x1234), Ok(Hpa::new(0x123_4000)));
    }
}

#[test]
fn pass_through_needs_a_unit_that_has_it() {
    let plan = Plan::legacy();
    let world = Plan {
        ecap: plan.ecap & !(1 << 6),
        ..plan
    }
    .boot();
    assert_eq!(
        world
            .driver
            .replace(slot(EDU), Attachment::PassThrough)
            .unwrap_err(),
        BackendError::Unsupported(device(EDU))
    );
}

#[test]
fn a_domain_id_returns_only_after_the_flush() {
    let world = Plan::second_stage().boot();
    let (one, two, three) = (world.domain(), world.domain(), world.domain());
    let id_of = |source| world.pasid_entry(source, 0).unwrap()[1] & 0xffff;
    world.attach(slot(1), Attachment::Domain(one));
    let owed = world.driver.replace(slot(1), Attachment::Blocked).unwrap();
    world.attach(slot(2), Attachment::Domain(two));
    assert_eq!(id_of(2), 3, "2 is not free yet");
    world.commit(owed.owed);
    world.attach(slot(3), Attachment::Domain(three));
    assert_eq!(id_of(3), 2);
}

#[test]
fn devices_of_one_domain_share_its_id_until_the_last_is_gone() {
    let world = Plan::second_stage().boot();
    let (one, two) = (world.domain(), world.domain());
    world.attach(slot(1), Attachment::Domain(one));
    world.attach(slot(2), Attachment::Domain(one));
    world.detach(slot(1));
    world.attach(slot(3), Attachment::Domain(two));
    let id_of = |source| world.pasid_entry(source, 0).unwrap()[1] & 0xffff;
    assert_eq!((id_of(2), id_of(3)), (2, 3));
}

#[test]
fn a_domain_that_something_leads_to_cannot_be_destroyed() {
    let world = Plan::legacy().boot();
    let domain = world.domain();
    world.attach(slot(EDU), Attachment::Domain(domain));
    assert_eq!(
        world.driver.destroy(domain).unwrap_err(),
        BackendError::Busy(domain)
    );
    world.detach(slot(EDU));
    let owed = world.driver.destroy(domain).unwrap();
    world.commit(owed);
    assert_eq!(
        world
            .driver
            .replace(slot(EDU), Attachment::Domain(domain))
            .unwrap_err(),
        BackendError::NoDomain(domain)
    );
}

#[test]
fn destroying_before_the_detachment_is_settled_flushes_for_both() {
    let world = Plan::second_stage().boot();
    let domain = world.domain();
    world.attach(slot(EDU), Attachment::Domain(domain));
    let left = world
        .driver
        .replace(slot(EDU), Attachment::Blocked)
        .unwrap();
    let destroyed = world.driver.destroy(domain).unwrap();
    // Only the destruction is settled: its tables must not come free while hardware may
    // still have the entry.
    world.commit(destroyed);
    assert_eq!(
        world.fake.take_executed(),
        [[0x17 | 2 << 16, 0], [0xe2 | 2 << 16, 0]]
    );
    world.commit(left.owed);
    assert_eq!(world.driver.quarantined().debts, 0);
}

#[test]
fn domains_and_attachments_have_a_limit_with_a_name() {
    let plan = Plan::legacy();
    let world = Plan {
        config: vtd::DriverConfig {
            domains: 1,
            attachments: 2,
            ..plan.config
        },
        ..plan
    }
    .boot();
    let domain = world.domain();
    let spec = DomainSpec::Paging(world.format());
    assert_eq!(
        world.driver.create(device(1), &spec).unwrap_err(),
        BackendError::OutOfDomains
    );
    world.attach(slot(1), Attachment::Domain(domain));
    let owed = world.driver.replace(slot(1), Attachment::Blocked).unwrap();
    world.attach(slot(2), Attachment::Domain(domain));
    let full = world.driver.replace(slot(3), Attachment::Domain(domain));
    assert_eq!(full.unwrap_err(), BackendError::OutOfDomains);
    world.commit(owed.owed);
    world.attach(slot(3), Attachment::Domain(domain));
}

#[test]
fn a_format_of_another_mode_is_refused() {
    let world = Plan::legacy().boot();
    let format = TableFormat::FirstStage4;
    assert_eq!(
        world
            .driver
            .create(device(EDU), &DomainSpec::Paging(format))
            .unwrap_err(),
        BackendError::FormatUnsupported {
            device: device(EDU),
            format
        }
    );
    let world = Plan::first_stage().boot();
    let format = TableFormat::SecondStage4;
    assert!(
        world
            .driver
            .create(device(EDU), &DomainSpec::Paging(format))
            .is_err()
    );
}

#[test]
fn a_device_of_no_unit_has_nothing() {
    let world = Plan::legacy().boot();
    let stranger = DeviceId::new(Segment(9), SourceId::from_bits(1));
    assert_eq!(
        world.driver.capabilities(stranger).unwrap_err(),
        BackendError::NoUnit(stranger)
    );
    let slot = Slot {
        device: stranger,
        pasid: None,
    };
    assert!(world.driver.replace(slot, Attachment::PassThrough).is_err());
}

#[test]
fn pasids_need_a_unit_that_has_them_and_have_its_width() {
    let world = Plan::rich().boot();
    let domain = world.domain();
    for (pasid, fits) in [(0, false), (1, true), (0xf_ffff, true)] {
        let slot = pasid_slot(EDU, pasid);
        let result = world.driver.replace(slot, Attachment::Domain(domain));
        match result {
            Ok(replaced) => assert!(world.commit(replaced.owed).doorbells <= 1),
            Err(error) => assert_eq!(error, BackendError::PasidOutOfRange(slot)),
        }
        assert_eq!(
            world.driver.attachment(slot).unwrap() == Attachment::Domain(domain),
            fits
        );
    }
    let narrow = Plan {
        ecap: fake::ECAP_ALL & !(19 << 35) | 7 << 35,
        ..Plan::rich()
    }
    .boot();
    let domain = narrow.domain();
    for (pasid, fits) in [(0xff, true), (0x100, false)] {
        let result = narrow
            .driver
            .replace(pasid_slot(EDU, pasid), Attachment::Domain(domain));
        assert_eq!(result.is_ok(), fits);
    }
    // More bits than a PASID has: a unit that says so is believed as far as PASIDs go.
    let boasting = Plan {
        ecap: fake::ECAP_ALL | 0x1f << 35,
        ..Plan::rich()
    }
    .boot();
    let domain = boasting.domain();
    let widest = pasid_slot(EDU, 0xf_ffff);
    let result = boasting.driver.replace(widest, Attachment::Domain(domain));
    assert!(result.is_ok());
    let none = Plan::first_stage().boot();
    let domain = none.domain();
    assert!(
        none.driver
            .replace(pasid_slot(EDU, 1), Attachment::Domain(domain))
            .is_err()
    );
}

#[test]
fn pasids_of_a_device_are_apart() {
    let world = Plan::rich().boot();
    let (one, two) = (world.domain(), world.domain());
    world.map(one, 1);
    world.map(two, 2);
    world.attach(slot(EDU), Attachment::Domain(one));
    world.attach(pasid_slot(EDU, 7), Attachment::Domain(two));
    world.attach(pasid_slot(EDU, 64), Attachment::Domain(one));
    assert!(world.walk(slot(EDU), 1).is_ok());
    assert!(world.walk(slot(EDU), 2).is_err());
    assert!(world.walk(pasid_slot(EDU, 7), 2).is_ok());
    assert!(world.walk(pasid_slot(EDU, 7), 1).is_err());
    assert!(world.walk(pasid_slot(EDU, 64), 1).is_ok());
    assert!(world.walk(pasid_slot(EDU, 8), 1).is_err());
    assert_eq!(world.context(EDU).unwrap()[0] >> 3 & 1, 1, "PASIDE");
    assert_eq!(world.context(EDU).unwrap()[1], 0, "RID_PASID");
}

#[test]
fn a_large_pasid_makes_the_directory_grow_and_keeps_the_others() {
    let world = Plan::rich().boot();
    let domain = world.domain();
    world.map(domain, 1);
    world.attach(slot(EDU), Attachment::Domain(domain));
    world.attach(pasid_slot(EDU, 0x7fff), Attachment::Domain(domain));
    assert_eq!(world.context(EDU).unwrap()[0] >> 9 & 7, 2);
    world.fake.take_executed();
    let before = world.machine.memory.outstanding();
    world.attach(pasid_slot(EDU, 0xf_ffff), Attachment::Domain(domain));
    assert_eq!(world.context(EDU).unwrap()[0] >> 9 & 7, 7);
    for slot in [
        slot(EDU),
        pasid_slot(EDU, 0x7fff),
        pasid_slot(EDU, 0xf_ffff),
    ] {
        assert!(world.walk(slot, 1).is_ok());
    }
    // The context entry leads elsewhere, and its old directory is given up.
    assert_eq!(
        world.fake.take_executed(),
        [[0x31 | 0x20 << 32, 0], [0x37, 0], [0xd2, 0]]
    );
    // A table, and a directory of 32 pages in place of one of 1.
    assert_eq!(world.machine.memory.outstanding(), before + 1 + 32 - 1);
}

#[test]
fn devices_of_the_upper_half_of_a_bus_have_their_own_context_table() {
    let world = Plan::second_stage().boot();
    let domain = world.domain();
    for source in [0x0008, 0x0088, 0x7f07, 0xffff] {
        world.map(domain, u64::from(source) + 1);
        world.attach(slot(source), Attachment::Domain(domain));
        assert!(world.walk(slot(source), u64::from(source) + 1).is_ok());
        assert!(world.context(source).is_some_and(|[low, _]| low & 1 == 1));
    }
}

#[test]
fn the_callers_own_tables_are_used_as_they_are() {
    let world = Plan::first_stage().boot();
    let format = TableFormat::FirstStage4;
    let root = world.machine.allocate(Order::PAGE).unwrap();
    let create = |root| {
        world
            .driver
            .create(device(EDU), &DomainSpec::Root { format, root })
    };
    let domain = create(root.hpa()).unwrap();
    world.attach(slot(EDU), Attachment::Domain(domain));
    let entry = world.pasid_entry(EDU, 0).unwrap();
    assert_eq!(entry[2] & !0xfff, root.hpa().as_u64());
    for bad in [root.hpa().as_u64() | 8, 1 << 46] {
        assert_eq!(
            create(Hpa::new(bad)).unwrap_err(),
            BackendError::BeyondHostWidth(Hpa::new(bad))
        );
    }
    assert_eq!(
        world
            .driver
            .unmap(domain, pages(0, 1))
            .map(|_| ())
            .unwrap_err(),
        MapError::NotPaging(domain)
    );
}

#[test]
fn a_guests_table_nests_where_hardware_can() {
    let world = Plan::rich().boot();
    let spec = DomainSpec::Paging(TableFormat::SecondStage4);
    let parent = world.driver.create(device(EDU), &spec).unwrap();
    let nested = |root| {
        DomainSpec::Nested(NestedSpec {
            parent,
            format: TableFormat::FirstStage4,
            root: Gpa::new(root),
            supervisor: false,
            write_protect: true,
        })
    };
    let domain = world.driver.create(device(EDU), &nested(0x5000)).unwrap();
    assert!(world.driver.create(device(EDU), &nested(1 << 48)).is_err());
    assert!(world.driver.create(device(EDU), &nested(0x5008)).is_err());
    world.attach(pasid_slot(EDU, 3), Attachment::Domain(domain));
    let entry = world.pasid_entry(EDU, 3).unwrap();
    assert_eq!(entry[0] >> 6 & 7, 3);
    assert_eq!(entry[2] & !0xfff, 0x5000);
    assert_eq!(
        world.driver.destroy(parent).unwrap_err(),
        BackendError::Busy(parent)
    );
    let poor = Plan::first_stage().boot();
    let capabilities = poor.driver.capabilities(device(EDU)).unwrap();
    assert!(!capabilities.nested);
}
