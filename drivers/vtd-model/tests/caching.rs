//! What stays cached: the pessimist must find every stale answer, and none after the right
//! invalidation.

mod common;

use common::*;
use vtd_model::{
    Condition, Config, Freedom, Outcome, Owner, PageRequest, Promptness, Request, Rule,
};

const PESSIMIST: Freedom = Freedom::Pessimist(0);
const CONTEXT_ENTRY: u64 = CONTEXT + 0x10 * 16;
const OLD: u64 = 0x20_0000;
const NEW: u64 = 0x30_0000;

fn answers(bench: &Bench, request: Request) -> Vec<Option<u64>> {
    let mut answers: Vec<_> = bench
        .machine
        .possible(&request)
        .iter()
        .map(Outcome::address)
        .collect();
    answers.sort_unstable();
    answers
}

fn read() -> Request {
    Request::read(DEVICE, 0x5000)
}

/// Low and high word of a descriptor.
type Descriptor = (u64, u64);

const fn iotlb_page(domain: u64, address: u64, mask: u64, leaf_only: bool) -> Descriptor {
    (
        domain << 16 | 0x32,
        address | mask | (leaf_only as u64) << 6,
    )
}

#[test]
fn a_changed_page_is_seen_only_after_the_right_invalidation() {
    let right: &[&[Descriptor]] = &[
        &[iotlb_page(7, 0x5000, 0, true)],
        &[iotlb_page(7, 0x4000, 1, true)],
        &[(0x7_0022, 0)],
        &[(0x12, 0)],
    ];
    let wrong: &[&[Descriptor]] = &[
        &[],
        &[(0x11, 0)],
        &[(0x04, 0)],
        &[iotlb_page(8, 0x5000, 0, true)],
        &[iotlb_page(7, 0x6000, 0, true)],
        &[iotlb_page(7, 0x6000, 1, true)],
        &[(0x8_0022, 0)],
    ];
    for (descriptors, stale) in right
        .iter()
        .map(|d| (d, false))
        .chain(wrong.iter().map(|d| (d, true)))
    {
        let mut bench = Bench::legacy(Config::legacy(), PESSIMIST);
        let slot = bench.second(0x5000, 1, OLD | 3);
        assert_eq!(answers(&bench, read()), [Some(OLD)]);
        bench.poke(slot, NEW | 3);
        assert_eq!(answers(&bench, read()), [Some(OLD), Some(NEW)]);
        bench.submit(descriptors);
        let expected: &[_] = if stale {
            &[Some(OLD), Some(NEW)]
        } else {
            &[Some(NEW)]
        };
        assert_eq!(answers(&bench, read()), expected, "{descriptors:x?}");
    }
}

#[test]
fn every_value_between_two_invalidations_may_be_cached() {
    let mut bench = Bench::legacy(Config::legacy(), PESSIMIST);
    let slot = bench.second(0x5000, 1, 0);
    for page in 1..=3 {
        bench.poke(slot, page << 20 | 3);
    }
    bench.poke(slot, 0);
    assert_eq!(
        answers(&bench, read()),
        [None, Some(1 << 20), Some(2 << 20), Some(3 << 20)]
    );
    bench.submit(&[iotlb_page(7, 0x5000, 0, true)]);
    assert_eq!(answers(&bench, read()), [None]);
}

#[test]
fn a_table_that_was_unlinked_is_used_until_an_invalidation_with_ih_0() {
    for (leaf_only, stale) in [(true, true), (false, false)] {
        let mut bench = Bench::legacy(Config::legacy(), PESSIMIST);
        bench.second(0x5000, 1, OLD | 3);
        let pde = bench.second(0x5000, 2, 0);
        // (the helper has replaced the directory's entry by nothing)
        assert_eq!(bench.machine.read_u64(pde), 0);
        bench.submit(&[iotlb_page(7, 0x5000, 0, leaf_only)]);
        let expected: &[_] = if stale { &[None, Some(OLD)] } else { &[None] };
        assert_eq!(answers(&bench, read()), expected);
    }
}

#[test]
fn an_emptied_table_page_that_is_reused_too_early_is_walked() {
    let mut bench = Bench::legacy(Config::legacy(), PESSIMIST);
    let slot = bench.second(0x5000, 1, OLD | 3);
    let table = slot & !0xfff;
    bench.poke(slot, 0);
    bench.second(0x5000, 2, 0);
    // Only the leaf is invalidated; the page then holds data that look like an entry.
    bench.submit(&[iotlb_page(7, 0x5000, 0, true)]);
    bench.poke(table + 5 * 8, 0x66_6003);
    assert_eq!(answers(&bench, read()), [None, Some(0x66_6000)]);
}

