//! Which pages devices have written: marked by hardware, read and cleared by the driver, and
//! none is lost.

use crate::guest::ALL;
use crate::nesting::{Nest, Privileges, nested};
use crate::rig::{FREEDOMS, ONE, OTHER, Plan, Rig, device, range, read, slot, write};
use iommu_core::{
    Access, Attachment, Backend, BackendError, DirtyBitmap, DirtyError, DirtyRead, DirtyTracking,
    DomainHandle, Frame, Iova, LargePages, Order, Platform, Run, SourceId, TableFormat,
};
use vtd::{DeviceTlb, ModeRequest};
use vtd_model::{Access as Wants, Config, Freedom, Machine, Promptness, Request};

const SECOND: TableFormat = TableFormat::SecondStage4;

fn marking() -> Config {
    Config {
        second_stage_dirty: true,
        ..Config::scalable()
    }
}

/// Units that mark, and that differ in what they must be told.
fn units() -> Vec<Config> {
    vec![
        marking(),
        marking().with_caching_mode(),
        Config {
            page_selective: false,
            max_address_mask: 0,
            ..marking()
        },
        Config {
            coherent: false,
            ..marking()
        },
        Config::everything(),
    ]
}

fn start(config: Config, freedom: Freedom) -> Rig {
    Plan::new(config)
        .mode(ModeRequest::SecondStage)
        .freedom(freedom)
        .start()
}

fn each(mut test: impl FnMut(&Rig, Option<u32>)) {
    for config in units() {
        for freedom in FREEDOMS {
            for pasid in [None, Some(5)] {
                let rig = start(config.clone(), freedom);
                rig.assign(ONE, 1);
                eprintln!("{config:?} {freedom:?} {pasid:?}");
                test(&rig, pasid);
                rig.assert_clean();
            }
        }
    }
}

fn at(pasid: Option<u32>, request: Request) -> Request {
    Request { pasid, ..request }
}

fn track(rig: &Rig, domain: DomainHandle) {
    let owed = rig.driver.track_dirty(domain, LargePages::Whole);
    rig.settle(owed.expect("the unit marks"));
}

/// The pages from `first` on that are told, after what is owed was settled.
fn harvest(rig: &Rig, domain: DomainHandle, first: u64, pages: u64) -> Vec<u64> {
    let mut words = vec![0; pages.div_ceil(64) as usize];
    let mut bitmap =
        DirtyBitmap::new(range(first, pages), Order::PAGE, &mut words).expect("room enough");
    let owed = rig
        .driver
        .read_dirty(domain, DirtyRead::Clear, &mut bitmap)
        .expect("it is tracked");
    rig.settle(owed);
    marked(&bitmap)
}

fn marked(bitmap: &DirtyBitmap<'_>) -> Vec<u64> {
    let range = bitmap.range();
    let pages = 0..range.pages();
    pages
        .map(|page| range.first().as_u64() + page * 0x1000)
        .filter(|&page| bitmap.is_marked(Iova::new(page)))
        .collect()
}

/// A domain with pages of guest 1 at 0x7000 and on.
fn pages(rig: &Rig, pasid: Option<u32>, count: u64) -> (DomainHandle, Vec<Frame>) {
    let domain = rig.domain(ONE, SECOND);
    rig.attach(ONE, pasid, domain);
    let frames: Vec<Frame> = (0..count).map(|_| rig.page(1)).collect();
    for (index, frame) in (0..).zip(&frames) {
        rig.map(
            domain,
            0x7000 + index * 0x1000,
            frame.hpa(),
            Access::READ_WRITE,
        );
    }
    (domain, frames)
}

fn end(rig: &Rig, pasid: Option<u32>, domain: DomainHandle, frames: Vec<Frame>) {
    rig.detach(ONE, pasid);
    rig.destroy(domain);
    for frame in frames {
        rig.platform.release(frame);
    }
}

