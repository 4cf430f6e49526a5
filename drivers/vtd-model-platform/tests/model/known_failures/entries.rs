//! Entries that hardware saw half-written, unwritten, or of the wrong shape.

use super::{each, format};
use crate::guest::ALL;
use crate::guests::{self, Change};
use crate::replacing::{exchange_memory, formats, pasids};
use crate::rig::{FREEDOMS, ONE, OTHER, Plan, Rig, device, read, slot, write};
use crate::units;
use iommu_core::{Access, Attachment, Backend, DomainSpec, Platform, TableFormat};
use vtd::ModeRequest;
use vtd_model::{Config, Depths, Outcome, Owner, Request};

#[test]
fn xsa_321_tables_are_written_back_for_units_that_do_not_snoop() {
    for kind in units::all() {
        let walks_snoop = kind.name.contains("coherent walks and");
        if !kind.name.contains("not coherent") || walks_snoop {
            continue;
        }
        for (freedom, lose) in FREEDOMS
            .into_iter()
            .flat_map(|one| [(one, false), (one, true)])
        {
            let rig = Plan::new(kind.config.clone())
                .mode(kind.mode)
                .freedom(freedom)
                .start();
            let domain = rig.domain(ONE, format(&rig));
            rig.attach(ONE, None, domain);
            let page = rig.page(1);
            rig.platform.lose_write_backs(lose);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            let possible = rig.with(|machine| machine.possible(&read(ONE, 0x7000)));
            let reached = Outcome::Memory {
                address: page.hpa().as_u64(),
            };
            // Without them it would be seen.
            assert_eq!(possible == [reached], !lose, "{}: {possible:?}", kind.name);
        }
    }
}

#[test]
fn xsa_328_a_live_entry_is_the_old_one_or_the_new_one() {
    guests::each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        tenant.bind(None, &table);
        // Pages that lie apart, with other rights each time: a mixture of two entries would
        // lead to what is not the guest's, which the model judges at every store.
        for round in 0..24 {
            let page = tenant.guest.data(round * 7 % 40);
            let bits = if round % 3 == 0 { ALL & !2 } else { ALL };
            tenant.guest.map(root, 0x5000, page, bits);
            tenant.flush(&table, 0x5000, 1, Change::Leaf);
            tenant.assert_reaches(&tenant.read(0x5000), page);
            if bits != ALL {
                house.assert_blocked(&tenant.write(0x5000));
            }
        }
        tenant.unbind(None);
    });
}

#[test]
fn xsa_347_a_slot_is_led_elsewhere_without_a_mixture_of_both() {
    for kind in units::all() {
        if !super::KINDS.contains(&kind.name) {
            continue;
        }
        for freedom in FREEDOMS {
            let rig = Plan::new(kind.config.clone())
                .mode(kind.mode)
                .freedom(freedom)
                .start();
            rig.assign(ONE, 1);
            for pasid in pasids(&rig) {
                for [before, after] in pairs(&formats(&rig)) {
                    exchange_memory(&rig, pasid, before, after);
                }
            }
        }
    }
}

fn pairs(formats: &[TableFormat]) -> Vec<[TableFormat; 2]> {
    let first = formats[0];
    let last = *formats.last().expect("one at least");
    vec![[first, first], [first, last], [last, first]]
}

#[test]
fn xsa_390_a_table_is_used_only_where_its_depth_is_read() {
    let depths = |three, four| Depths {
        three,
        four,
        five: false,
    };
    for (config, fits, not) in [
        (
            Config {
                depths: depths(true, false),
                guest_bits: 39,
                host_bits: 39,
                ..Config::legacy()
            },
            TableFormat::SecondStage3,
            TableFormat::SecondStage4,
        ),
        (
            Config {
                depths: depths(false, true),
                ..Config::legacy()
            },
            TableFormat::SecondStage4,
            TableFormat::SecondStage3,
        ),
    ] {
        for freedom in FREEDOMS {
            let rig = Plan::new(config.clone())
                .mode(ModeRequest::Legacy)
                .freedom(freedom)
                .start();
            rig.assign(ONE, 1);
            let refused = rig.driver.create(device(ONE), &DomainSpec::Paging(not));
            assert!(refused.is_err(), "{refused:?}");
            let domain = rig.domain(ONE, fits);
            rig.attach(ONE, None, domain);
            let page = rig.page(1);
            // A level too few would take a table for a page, one too many a page for a table.
            for at in [0, 0x7000, 0x40_0000_0000 - 0x1000] {
                rig.map(domain, at, page.hpa(), Access::READ_WRITE);
                rig.assert_reaches(&write(ONE, at), page.hpa());
                rig.unmap(domain, at, 1);
                rig.assert_blocked(&write(ONE, at));
            }
            rig.assert_clean();
        }
    }
}