#[test]
fn a_stale_context_needs_context_and_iotlb_in_this_order() {
    let device = (DEVICE as u64) << 32 | 0x7_0031;
    let cases: &[(&[Descriptor], &[Option<u64>])] = &[
        (&[], &[None, Some(OLD), Some(NEW)]),
        (&[(0x12, 0)], &[None, Some(OLD), Some(NEW)]),
        (&[(device, 0)], &[None, Some(OLD), Some(NEW)]),
        (&[(device, 0), (0x7_0022, 0)], &[None, Some(NEW)]),
        (&[(0x8_0021, 0), (0x12, 0)], &[None, Some(OLD), Some(NEW)]),
        (&[(0x7_0021, 0), (0x7_0022, 0)], &[None, Some(NEW)]),
    ];
    for (descriptors, expected) in cases {
        let mut bench = Bench::legacy(Config::legacy(), PESSIMIST);
        bench.second(0x5000, 1, OLD | 3);
        let other = bench.frame();
        bench.put_entry(other, 4, 0x5000, 1, NEW | 3, 3);
        // Pointer and domain change at once.
        bench.machine.write_u128(CONTEXT_ENTRY, [0, 0x702]);
        bench.machine.write_u128(CONTEXT_ENTRY, [other | 1, 0x902]);
        bench.submit(descriptors);
        let seen = answers(&bench, read());
        let without: Vec<_> = seen.iter().filter(|answer| answer.is_some()).collect();
        let wanted: Vec<_> = expected.iter().filter(|answer| answer.is_some()).collect();
        assert_eq!(without, wanted, "{descriptors:x?}");
    }
}

#[test]
fn the_order_of_a_batch_is_not_the_queues_order() {
    // An IOTLB invalidation queued before the context's may run first: it must not be
    // enough, since what the stale context allows may be cached again.
    let device = (DEVICE as u64) << 32 | 0x7_0031;
    for (descriptors, stale) in [
        ([(0x7_0022, 0), (device, 0)], true),
        ([(device, 0), (0x7_0022, 0)], false),
    ] {
        let mut bench = Bench::legacy(Config::legacy(), PESSIMIST);
        bench.second(0x5000, 1, OLD | 3);
        bench.poke(CONTEXT_ENTRY, 0);
        bench.submit(&descriptors);
        assert_eq!(answers(&bench, read()).contains(&Some(OLD)), stale);
    }
}

#[test]
fn not_present_entries_are_cached_only_in_caching_mode() {
    for (config, expected) in [
        (Config::legacy(), vec![Some(NEW)]),
        (Config::legacy().with_caching_mode(), vec![None, Some(NEW)]),
    ] {
        let mut bench = Bench::legacy(config, PESSIMIST);
        bench.second(0x6000, 1, OLD | 3);
        bench.flush_all();
        bench.second(0x5000, 1, NEW | 3);
        assert_eq!(answers(&bench, read()), expected);
        bench.submit(&[iotlb_page(7, 0, 0, true)]);
        assert_eq!(answers(&bench, read()), expected, "another page");
        bench.submit(&[iotlb_page(7, 0x5000, 0, true)]);
        assert_eq!(answers(&bench, read()), [Some(NEW)]);
    }
}

#[test]
fn an_absent_context_is_cached_in_caching_mode_under_domain_0() {
    let device = (DEVICE as u64) << 32 | 0x31;
    let cases: &[(Descriptor, bool)] = &[
        ((0x11, 0), false),
        ((0x21, 0), false),
        ((0x7_0021, 0), true),
        ((device | 7 << 16, 0), true),
        ((device, 0), false),
    ];
    for (descriptor, stale) in cases {
        let mut bench = Bench::legacy(Config::legacy().with_caching_mode(), PESSIMIST);
        bench.second(0x5000, 1, OLD | 3);
        bench.poke(CONTEXT_ENTRY, 0);
        bench.flush_all();
        bench.poke(CONTEXT_ENTRY, SECOND | 1);
        bench.submit(&[*descriptor]);
        assert_eq!(
            answers(&bench, read()).contains(&None),
            *stale,
            "{descriptor:x?}"
        );
    }
}

