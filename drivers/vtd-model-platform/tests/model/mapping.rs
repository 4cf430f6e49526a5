//! Domains that the driver keeps: what a device reaches through them, and when.

use crate::rig::{FREEDOMS, ONE, OTHER, Plan, Rig, range, read, write};
use crate::units::{self, Kind};
use iommu_core::{
    Access, Attachment, Backend, DeviceId, FaultReason, Frame, Iova, Order, Platform, Run, Segment,
    SourceId, Stage, TableFormat,
};
use vtd::{CostRule, ModeRequest};
use vtd_model::{Config, Freedom, Owner, Request};

/// Every kind of unit, with every format that it has there.
fn each(test: impl FnMut(&Rig, TableFormat)) {
    each_with(CostRule::default(), test);
}

fn each_with(costs: CostRule, mut test: impl FnMut(&Rig, TableFormat)) {
    for Kind { name, config, mode } in units::all() {
        for freedom in FREEDOMS {
            let mut plan = Plan::new(config.clone()).mode(mode).freedom(freedom);
            plan.driver.costs = costs;
            let rig = plan.start();
            for format in TableFormat::ALL {
                let id = DeviceId::new(Segment(0), SourceId::from_bits(ONE));
                if rig
                    .driver
                    .capabilities(id)
                    .expect("a unit")
                    .supports(format)
                {
                    eprintln!("{name}, {format:?}, {freedom:?}");
                    test(&rig, format);
                    rig.assert_clean();
                    assert_eq!(rig.faults(), []);
                }
            }
        }
    }
}

fn not_present(rig: &Rig, format: TableFormat, access: Access) -> FaultReason {
    let scalable = rig.with(|machine| machine.read(0, 0x20, vtd_model::Width::Qword)) & 0xc00 != 0;
    match (format.stage(), scalable, access) {
        (Stage::First, ..) => FaultReason::FIRST_STAGE_NOT_PRESENT,
        (Stage::Second, true, _) => FaultReason::SECOND_STAGE_NOT_PRESENT,
        (Stage::Second, false, Access::WRITE) => FaultReason::WRITE_DENIED,
        (Stage::Second, false, _) => FaultReason::READ_DENIED,
    }
}

fn write_denied(rig: &Rig, format: TableFormat) -> FaultReason {
    match not_present(rig, format, Access::WRITE) {
        FaultReason::WRITE_DENIED => FaultReason::WRITE_DENIED,
        _ => FaultReason::SCALABLE_WRITE_DENIED,
    }
}

#[test]
fn a_device_reaches_what_is_mapped_and_nothing_else() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        let pages: [Frame; 3] = [(); 3].map(|()| rig.page(1));
        // Neighbours, and one far away.
        let far = 1 << (format.input_bits().min(39) - 2);
        let places = [0x7000, 0x8000, far];
        for (page, place) in pages.iter().zip(places) {
            rig.map(domain, place, page.hpa(), Access::READ_WRITE);
        }
        for (page, place) in pages.iter().zip(places) {
            rig.assert_reaches(&read(ONE, place + 0x123), page.hpa());
            rig.assert_reaches(&write(ONE, place + 0xffc), page.hpa());
        }
        rig.assert_faults(&read(ONE, 0x6fff), not_present(rig, format, Access::READ));
        rig.assert_faults(&write(ONE, 0x9000), not_present(rig, format, Access::WRITE));
        rig.assert_faults(
            &read(ONE, far + 0x1000),
            not_present(rig, format, Access::READ),
        );
        rig.detach(ONE, None);
        rig.destroy(domain);
        pages
            .into_iter()
            .for_each(|page| rig.platform.release(page));
        assert!(
            rig.taken() <= 5,
            "context and PASID tables stay: {}",
            rig.taken()
        );
    });
}

#[test]
fn a_domain_that_was_filled_before_is_reached_as_soon_as_it_is_attached() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        let domain = rig.domain(ONE, format);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        // What follows is all that hardware is told of the entry.
        rig.attach(ONE, None, domain);
        rig.assert_reaches(&read(ONE, 0x7000), page.hpa());
        rig.detach(ONE, None);
        rig.destroy(domain);
        rig.platform.release(page);
    });
}