#[test]
fn what_a_device_writes_is_told_and_what_it_reads_is_not() {
    each(|rig, pasid| {
        let (domain, frames) = pages(rig, pasid, 4);
        // Before anybody asks, in vain; and it leaves a translation cached.
        for page in 0..4 {
            rig.assert_reaches(
                &at(pasid, write(ONE, 0x7000 + page * 0x1000)),
                frames[page as usize].hpa(),
            );
        }
        track(rig, domain);
        assert_eq!(harvest(rig, domain, 0x7000, 4), [0; 0]);
        for round in 0..3 {
            let page = 0x7000 + (round & 1) * 0x1000;
            rig.assert_reaches(
                &at(pasid, write(ONE, page + 0x10)),
                frames[(round & 1) as usize].hpa(),
            );
            rig.assert_reaches(&at(pasid, read(ONE, 0x9000)), frames[2].hpa());
            assert_eq!(harvest(rig, domain, 0x7000, 4), [page], "round {round}");
        }
        // The same page again and again: each time hardware has forgotten that it is marked.
        for _ in 0..4 {
            rig.assert_reaches(&at(pasid, write(ONE, 0xa000)), frames[3].hpa());
            assert_eq!(harvest(rig, domain, 0x7000, 4), [0xa000]);
        }
        end(rig, pasid, domain, frames);
    });
}

#[test]
fn a_domain_that_is_not_tracked_any_more_is_not_marked() {
    each(|rig, pasid| {
        let (domain, frames) = pages(rig, pasid, 2);
        track(rig, domain);
        rig.settle(rig.driver.stop_tracking(domain).expect("it was tracked"));
        rig.assert_reaches(&at(pasid, write(ONE, 0x7000)), frames[0].hpa());
        let mut words = [0];
        let mut bitmap = DirtyBitmap::new(range(0x7000, 2), Order::PAGE, &mut words).expect("room");
        let refused = rig.driver.read_dirty(domain, DirtyRead::Clear, &mut bitmap);
        assert_eq!(refused.map(drop), Err(DirtyError::NotTracking(domain)));
        // Marks of before do not come up when it is tracked again.
        track(rig, domain);
        assert_eq!(harvest(rig, domain, 0x7000, 2), [0; 0]);
        rig.assert_reaches(&at(pasid, write(ONE, 0x8000)), frames[1].hpa());
        assert_eq!(harvest(rig, domain, 0x7000, 2), [0x8000]);
        end(rig, pasid, domain, frames);
    });
}

#[test]
fn a_slot_that_is_attached_while_writes_are_tracked_is_marked_too() {
    each(|rig, pasid| {
        let domain = rig.domain(ONE, SECOND);
        track(rig, domain);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        rig.attach(ONE, pasid, domain);
        rig.assert_reaches(&at(pasid, write(ONE, 0x7000)), page.hpa());
        assert_eq!(harvest(rig, domain, 0x7000, 1), [0x7000]);
        end(rig, pasid, domain, vec![page]);
    });
}

#[test]
fn a_large_page_is_told_whole_or_split_first() {
    for (large, expected) in [(LargePages::Whole, 512), (LargePages::Split, 1)] {
        for freedom in FREEDOMS {
            let rig = Plan {
                pages: 1 << 12,
                ..Plan::new(marking())
                    .mode(ModeRequest::SecondStage)
                    .freedom(freedom)
            }
            .start();
            rig.assign(ONE, 1);
            let block = rig.platform.allocate(Order::PAGE_2M).expect("2 MiB");
            rig.with(|machine| {
                machine.own(block.hpa().as_u64(), 0x20_0000, vtd_model::Owner::Guest(1));
            });
            let domain = rig.domain(ONE, SECOND);
            rig.attach(ONE, None, domain);
            let run = Run {
                hpa: block.hpa(),
                pages: 512,
            };
            rig.map_run(domain, 0x40_0000, run, Access::READ_WRITE);
            let there = iommu_core::Hpa::new(block.hpa().as_u64() + 0x5000);
            rig.assert_reaches(&write(ONE, 0x40_5000), there);
            rig.settle(rig.driver.track_dirty(domain, large).expect("it marks"));
            rig.assert_reaches(&write(ONE, 0x40_5000), there);
            let found = harvest(&rig, domain, 0x40_0000, 512);
            assert_eq!(found.len(), expected, "{large:?}");
            assert!(found.contains(&0x40_5000));
            assert_eq!(harvest(&rig, domain, 0x40_0000, 512), [0; 0]);
            rig.assert_clean();
            end(&rig, None, domain, vec![block]);
        }
    }
}

