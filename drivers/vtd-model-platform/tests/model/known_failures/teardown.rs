//! What was left behind, or went too early, when something ended or failed.

use super::each;
use crate::guest::ALL;
use crate::guests::{self, House, Hypervisor, Way, forget};
use crate::rig::{FREEDOMS, ONE, OTHER, Plan, device, range, read, slot, write};
use iommu_core::{
    Access, Attachment, Backend, BackendError, DomainSpec, Iova, MapError, Platform, Run,
    TableFormat,
};
use vtd::ModeRequest;
use vtd_model::{Config, Owner};

#[test]
fn xsa_207_tables_go_with_their_guest_in_whatever_state_it_dies() {
    guests::each(|house, _| {
        // The first one leaves the units' own tables behind.
        let mut idle = None;
        for state in 0..6 {
            let mut tenant = house.guest(1, 64, ONE);
            let data = tenant.guest.data(3);
            if state > 0 {
                let (root, table) = tenant.root();
                tenant.guest.map(root, 0x5000, data, ALL);
                tenant.guest.map(root, 0x7f00_0000_0000, data, ALL);
                if state > 1 {
                    tenant.bind(None, &table);
                }
                match state {
                    3 => tenant.unbind(None),
                    // Changed, and never told.
                    4 => tenant.guest.unmap(root, 0x5000),
                    5 => forget(&tenant, data),
                    _ => {}
                }
                // A guest that dies destroys nothing itself.
            }
            house.end(tenant);
            let left = house.platform.arena().outstanding();
            if state > 1 {
                assert_eq!(*idle.get_or_insert(left), left, "state {state}");
            }
        }
    });
}

#[test]
fn xsa_302_a_device_that_was_taken_back_reaches_nothing_of_anybodys() {
    guests::each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let data = tenant.guest.data(3);
        tenant.guest.map(root, 0x5000, data, ALL);
        tenant.bind(None, &table);
        tenant.assert_reaches(&tenant.write(0x5000), data);
        // A write is under way while the device goes; whose memory it lands in is judged.
        house.platform.with_machine(|machine| {
            machine.post_write(ONE, None, 0x5000, &[1; 8]);
        });
        let resets = house.host.resets.load(std::sync::atomic::Ordering::Relaxed);
        house
            .iommu
            .take_back(tenant.vm, device(ONE))
            .expect("taken back");
        let after = house.host.resets.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(after, resets + 1, "reset once it can reach nothing");
        for frame in tenant.guest.take_all() {
            house.platform.release(frame);
        }
        // It goes on, as a device does that nobody has reset.
        for at in [0x5000, 0, 0x7000, 0x20_0000] {
            house.assert_blocked(&write(ONE, at));
            house.assert_blocked(&read(ONE, at));
        }
    });
}

#[test]
fn xsa_386_no_entry_leads_to_tables_that_are_gone() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        let domain = rig.domain(ONE, format);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        for source in [ONE, OTHER] {
            rig.attach(source, None, domain);
        }
        // Emptied of all that was mapped for it, it is still what two entries lead to.
        rig.unmap(domain, 0x7000, 1);
        rig.platform.release(page);
        for source in [ONE, OTHER] {
            let refused = rig.driver.destroy(domain).map(drop);
            assert_eq!(refused, Err(BackendError::Busy(domain)));
            rig.detach(source, None);
        }
        rig.destroy(domain);
        // The model tells of frames that were freed and can still be walked.
        for source in [ONE, OTHER] {
            rig.assert_blocked(&read(source, 0x7000));
        }
    });
}

#[test]
fn xsa_399_a_domain_id_is_used_again_only_when_hardware_has_forgotten_it() {
    let config = Config {
        // Sixteen ids.
        domain_bits: 4,
        ..Config::legacy()
    };
    for freedom in FREEDOMS {
        let rig = Plan::new(config.clone())
            .mode(ModeRequest::Legacy)
            .freedom(freedom)
            .start();
        rig.assign(ONE, 1);
        rig.assign(OTHER, 2);
        for round in 0..40 {
            // Two devices of two owners take turns with the same few ids.
            let (source, owner) = [(ONE, 1), (OTHER, 2)][round % 2];
            let domain = rig.domain(source, TableFormat::SecondStage4);
            let page = rig.page(owner);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            rig.attach(source, None, domain);
            rig.assert_reaches(&write(source, 0x7000), page.hpa());
            let replaced = rig
                .driver
                .replace(slot(source, None), Attachment::Blocked)
                .expect("blocked");
            // Before the flush is confirmed nobody gets the id: under it caches hold a way to
            // the first one's page.
            let (next, heir) = [(OTHER, 2), (ONE, 1)][round % 2];
            let other = rig.domain(next, TableFormat::SecondStage4);
            let theirs = rig.page(heir);
            rig.map(other, 0x8000, theirs.hpa(), Access::READ_WRITE);
            rig.attach(next, None, other);
            rig.assert_blocked(&write(next, 0x7000));
            rig.assert_reaches(&write(next, 0x8000), theirs.hpa());
            rig.settle(replaced.owed);
            rig.detach(next, None);
            rig.destroy(other);
            rig.platform.release(theirs);
            rig.destroy(domain);
            rig.platform.release(page);
        }
        rig.assert_clean();
    }
}