#[test]
fn a_page_for_reading_is_not_written() {
    each(|rig, format| {
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ);
        rig.assert_reaches(&read(ONE, 0x7000), page.hpa());
        rig.assert_faults(&write(ONE, 0x7000), write_denied(rig, format));
        rig.detach(ONE, None);
        rig.destroy(domain);
        rig.platform.release(page);
    });
}

#[test]
fn what_is_unmapped_is_forgotten_when_the_flush_is_confirmed() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        let [gone, kept] = [(); 2].map(|()| rig.page(1));
        rig.map(domain, 0x7000, gone.hpa(), Access::READ_WRITE);
        rig.map(domain, 0x8000, kept.hpa(), Access::READ_WRITE);
        rig.assert_reaches(&read(ONE, 0x7000), gone.hpa());
        rig.unmap(domain, 0x7000, 1);
        // Nobody's from here on: a translation that leads there would be told.
        rig.platform.release(gone);
        rig.assert_faults(&read(ONE, 0x7000), not_present(rig, format, Access::READ));
        rig.assert_reaches(&read(ONE, 0x8000), kept.hpa());
        rig.detach(ONE, None);
        rig.destroy(domain);
        rig.platform.release(kept);
    });
}

#[test]
fn a_mapping_can_be_made_anew_at_the_same_address() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        // Absence may be cached.
        rig.assert_faults(&read(ONE, 0x7000), not_present(rig, format, Access::READ));
        for _ in 0..3 {
            let page = rig.page(1);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            rig.assert_reaches(&write(ONE, 0x7000), page.hpa());
            rig.unmap(domain, 0x7000, 1);
            rig.platform.release(page);
        }
        rig.detach(ONE, None);
        rig.destroy(domain);
    });
}

#[test]
fn tables_that_empty_are_freed_only_when_no_cache_leads_to_them() {
    each(|rig, format| {
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        let before = rig.taken();
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        rig.assert_reaches(&read(ONE, 0x7000), page.hpa());
        // Everything below the root, in one range: tables go with it. The first stage has
        // its lower half there.
        let half = u8::from(format.stage() == Stage::First);
        let pages = 1 << (format.input_bits() - half - 12);
        let owed = rig.driver.unmap(domain, range(0, pages)).expect("unmapped");
        rig.settle(owed);
        rig.platform.release(page);
        assert_eq!(rig.taken(), before);
        rig.detach(ONE, None);
        rig.destroy(domain);
    });
}

#[test]
fn large_pages_translate_and_are_split_by_an_unmapping_within() {
    each(|rig, format| {
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        let block = rig.platform.arena().allocate(Order::PAGE_2M);
        let block = block.expect("a large block");
        rig.with(|machine| {
            machine.own(block.hpa().as_u64(), block.order().bytes(), Owner::Guest(1))
        });
        let run = Run {
            hpa: block.hpa(),
            pages: 512,
        };
        rig.map_run(domain, 0x4000_0000, run, Access::READ_WRITE);
        let at = |offset: u64| iommu_core::Hpa::new(block.hpa().as_u64() + (offset & !0xfff));
        for offset in [0, 0x12_3456, 0x1f_fff8] {
            rig.assert_reaches(&read(ONE, 0x4000_0000 + offset), at(offset));
        }
        rig.unmap(domain, 0x4010_0000, 1);
        rig.assert_faults(
            &read(ONE, 0x4010_0000),
            not_present(rig, format, Access::READ),
        );
        for offset in [0, 0xf_f000, 0x10_1000, 0x1f_f000] {
            rig.assert_reaches(&read(ONE, 0x4000_0000 + offset), at(offset));
        }
        rig.unmap(domain, 0x4000_0000, 512);
        rig.detach(ONE, None);
        rig.destroy(domain);
        rig.platform.arena().release(block);
    });
}

#[test]
fn the_rest_of_a_large_page_is_there_at_every_step_of_a_split_and_keeps_its_rights() {
    each(|rig, format| {
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        let block = rig.platform.arena().allocate(Order::PAGE_2M);
        let block = block.expect("a large block");
        let run = Run {
            hpa: block.hpa(),
            pages: 512,
        };
        rig.map_run(domain, 0x4000_0000, run, Access::READ);
        let target = block.hpa().as_u64();
        rig.with(|machine| {
            machine.expect(ONE, None, 0x4000_0000, 0x10_0000, target, false);
        });
        rig.unmap(domain, 0x4010_0000, 1);
        rig.with(|machine| {
            machine.sweep();
            machine.release(ONE, None, 0x4000_0000, 0x10_0000);
        });
        let last = iommu_core::Hpa::new(block.hpa().as_u64() + 0xf_f000);
        rig.assert_reaches(&read(ONE, 0x400f_f000), last);
        rig.assert_faults(&write(ONE, 0x400f_f000), write_denied(rig, format));
        rig.unmap(domain, 0x4000_0000, 512);
        rig.detach(ONE, None);
        rig.destroy(domain);
        rig.platform.arena().release(block);
    });
}