#[test]
fn a_write_between_the_look_and_the_exchange_is_not_lost() {
    for freedom in FREEDOMS {
        for unmaps in [false, true] {
            let rig = start(marking(), freedom);
            rig.assign(ONE, 1);
            let (domain, frames) = pages(&rig, None, 2);
            track(&rig, domain);
            let mut armed = 1;
            rig.platform
                .before_exchanges(move |machine: &mut Machine, _| {
                    if armed > 0 {
                        armed -= 1;
                        machine.request(&write(ONE, 0x7000));
                        machine.request(&write(ONE, 0x8000));
                    }
                });
            if !unmaps {
                rig.with(|machine| machine.request(&write(ONE, 0x7000)));
            }
            let mut words = [0];
            let mut bitmap =
                DirtyBitmap::new(range(0x7000, 2), Order::PAGE, &mut words).expect("room");
            let owed = if unmaps {
                rig.driver.unmap_dirty(domain, &mut bitmap)
            } else {
                rig.driver.read_dirty(domain, DirtyRead::Clear, &mut bitmap)
            };
            rig.settle(owed.expect("it is tracked"));
            assert_eq!(marked(&bitmap), [0x7000, 0x8000], "{unmaps}");
            rig.assert_clean();
            end(&rig, None, domain, frames);
        }
    }
}

#[test]
fn unmapping_tells_what_was_written_before() {
    each(|rig, pasid| {
        let (domain, frames) = pages(rig, pasid, 3);
        track(rig, domain);
        for page in [0x7000, 0x9000] {
            rig.with(|machine| machine.request(&at(pasid, write(ONE, page))));
        }
        let mut words = [0];
        let mut bitmap = DirtyBitmap::new(range(0x8000, 2), Order::PAGE, &mut words).expect("room");
        let owed = rig.driver.unmap_dirty(domain, &mut bitmap);
        rig.settle(owed.expect("it is tracked"));
        assert_eq!(marked(&bitmap), [0x9000]);
        rig.assert_blocked(&at(pasid, read(ONE, 0x9000)));
        rig.assert_reaches(&at(pasid, read(ONE, 0x7000)), frames[0].hpa());
        assert_eq!(harvest(rig, domain, 0x7000, 1), [0x7000]);
        end(rig, pasid, domain, frames);
    });
}

#[test]
fn writes_by_translations_of_the_device_itself_are_told_too() {
    const CACHING: u16 = 0x0420;
    let config = Config {
        second_stage_dirty: true,
        ..Config::scalable_with_ats()
    };
    // The pessimist holds device-TLB entries as "prefetched at most" without a mark, which
    // §4.2.3.1 does not allow, and carries writes out by them.
    for freedom in (0..6).map(Freedom::Random) {
        for pasid in [None, Some(5)] {
            let rig = Plan::new(config.clone())
                .mode(ModeRequest::SecondStage)
                .freedom(freedom)
                .ats_device(CACHING, 0, Promptness::Late(3))
                .start();
            rig.assign(CACHING, 1);
            let domain = rig.domain(CACHING, SECOND);
            rig.attach(CACHING, pasid, domain);
            let settings = DeviceTlb {
                queue_depth: 0,
                physical_function: SourceId::from_bits(CACHING),
                page_requests: false,
            };
            rig.driver
                .enable_device_tlb(device(CACHING), settings, || Ok::<(), ()>(()))
                .expect("the unit has device-TLBs");
            let page = rig.page(1);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            let write = || {
                let written =
                    rig.with(|machine| machine.ats_access(CACHING, pasid, 0x7000, Wants::Write));
                assert_eq!(written.address(), Some(page.hpa().as_u64()));
            };
            write();
            track(&rig, domain);
            for round in 0..3 {
                write();
                let found = harvest(&rig, domain, 0x7000, 1);
                assert_eq!(found, [0x7000], "{freedom:?} {pasid:?}, round {round}");
            }
            rig.assert_clean();
            rig.detach(CACHING, pasid);
            rig.destroy(domain);
            rig.platform.release(page);
        }
    }
}