#[test]
fn stores_are_seen_late_and_in_any_order_by_a_unit_that_does_not_snoop() {
    let mut bench = Bench::legacy(Config::legacy().non_coherent(), PESSIMIST);
    let slot = bench.second(0x5000, 1, OLD | 3);
    bench.submit(&[(0x12, 0)]);
    assert_eq!(answers(&bench, read()), [Some(OLD)]);
    bench.machine.write_u64(slot, NEW | 3);
    bench.submit(&[(0x12, 0)]);
    assert_eq!(
        answers(&bench, read()),
        [Some(OLD), Some(NEW)],
        "not written back"
    );
    bench.machine.written_back(slot, 8);
    bench.submit(&[(0x12, 0)]);
    assert_eq!(answers(&bench, read()), [Some(NEW)]);
}

#[test]
fn a_table_page_that_was_never_written_back_holds_rubbish() {
    let mut bench = Bench::legacy(Config::legacy().non_coherent(), PESSIMIST);
    let pde = bench.second(0x5000, 2, 0);
    let table = 0x40_0000;
    for at in 0..512 {
        bench.machine.write_u64(table + 8 * at, 0);
    }
    bench.machine.write_u64(table + 5 * 8, OLD | 3);
    bench.poke(pde, table | 3);
    let seen = answers(&bench, read());
    assert!(seen.len() > 1 && seen.contains(&Some(OLD)), "{seen:x?}");
    bench.machine.written_back(table, 0x1000);
    bench.submit(&[(0x12, 0)]);
    assert_eq!(answers(&bench, read()), [Some(OLD)]);
}

fn scalable(entry: [u64; 3]) -> Bench {
    let mut bench = Bench::scalable(Config::scalable(), PESSIMIST);
    bench.pasid(5, entry);
    bench
}

#[test]
fn a_changed_first_stage_page_falls_to_type_6_by_page_and_to_type_2_by_domain() {
    let request = read().with_pasid(5);
    let cases: &[(Descriptor, bool)] = &[
        ((5 << 32 | 0x7_0036, 0x5040), false),
        ((5 << 32 | 0x7_0026, 0), false),
        ((5 << 32 | 0x8_0036, 0x5040), true),
        ((6 << 32 | 0x7_0036, 0x5040), true),
        ((5 << 32 | 0x7_0036, 0x6040), true),
        (iotlb_page(7, 0x9000, 0, true), false),
        (iotlb_page(8, 0x5000, 0, true), true),
    ];
    for (descriptor, stale) in cases {
        let mut bench = scalable(FIRST_ENTRY);
        let slot = bench.first(0x5000, 1, OLD | 0x67);
        bench.poke(slot, NEW | 0x67);
        bench.submit(&[*descriptor]);
        let expected: &[_] = if *stale {
            &[Some(OLD), Some(NEW)]
        } else {
            &[Some(NEW)]
        };
        assert_eq!(answers(&bench, request), expected, "{descriptor:x?}");
    }
}

#[test]
fn a_changed_second_stage_page_stays_under_type_6_by_page() {
    let request = read().with_pasid(5);
    for (descriptor, stale) in [
        ((5 << 32 | 0x7_0036, 0x5000), true),
        ((5 << 32 | 0x7_0026, 0), false),
        (iotlb_page(7, 0x5000, 0, true), false),
    ] {
        let mut bench = scalable(SECOND_ENTRY);
        let slot = bench.second(0x5000, 1, OLD | 3);
        bench.poke(slot, NEW | 3);
        bench.submit(&[descriptor]);
        assert_eq!(
            answers(&bench, request).contains(&Some(OLD)),
            stale,
            "{descriptor:x?}"
        );
    }
}