/// Addresses at which a table of the wrong depth, or none, would show.
const PLACES: [u64; 7] = [
    0,
    0x1000,
    0x7000,
    0x4000_0000,
    0x7f_ffff_f000,
    0x40_0000_0000,
    0x7fff_ffff_f000,
];

#[test]
fn xsa_445_a_device_of_nobody_reaches_nothing_whatever_its_units_depth() {
    for kind in units::all() {
        for freedom in FREEDOMS {
            let rig = Plan::new(kind.config.clone())
                .mode(kind.mode)
                .freedom(freedom)
                .start();
            let nowhere = |rig: &Rig| {
                for source in [ONE, OTHER, 0x1234] {
                    for at in PLACES {
                        rig.assert_blocked(&read(source, at));
                        rig.assert_blocked(&write(source, at));
                        rig.assert_blocked(&read(source, at).with_pasid(1));
                    }
                }
            };
            nowhere(&rig);
            let domain = rig.domain(ONE, format(&rig));
            let page = rig.page(1);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            rig.attach(ONE, None, domain);
            rig.assert_reaches(&read(ONE, 0x7000), page.hpa());
            rig.detach(ONE, None);
            nowhere(&rig);
        }
    }
}

#[test]
fn xsa_400_devices_of_nobody_have_nothing_in_common() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        rig.assign(OTHER, 2);
        let [first, second] = [(ONE, 1), (OTHER, 2)].map(|(source, owner)| {
            let domain = rig.domain(source, format);
            let page = rig.page(owner);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            rig.attach(source, None, domain);
            (domain, page)
        });
        // One is taken from its owner while the other does DMA: nothing of it is used for
        // the other, and the other misses no step.
        let at = second.1.hpa().as_u64();
        rig.with(|machine| machine.expect(OTHER, None, 0x7000, 0x1000, at, true));
        rig.detach(ONE, None);
        rig.assert_blocked(&write(ONE, 0x7000));
        rig.with(|machine| machine.release(OTHER, None, 0x7000, 0x1000));
        rig.detach(OTHER, None);
        for source in [ONE, OTHER] {
            rig.assert_blocked(&read(source, 0x7000));
        }
        for (domain, page) in [first, second] {
            rig.destroy(domain);
            rig.platform.release(page);
        }
    });
}

#[test]
fn cve_2026_45894_an_entry_that_goes_is_whole_or_absent_at_every_step() {
    each(|rig, format| {
        for pasid in pasids(rig) {
            for round in 0..4 {
                // The device changes hands: its former owner's table in an entry that is
                // half the next one's would be found at that very store.
                let owner = 1 + round % 2;
                rig.with(|machine| machine.assign(ONE, pasid, Owner::Guest(owner)));
                let domain = rig.domain(ONE, format);
                let page = rig.page(owner);
                rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
                rig.attach(ONE, pasid, domain);
                let request = Request {
                    pasid,
                    ..write(ONE, 0x7000)
                };
                rig.assert_reaches(&request, page.hpa());
                let replaced = rig
                    .driver
                    .replace(slot(ONE, pasid), Attachment::Blocked)
                    .expect("blocked");
                // Not flushed yet: as it was, or nothing.
                let possible = rig.with(|machine| machine.possible(&request));
                let whole = Some(page.hpa().as_u64());
                for outcome in possible {
                    assert!(outcome.address().is_none() || outcome.address() == whole);
                }
                rig.settle(replaced.owed);
                rig.assert_blocked(&request);
                rig.destroy(domain);
                rig.platform.release(page);
            }
        }
    });
}