#[test]
fn each_page_of_a_range_is_forgotten() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        // Another page keeps the table, so that leaves alone are told.
        let [kept, page] = [(); 2].map(|()| rig.page(1));
        rig.map(domain, 0x1000, kept.hpa(), Access::READ_WRITE);
        for place in 0..11 {
            let at = 0x1_0000 + (place << 12);
            rig.map(domain, at, page.hpa(), Access::READ_WRITE);
            rig.assert_reaches(&read(ONE, at), page.hpa());
        }
        rig.unmap(domain, 0x1_0000, 11);
        rig.platform.release(page);
        for place in 0..11 {
            rig.assert_blocked(&read(ONE, 0x1_0000 + (place << 12)));
        }
        rig.detach(ONE, None);
        rig.destroy(domain);
        rig.platform.release(kept);
    });
}

#[test]
fn functions_of_both_halves_of_a_bus_have_entries_of_their_own() {
    // The same place in the two context tables that a bus has in scalable mode.
    const UPPER: u16 = ONE | 0x80;
    for Kind { name, config, mode } in units::all() {
        for freedom in FREEDOMS {
            eprintln!("{name}, {freedom:?}");
            let plan = Plan::new(config.clone()).mode(mode).freedom(freedom);
            let rig = plan.device(UPPER, 0).start();
            let capabilities = rig.driver.capabilities(crate::rig::device(ONE));
            let capabilities = capabilities.expect("a unit");
            let format = TableFormat::ALL
                .into_iter()
                .find(|&format| capabilities.supports(format));
            let format = format.expect("a format");
            let [lower, upper] = [ONE, UPPER].map(|source| {
                let (domain, page) = (rig.domain(source, format), rig.page(1));
                rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
                rig.attach(source, None, domain);
                page
            });
            rig.assert_reaches(&read(ONE, 0x7000), lower.hpa());
            rig.assert_reaches(&read(UPPER, 0x7000), upper.hpa());
            rig.assert_clean();
        }
    }
}

#[test]
fn ranges_beyond_what_the_cost_rule_selects_are_flushed_with_their_domain() {
    let few = CostRule {
        page_selective_limit: 3,
    };
    each_with(few, many_ranges);
}

#[test]
fn more_ranges_than_the_queue_holds_are_all_flushed() {
    const RANGES: u64 = 8_500;
    // At random: it takes thousands of steps.
    let mut plan = Plan::new(Config::legacy()).freedom(Freedom::Random(2));
    plan.driver.costs.page_selective_limit = u32::MAX;
    let rig = plan.start();
    rig.assign(ONE, 1);
    let domain = rig.domain(ONE, TableFormat::SecondStage4);
    rig.attach(ONE, None, domain);
    let page = rig.page(1);
    let run = Run {
        hpa: page.hpa(),
        pages: 1,
    };
    let runs = vec![run; 2 * RANGES as usize];
    let owed = rig
        .driver
        .map(domain, Iova::new(0), &runs, Access::READ_WRITE);
    rig.settle(owed.expect("mapped"));
    // Every second page, so that nothing merges.
    let places = (0..RANGES).map(|place| place << 13);
    for at in places.clone() {
        rig.with(|machine| machine.request(&read(ONE, at)));
    }
    let mut batch = iommu_core::Batch::with_capacity(RANGES as usize).expect("room");
    for at in places.clone() {
        let owed = rig.driver.unmap(domain, range(at, 1));
        batch.add(owed.expect("unmapped")).expect("room");
    }
    let flushed = rig.driver.commit(&mut batch).expect("hardware confirms");
    drop(batch);
    assert_eq!(flushed.doorbells, 2, "as often as the queue is filled");
    rig.release(flushed);
    for at in places {
        rig.assert_blocked(&read(ONE, at));
    }
    rig.assert_clean();
}