#[test]
fn writes_through_a_guests_own_tables_are_told_by_the_second_stage_below() {
    for freedom in FREEDOMS {
        let rig = start(marking(), freedom);
        let nest = Nest::new(&rig, None);
        let (guest, parent, root) = (&nest.guest, nest.parent, nest.root);
        let data = guest.data(3);
        guest.map(root, 0x12_3000, data, ALL);
        rig.assert_reaches(&write(ONE, 0x12_3000), guest.hpa(data));
        track(&rig, parent);
        for _ in 0..3 {
            rig.assert_reaches(&write(ONE, 0x12_3000), guest.hpa(data));
            let found = harvest(&rig, parent, crate::guest::BASE, 32);
            assert!(found.contains(&data), "{found:x?}");
            assert!(!found.contains(&guest.data(4)));
        }
        // Another nested domain, attached while writes are tracked.
        let other = nested(&rig, OTHER, parent, root, Privileges::NONE);
        rig.assign(OTHER, 1);
        rig.attach(OTHER, None, other);
        rig.assert_reaches(&write(OTHER, 0x12_3000), guest.hpa(data));
        assert!(harvest(&rig, parent, crate::guest::BASE, 32).contains(&data));
        rig.assert_clean();
        rig.detach(OTHER, None);
        rig.destroy(other);
        nest.end(None);
    }
}

#[test]
fn units_and_domains_that_cannot_are_named() {
    let cases = [
        (
            Config::scalable(),
            ModeRequest::SecondStage,
            SECOND,
            Some(DirtyError::Unsupported(device(ONE))),
        ),
        (
            marking(),
            ModeRequest::Legacy,
            SECOND,
            Some(DirtyError::Unsupported(device(ONE))),
        ),
        (
            marking(),
            ModeRequest::FirstStage,
            TableFormat::FirstStage4,
            None,
        ),
        (
            marking(),
            ModeRequest::FirstStage,
            SECOND,
            Some(DirtyError::NoDomain(DomainHandle {
                index: 99,
                generation: 0,
            })),
        ),
    ];
    for (config, mode, format, expected) in cases {
        let rig = Plan::new(config).mode(mode).start();
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        let before = rig.taken();
        match expected {
            // The permitted twin: the same unit, and a domain that exists.
            Some(error @ DirtyError::NoDomain(nobody)) => {
                let refused = rig.driver.track_dirty(nobody, LargePages::Split);
                assert_eq!(refused.map(drop), Err(error));
                track(&rig, domain);
            }
            Some(error) => {
                let refused = rig.driver.track_dirty(domain, LargePages::Split);
                assert_eq!(refused.map(drop), Err(error));
            }
            None => {
                let refused = rig.driver.track_dirty(domain, LargePages::Split);
                assert_eq!(refused.map(drop), Err(DirtyError::NotSecondStage(domain)));
            }
        }
        assert_eq!(rig.taken(), before);
        let said = rig.driver.capabilities(device(ONE)).expect("a unit");
        let can = !matches!(expected, Some(DirtyError::Unsupported(_)));
        assert_eq!(said.dirty_tracking, can);
        rig.assert_clean();
    }
}