#[test]
fn a_removed_pasid_entry_needs_the_pasid_cache_and_then_the_iotlb() {
    let request = read().with_pasid(5);
    let pasid = (5 << 32 | 0x7_0017, 0);
    let cases: &[(&[Descriptor], bool)] = &[
        (&[], true),
        (&[pasid], true),
        (&[(5 << 32 | 0x7_0026, 0)], true),
        (&[(5 << 32 | 0x7_0026, 0), pasid], true),
        (&[pasid, (5 << 32 | 0x7_0026, 0)], false),
        (&[(6 << 32 | 0x7_0017, 0), (0x12, 0)], true),
        (&[(5 << 32 | 0x8_0017, 0), (0x12, 0)], true),
        (&[(0x7_0007, 0), (0x7_0022, 0)], false),
        (&[(0x37, 0), (0x12, 0)], false),
    ];
    for (descriptors, stale) in cases {
        let mut bench = scalable(FIRST_ENTRY);
        bench.first(0x5000, 1, OLD | 0x67);
        bench.poke(PASIDS + 5 * 64, FIRST_ENTRY[0] & !1);
        bench.submit(descriptors);
        assert_eq!(
            answers(&bench, request).contains(&Some(OLD)),
            *stale,
            "{descriptors:x?}"
        );
    }
}

#[test]
fn a_pasid_entry_that_is_torn_apart_while_present_is_walked_with_its_halves() {
    // Zeroing the words one by one with P still set: a unit may read any state between.
    let mut bench = scalable(FIRST_ENTRY);
    bench.first(0x5000, 1, OLD | 0x67);
    bench.poke(PASIDS + 5 * 64 + 16, 0);
    bench.poke(PASIDS + 5 * 64, 0);
    let conditions: Vec<_> = bench
        .machine
        .possible(&read().with_pasid(5))
        .iter()
        .filter_map(Outcome::condition)
        .collect();
    assert!(
        conditions.contains(&Condition::Sfs2),
        "walked the table at 0: {conditions:?}"
    );
}

#[test]
fn nested_translations_fall_to_second_stage_changes_only_by_domain() {
    let setup = || {
        let mut bench = scalable(NESTED_ENTRY);
        bench.first(0x5000, 1, 0x60_0067);
        let slot = bench.second(0x60_0000, 1, OLD | 3);
        for page in [FIRST]
            .into_iter()
            .chain((0x10_0000..0x11_0000).step_by(0x1000))
        {
            bench.second(page, 1, page | 3);
        }
        assert_eq!(answers(&bench, read().with_pasid(5)), [Some(OLD)]);
        bench.poke(slot, NEW | 3);
        bench
    };
    for (descriptor, stale) in [
        ((5 << 32 | 0x7_0036, 0x60_0000), true),
        ((5 << 32 | 0x7_0036, 0x5000), false),
        (iotlb_page(7, 0x60_0000, 0, true), false),
        (iotlb_page(8, 0x60_0000, 0, true), true),
    ] {
        let mut bench = setup();
        bench.submit(&[descriptor]);
        let expected: &[_] = if stale {
            &[Some(OLD), Some(NEW)]
        } else {
            &[Some(NEW)]
        };
        assert_eq!(
            answers(&bench, read().with_pasid(5)),
            expected,
            "{descriptor:x?}"
        );
    }
}

#[test]
fn set_root_pointer_forgets_by_itself_only_with_esrtps() {
    for (esrtps, stale) in [(true, false), (false, true)] {
        let config = Config {
            srtp_invalidates: esrtps,
            ..Config::legacy()
        };
        let mut bench = Bench::legacy(config, PESSIMIST);
        bench.second(0x5000, 1, OLD | 3);
        let root = bench.frame();
        bench.write64(RTADDR, root);
        bench.command(SRTP, true);
        assert_eq!(answers(&bench, read()).contains(&Some(OLD)), stale);
    }
}

#[test]
fn a_device_tlb_keeps_its_entries_until_they_are_invalidated_after_the_iotlb() {
    let all = (u64::from(DEVICE) << 32 | 3, 0x7fff_ffff_ffff_f001);
    let page = (u64::from(DEVICE) << 32 | 3, 0x5000);
    let other = (u64::from(DEVICE) << 32 | 3, 0x6000);
    let pasid = (u64::from(DEVICE) << 16 | 5 << 32 | 8, 0x5000);
    let iotlb = iotlb_page(7, 0x5000, 0, true);
    let cases: &[(&[Descriptor], bool)] = &[
        (&[iotlb], true),
        (&[all], true),
        (&[all, iotlb], true),
        (&[iotlb, all], false),
        (&[iotlb, page], false),
        (&[iotlb, other], true),
        (&[iotlb, pasid], true),
    ];
    for (descriptors, stale) in cases {
        let mut bench = Bench::scalable_with(
            Config::scalable_with_ats(),
            PESSIMIST,
            Some(Promptness::Late(3)),
        );
        bench.machine.assign(DEVICE, None, Owner::Guest(1));
        bench.machine.own(OLD, 0x1000, Owner::Guest(1));
        bench.machine.own(NEW, 0x1000, Owner::Guest(1));
        bench.pasid(0, SECOND_ENTRY);
        let slot = bench.second(0x5000, 1, OLD | 3);
        bench.poke(slot, NEW | 3);
        bench.submit(descriptors);
        assert_eq!(bench.violations(), [""; 0]);
        bench.machine.own(OLD, 0x1000, Owner::Nobody);
        let told = bench.machine.take_violations();
        assert_eq!(
            told.iter().any(|told| told.rule == Rule::Containment),
            *stale,
            "{descriptors:x?}: {told:?}"
        );
    }
}