#[test]
fn many_ranges_are_flushed_together() {
    each(many_ranges);
}

#[test]
fn ranges_that_touch_in_two_domains_are_flushed_in_both() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        rig.assign(OTHER, 1);
        let mut gone = Vec::new();
        for (source, place) in [(ONE, 0x7000), (OTHER, 0x8000)] {
            let (domain, page) = (rig.domain(source, format), rig.page(1));
            rig.map(domain, place, page.hpa(), Access::READ_WRITE);
            rig.attach(source, None, domain);
            rig.assert_reaches(&read(source, place), page.hpa());
            gone.push((source, place, domain, page));
        }
        let mut batch = rig.batch();
        for &(_, place, domain, _) in &gone {
            let owed = rig.driver.unmap(domain, range(place, 1));
            batch.add(owed.expect("unmapped")).expect("room");
        }
        rig.commit(&mut batch);
        drop(batch);
        for (source, place, domain, page) in gone {
            rig.platform.release(page);
            rig.assert_blocked(&read(source, place));
            rig.detach(source, None);
            rig.destroy(domain);
        }
    });
}

fn many_ranges(rig: &Rig, format: TableFormat) {
    rig.assign(ONE, 1);
    let domain = rig.domain(ONE, format);
    rig.attach(ONE, None, domain);
    let pages: Vec<Frame> = (0..20).map(|_| rig.page(1)).collect();
    for (page, place) in pages.iter().zip(0..) {
        rig.map(domain, place * 0x5000, page.hpa(), Access::READ_WRITE);
    }
    let mut batch = rig.batch();
    for place in 0..20 {
        let owed = rig.driver.unmap(domain, range(place * 0x5000, 1));
        batch.add(owed.expect("unmapped")).expect("room");
    }
    rig.commit(&mut batch);
    drop(batch);
    pages
        .into_iter()
        .for_each(|page| rig.platform.release(page));
    rig.assert_blocked(&read(ONE, 0x5000));
    rig.detach(ONE, None);
    rig.destroy(domain);
}

#[test]
fn a_table_that_goes_in_one_batch_with_a_page_beside_it_is_forgotten_as_a_table() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        let pages = [(); 3].map(|()| rig.page(1));
        // The second page's neighbours keep its table; the third has one of its own.
        for (page, place) in pages.iter().zip([0x1000, 0x1f_f000, 0x20_0000]) {
            rig.map(domain, place, page.hpa(), Access::READ_WRITE);
            rig.assert_reaches(&read(ONE, place), page.hpa());
        }
        let mut batch = rig.batch();
        for (first, count) in [(0x1f_f000, 1), (0x20_0000, 512)] {
            let owed = rig.driver.unmap(domain, range(first, count));
            batch.add(owed.expect("unmapped")).expect("room");
        }
        // The two ranges touch, and become one.
        rig.commit(&mut batch);
        drop(batch);
        rig.assert_blocked(&read(ONE, 0x20_0000));
        rig.detach(ONE, None);
        rig.destroy(domain);
        pages
            .into_iter()
            .for_each(|page| rig.platform.release(page));
    });
}

#[test]
fn a_domain_of_two_devices_changes_for_both() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        rig.assign(OTHER, 1);
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        rig.attach(OTHER, None, domain);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        rig.assert_reaches(&read(ONE, 0x7000), page.hpa());
        rig.assert_reaches(&read(OTHER, 0x7000), page.hpa());
        rig.detach(ONE, None);
        rig.assert_blocked(&read(ONE, 0x7000));
        rig.assert_reaches(&read(OTHER, 0x7000), page.hpa());
        rig.unmap(domain, 0x7000, 1);
        rig.platform.release(page);
        rig.detach(OTHER, None);
        rig.destroy(domain);
    });
}

#[test]
fn an_address_beyond_the_format_is_refused_by_driver_and_hardware() {
    each(|rig, format| {
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        let page = rig.page(1);
        let beyond = 1u64 << format.input_bits();
        let run = Run {
            hpa: page.hpa(),
            pages: 1,
        };
        assert!(
            rig.driver
                .map(domain, Iova::new(beyond), &[run], Access::READ)
                .is_err()
        );
        rig.assert_blocked(&read(ONE, beyond));
        rig.with(|machine| machine.request(&read(ONE, beyond)));
        let [record] = rig.faults()[..] else { panic!() };
        let scalable = not_present(rig, format, Access::WRITE) != FaultReason::WRITE_DENIED;
        assert_eq!(
            record.reason,
            match (format.stage(), scalable) {
                (Stage::First, _) => FaultReason::NOT_CANONICAL,
                (Stage::Second, true) => FaultReason::SCALABLE_BEYOND_WIDTH,
                (Stage::Second, false) => FaultReason::BEYOND_WIDTH,
            }
        );
        rig.detach(ONE, None);
        rig.destroy(domain);
        rig.platform.release(page);
    });
}