#[test]
fn xsa_460_a_mapping_that_fails_half_way_leaves_nothing_mapped() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        // Two places in one call, in tables of their own.
        let frames: Vec<_> = (0..4).map(|_| rig.page(1)).collect();
        let runs: Vec<Run> = frames
            .iter()
            .map(|frame| Run {
                hpa: frame.hpa(),
                pages: 1,
            })
            .collect();
        let first = 0x4000_0000 - 0x2000;
        let mut failures = 0;
        loop {
            let taken = rig.taken();
            rig.platform.arena().fail_allocation(failures + 1);
            let mapped = rig
                .driver
                .map(domain, Iova::new(first), &runs, Access::READ_WRITE);
            rig.platform.arena().fail_allocation(0);
            match mapped {
                Ok(owed) => {
                    rig.settle(owed);
                    break;
                }
                Err(error) => assert!(matches!(error, MapError::OutOfFrames(_)), "{error:?}"),
            }
            failures += 1;
            assert_eq!(rig.taken(), taken);
            for at in (first..).step_by(0x1000).take(4) {
                rig.assert_blocked(&read(ONE, at));
            }
        }
        assert!(failures > 1, "on both sides of the border");
        for (at, frame) in (first..).step_by(0x1000).zip(&frames) {
            rig.assert_reaches(&read(ONE, at), frame.hpa());
        }
        rig.unmap(domain, first, 4);
        for frame in frames {
            rig.platform.release(frame);
        }
        rig.detach(ONE, None);
        rig.destroy(domain);
    });
}

#[test]
fn xsa_378_what_a_reserved_region_needs_is_out_of_every_guests_reach() {
    // A device with a reserved region stays with the hypervisor, in a domain of its own,
    // whatever guests do with theirs (which devices those are: `kernel::rules`).
    for freedom in FREEDOMS {
        let host = Hypervisor::default();
        let way = Way::shadowed("legacy", Config::legacy(), ModeRequest::Legacy);
        let house = House::new(&way, freedom, &host);
        let driver = house.driver();
        let region = house.platform.page_for(Owner::Host).expect("a page");
        let run = Run {
            hpa: region.hpa(),
            pages: 1,
        };
        let settle = |owed| {
            let mut batch = iommu_core::Batch::with_capacity(4).expect("room");
            batch.add(owed).expect("room");
            let mut flushed = driver.commit(&mut batch).expect("confirmed");
            assert!(flushed.frames.pop().is_none(), "nothing was taken out");
        };
        let spec = DomainSpec::Paging(TableFormat::SecondStage4);
        let domain = driver.create(device(OTHER), &spec).expect("a domain");
        let at = region.hpa().as_u64();
        settle(
            driver
                .map(domain, Iova::new(at), &[run], Access::READ_WRITE)
                .expect("its identity mapping"),
        );
        let to = Attachment::Domain(domain);
        settle(
            driver
                .replace(slot(OTHER, None), to)
                .expect("led there")
                .owed,
        );
        house
            .platform
            .with_machine(|machine| machine.expect(OTHER, None, at, 0x1000, at, true));
        // A guest maps, unmaps and takes its own tables down at the very same addresses.
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        tenant.bind(None, &table);
        for round in 0..3 {
            let data = tenant.guest.data(round);
            tenant.map(&table, root, at, data, ALL);
            tenant.assert_reaches(&tenant.write(at), data);
            tenant.guest.unmap(root, at);
            tenant.client.flush_everything(&table).expect("flushed");
        }
        tenant.unbind(None);
        tenant.client.destroy_table(table).expect("destroyed");
        house.end(tenant);
        house.assert_reaches(&write(OTHER, at), region.hpa());
        house.assert_clean();
    }
}

#[test]
fn xsa_291_a_call_that_fails_holds_on_to_nothing() {
    guests::each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        tenant.guest.map(root, 0x5000, tenant.guest.data(3), ALL);
        let device = tenant.device;
        let arena = house.platform.arena();
        arena.fail_allocation(1);
        let failed = tenant.client.bind(device, &table).is_err();
        arena.fail_allocation(0);
        if !failed {
            tenant.unbind(None);
        }
        // Had the failed call kept a reference, the table were in use for ever.
        tenant.client.destroy_table(table).expect("not used");
        house.end(tenant);
    });
}

#[test]
fn xsa_373_a_mapping_whose_flush_failed_is_kept_from_everybody() {
    for freedom in FREEDOMS {
        let mut plan = Plan::new(Config::legacy()).freedom(freedom);
        plan.limits.flush = iommu_core::Nanoseconds::from_millis(1);
        let rig = plan.start();
        rig.assign(ONE, 1);
        let domain = rig.domain(ONE, TableFormat::SecondStage4);
        rig.attach(ONE, None, domain);
        let page = rig.page(1);
        let places = [0x7000, 0x4000_0000, 0x5000_0000];
        for at in places {
            rig.map(domain, at, page.hpa(), Access::READ_WRITE);
            rig.assert_reaches(&read(ONE, at), page.hpa());
        }
        let taken = rig.taken();
        // From now on the unit fetches nothing: it looks at its queue no more.
        rig.platform.before_writes(|machine, unit, offset, _| {
            if offset == 0x88 {
                machine.write(unit, 0x18, vtd_model::Width::Dword, 0x8200_0000);
                machine.settle(8);
            }
        });
        for at in places {
            let mut batch = rig.batch();
            let owed = rig.driver.unmap(domain, range(at, 1));
            batch.add(owed.expect("unmapped")).expect("room");
            // Each wait has a status word of its own, and none is believed.
            assert!(rig.driver.commit(&mut batch).is_err());
        }
        assert_eq!(rig.taken(), taken, "tables are kept");
        assert!(rig.driver.quarantined().debts > 0);
        rig.platform.take_violations();
    }
}