#[test]
fn a_domain_on_two_units_is_tracked_only_if_both_can() {
    for (other, can) in [(marking(), true), (Config::scalable(), false)] {
        for freedom in FREEDOMS {
            let rig = Plan {
                units: vec![marking(), other.clone()],
                ..Plan::new(marking())
            }
            .mode(ModeRequest::SecondStage)
            .freedom(freedom)
            .device(OTHER, 1)
            .start();
            rig.assign(ONE, 1);
            rig.assign(OTHER, 1);
            let (domain, frames) = pages(&rig, None, 2);
            rig.attach(OTHER, None, domain);
            if can {
                track(&rig, domain);
                rig.assert_reaches(&write(OTHER, 0x8000), frames[1].hpa());
                assert_eq!(harvest(&rig, domain, 0x7000, 2), [0x8000]);
                for source in [ONE, OTHER] {
                    rig.assert_reaches(&write(source, 0x7000), frames[0].hpa());
                    assert_eq!(harvest(&rig, domain, 0x7000, 2), [0x7000]);
                }
            } else {
                let refused = rig.driver.track_dirty(domain, LargePages::Whole);
                let error = DirtyError::Unsupported(device(OTHER));
                assert_eq!(refused.map(drop), Err(error));
                rig.detach(OTHER, None);
                track(&rig, domain);
                let refused = rig
                    .driver
                    .replace(slot(OTHER, None), Attachment::Domain(domain));
                let error = BackendError::DirtyTrackingUnsupported(device(OTHER));
                assert_eq!(refused.map(drop), Err(error));
                rig.assert_blocked(&read(OTHER, 0x7000));
                rig.settle(rig.driver.stop_tracking(domain).expect("it was"));
                rig.attach(OTHER, None, domain);
                rig.assert_reaches(&write(OTHER, 0x7000), frames[0].hpa());
            }
            rig.assert_clean();
            rig.detach(OTHER, None);
            end(&rig, None, domain, frames);
        }
    }
}

#[test]
fn a_failed_allocation_leaves_the_domain_as_it_was() {
    for n in 1.. {
        let rig = Plan {
            pages: 1 << 12,
            ..Plan::new(marking()).mode(ModeRequest::SecondStage)
        }
        .start();
        rig.assign(ONE, 1);
        let (domain, frames) = pages(&rig, None, 1);
        let block = rig.platform.allocate(Order::PAGE_2M).expect("2 MiB");
        rig.with(|machine| {
            machine.own(block.hpa().as_u64(), 0x20_0000, vtd_model::Owner::Guest(1));
        });
        let run = Run {
            hpa: block.hpa(),
            pages: 512,
        };
        rig.map_run(domain, 0x40_0000, run, Access::READ_WRITE);
        let before = rig.taken();
        rig.platform.arena().fail_allocation(n);
        let tracked = rig.driver.track_dirty(domain, LargePages::Split);
        let succeeded = rig.platform.arena().failure_is_pending();
        rig.platform.arena().fail_allocation(0);
        if succeeded {
            rig.settle(tracked.expect("there is memory"));
            assert_eq!(n, 2, "one table for the split");
            rig.assert_clean();
            return;
        }
        assert!(matches!(tracked, Err(DirtyError::OutOfFrames(_))));
        assert_eq!(rig.taken(), before);
        let mut words = [0];
        let mut bitmap = DirtyBitmap::new(range(0x7000, 1), Order::PAGE, &mut words).expect("room");
        let refused = rig.driver.read_dirty(domain, DirtyRead::Keep, &mut bitmap);
        assert_eq!(refused.map(drop), Err(DirtyError::NotTracking(domain)));
        rig.assert_reaches(&write(ONE, 0x7000), frames[0].hpa());
        rig.assert_clean();
    }
}