#[test]
fn a_page_request_drops_the_translations_of_its_page() {
    let mut bench = Bench::scalable_with(
        Config::scalable_with_ats(),
        PESSIMIST,
        Some(Promptness::Prompt),
    );
    bench.write64(0xd0, 0x7000);
    bench.pasid(5, FIRST_ENTRY);
    let slot = bench.first(0x5000, 1, OLD | 0x65);
    bench.poke(slot, OLD | 0x67);
    let write = Request::write(DEVICE, 0x5000).with_pasid(5);
    assert_eq!(
        answers(&bench, write),
        [None, Some(OLD)],
        "read-only may be cached"
    );
    bench.machine.page_request(&PageRequest {
        source: DEVICE,
        pasid: Some(5),
        address: 0x5000,
        read: false,
        write: true,
        execute: false,
        privileged: false,
        group: 1,
        last: true,
    });
    assert_eq!(answers(&bench, write), [Some(OLD)]);
}

#[test]
fn the_random_mode_meets_stale_answers_too() {
    let stale = (0..200).filter(|seed| {
        let mut bench = Bench::legacy(Config::legacy(), Freedom::Random(*seed));
        let slot = bench.second(0x5000, 1, OLD | 3);
        bench.machine.request(&read());
        bench.poke(slot, NEW | 3);
        bench.machine.request(&read()).address() == Some(OLD)
    });
    let stale = stale.count();
    assert!((100..=199).contains(&stale), "{stale} of 200");
}

#[test]
fn the_random_mode_never_invents_an_answer() {
    for seed in 0..50 {
        let mut bench = Bench::legacy(Config::legacy(), Freedom::Random(seed));
        let slot = bench.second(0x5000, 1, OLD | 3);
        for turn in 0..50_u64 {
            bench.poke(slot, (OLD + (turn << 12)) | 3);
            bench.submit(&[iotlb_page(7, 0x5000, 0, true)]);
            for _ in 0..3 {
                assert_eq!(
                    bench.machine.request(&read()).address(),
                    Some(OLD + (turn << 12))
                );
            }
        }
    }
}

#[test]
fn the_random_mode_caches_what_nobody_asked_for() {
    // The page is never requested while it is mapped; a prefetch may have cached it.
    let stale = (0..200).filter(|seed| {
        let mut bench = Bench::legacy(Config::legacy(), Freedom::Random(*seed));
        let slot = bench.second(0x5000, 1, OLD | 3);
        bench.machine.settle(20);
        bench.poke(slot, 0);
        bench.machine.request(&read()).address() == Some(OLD)
    });
    let stale = stale.count();
    assert!((60..=199).contains(&stale), "{stale} of 200");
}

#[test]
fn a_prefetch_sets_no_accessed_flag() {
    for seed in 0..50 {
        let mut bench = Bench::scalable(Config::scalable(), Freedom::Random(seed));
        bench.pasid(0, FIRST_ENTRY);
        let slot = bench.first(0x5000, 1, OLD | 7);
        bench.machine.settle(100);
        assert_eq!(bench.machine.read_u64(slot), OLD | 7);
    }
}