#[test]
fn the_upper_half_of_a_first_stage_is_reached_by_canonical_addresses() {
    for freedom in FREEDOMS {
        let rig = Plan::new(Config::scalable())
            .mode(ModeRequest::FirstStage)
            .freedom(freedom)
            .start();
        for format in [TableFormat::FirstStage4, TableFormat::FirstStage5] {
            let domain = rig.domain(ONE, format);
            rig.attach(ONE, None, domain);
            let page = rig.page(1);
            let top = !0xfff_u64;
            rig.map(domain, top, page.hpa(), Access::READ_WRITE);
            rig.assert_reaches(&read(ONE, top + 8), page.hpa());
            rig.assert_faults(
                &read(ONE, (1 << format.input_bits()) - 0x1000),
                FaultReason::NOT_CANONICAL,
            );
            rig.unmap(domain, top, 1);
            rig.detach(ONE, None);
            rig.destroy(domain);
            rig.platform.release(page);
        }
        rig.assert_clean();
    }
}

#[test]
fn pass_through_leads_to_the_address_in_the_request() {
    for Kind { name, config, mode } in units::all() {
        for freedom in FREEDOMS {
            let rig = Plan::new(config.clone())
                .mode(mode)
                .freedom(freedom)
                .start();
            let page = rig.page(1);
            let request = Request::write(ONE, page.hpa().as_u64());
            if !config.pass_through {
                let refused = rig
                    .driver
                    .replace(crate::rig::slot(ONE, None), Attachment::PassThrough);
                assert!(refused.is_err(), "{name}");
                continue;
            }
            rig.lead(ONE, None, Attachment::PassThrough);
            rig.assert_reaches(&request, page.hpa());
            rig.assert_blocked(&Request::write(OTHER, page.hpa().as_u64()));
            rig.detach(ONE, None);
            rig.assert_blocked(&request);
            rig.platform.release(page);
            rig.assert_clean();
        }
    }
}

#[test]
fn dropped_debts_are_counted_and_keep_their_frames() {
    let rig = Plan::new(Config::legacy())
        .freedom(Freedom::Pessimist(1))
        .start();
    let domain = rig.domain(ONE, TableFormat::SecondStage4);
    rig.attach(ONE, None, domain);
    let page = rig.page(1);
    rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
    let taken = rig.taken();
    drop(
        rig.driver
            .unmap(domain, range(0, 1 << 36))
            .expect("unmapped"),
    );
    let parked = rig.driver.quarantined();
    assert_eq!((parked.debts, parked.frames), (1, 3));
    assert_eq!(rig.taken(), taken);
    // Hardware was not told, so it may still lead there, and whoever asks is told so.
    let possible = rig.with(|machine| machine.possible(&read(ONE, 0x7000)));
    assert!(possible.iter().any(|outcome| outcome.address().is_some()));
    assert!(rig.driver.has_unconfirmed());
    let mut flushed = rig.driver.reclaim().expect("a unit that answers");
    while let Some(frame) = flushed.frames.pop() {
        rig.platform.release(frame);
    }
    assert!(!rig.driver.has_unconfirmed());
    rig.platform.release(page);
    rig.assert_clean();
}

#[test]
fn faults_are_recorded_again_after_more_than_the_unit_could_hold() {
    for Kind { name, config, mode } in units::all() {
        for freedom in FREEDOMS {
            eprintln!("{name}, {freedom:?}");
            let rig = Plan::new(config.clone())
                .mode(mode)
                .freedom(freedom)
                .start();
            for address in 0..300 {
                rig.with(|machine| machine.request(&read(ONE, address << 12)));
            }
            assert!(!rig.faults().is_empty());
            rig.with(|machine| machine.request(&read(ONE, 0x7000)));
            assert_eq!(rig.faults().len(), 1);
            rig.assert_clean();
        }
    }
}