#[test]
fn a_fetch_of_a_pasid_entry_may_join_its_old_beginning_to_its_new_end() {
    // PGTT changes first, FSPTPTR after: the unit may have read the beginning before both
    // stores, unless an invalidation in between has ended its fetch.
    for settled in [false, true] {
        let mut bench = scalable(FIRST_ENTRY);
        bench.first(0x5000, 1, OLD | 0x67);
        let other = bench.frame();
        bench.put_entry(other, 4, 0x5000, 1, NEW | 0x67, 0x27);
        bench.poke(PASIDS + 5 * 64, SECOND_ENTRY[0]);
        if settled {
            bench.submit(&[(0x37, 0), (0x12, 0)]);
        }
        bench.poke(PASIDS + 5 * 64 + 16, other);
        let seen = answers(&bench, read().with_pasid(5));
        assert_eq!(seen.contains(&Some(NEW)), !settled, "{seen:x?}");
    }
    // Cleared, invalidated, then rewritten: nothing is mixed.
    let mut bench = scalable(FIRST_ENTRY);
    bench.first(0x5000, 1, OLD | 0x67);
    let other = bench.frame();
    bench.put_entry(other, 4, 0x5000, 1, NEW | 0x67, 0x27);
    bench.poke(PASIDS + 5 * 64, FIRST_ENTRY[0] & !1);
    bench.submit(&[(5 << 32 | 0x7_0017, 0), (5 << 32 | 0x7_0026, 0)]);
    bench.poke(PASIDS + 5 * 64 + 16, other);
    assert_eq!(answers(&bench, read().with_pasid(5)), [None]);
    bench.poke(PASIDS + 5 * 64, FIRST_ENTRY[0]);
    assert_eq!(answers(&bench, read().with_pasid(5)), [Some(NEW)]);
}

#[test]
fn a_fence_holds_back_the_descriptors_behind_it() {
    // A late device holds the wait; with a fence the invalidation behind it must not have
    // run, without one it may have.
    for (fence, stale) in [(0x40, true), (0, false)] {
        let mut bench = Bench::scalable_with(
            Config::scalable_with_ats(),
            PESSIMIST,
            Some(Promptness::Late(40)),
        );
        bench.pasid(5, FIRST_ENTRY);
        let slot = bench.first(0x5000, 1, OLD | 0x67);
        bench.poke(slot, NEW | 0x67);
        bench.put(u64::from(DEVICE) << 32 | 3, 0x7fff_ffff_ffff_f001);
        bench.put(0x7_0000_0025 | fence, STATUS + 8);
        bench.put(0x12, 0);
        bench.doorbell();
        bench.machine.settle(10);
        assert_eq!(
            answers(&bench, read().with_pasid(5)).contains(&Some(OLD)),
            stale
        );
        bench.machine.settle(100);
        assert_eq!(answers(&bench, read().with_pasid(5)), [Some(NEW)]);
    }
}

#[test]
fn what_an_invalidation_took_along_may_be_cached_again() {
    // A page-selective invalidation drops every first-stage translation of its domain,
    // whatever the address: those that the tables allow may come back at once.
    let mut bench = scalable(FIRST_ENTRY);
    let slot = bench.first(0x5000, 1, OLD | 0x67);
    bench.submit(&[iotlb_page(7, 0x9000, 0, true)]);
    bench.poke(slot, 0);
    assert_eq!(answers(&bench, read().with_pasid(5)), [None, Some(OLD)]);
}

/// CM = 1: the absence of a directory entry stands for each of its PASIDs, under domain 0.
#[test]
fn an_absent_directory_entry_stays_until_its_pasids_are_invalidated() {
    let config = || Config::scalable().with_caching_mode();
    let one = |domain: u64, pasid: u64| (pasid << 32 | domain << 16 | 0x17, 0);
    let cases: &[(&[(u64, u64)], bool)] = &[
        (&[], false),
        (&[one(0, 70)], true),
        (&[one(0, 71)], false),
        (&[one(7, 70)], false),
        (&[(0x07, 0)], true),
        (&[(0x37, 0)], true),
    ];
    for (descriptors, suffices) in cases {
        let mut b = Bench::scalable(config(), Freedom::Pessimist(0));
        let table = b.frame();
        // Its own absence is cached by PASID too: filled before anybody can see it.
        let entry = table + 6 * 64;
        b.poke(entry + 8, SECOND_ENTRY[1]);
        b.poke(entry, SECOND_ENTRY[0]);
        b.second(0x5000, 1, 0x20_0003);
        b.submit(&[(0x12, 0)]);
        b.poke(DIRECTORY + 8, table | 1);
        b.submit(descriptors);
        let request = Request::read(DEVICE, 0x5000).with_pasid(70);
        let found = b.machine.possible(&request);
        let fails = found
            .iter()
            .any(|outcome| outcome.condition() == Some(Condition::Spd2));
        assert_eq!(fails, !suffices, "{descriptors:x?}: {found:?}");
    }
}
