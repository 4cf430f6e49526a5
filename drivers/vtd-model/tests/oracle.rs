//! The oracle: containment, availability, what must survive, and what it tells.

mod common;

use common::*;
use vtd_model::{Config, CostRule, Freedom, Machine, Owner, Request, Rule};

const PESSIMIST: Freedom = Freedom::Pessimist(0);
const PAGE: u64 = 0x20_0000;
const OTHER: u64 = 0x30_0000;

fn bench() -> Bench {
    let mut bench = Bench::legacy(Config::legacy(), PESSIMIST);
    bench.machine.assign(DEVICE, None, Owner::Guest(1));
    bench.machine.own(PAGE, 0x10_0000, Owner::Guest(1));
    bench.machine.own(OTHER, 0x10_0000, Owner::Guest(2));
    bench
}

fn told(bench: &mut Bench) -> Vec<(Rule, String)> {
    bench
        .machine
        .take_violations()
        .into_iter()
        .map(|violation| (violation.rule, violation.message))
        .collect()
}

#[test]
fn a_page_of_another_owner_is_told_the_moment_it_is_mapped() {
    let mut bench = bench();
    bench.second(0x5000, 1, PAGE | 3);
    assert_eq!(told(&mut bench), []);
    bench.second(0x6000, 1, OTHER | 3);
    let told = told(&mut bench);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, Rule::Containment);
    assert!(
        told[0].1.contains("00:02.0")
            && told[0].1.contains("Guest(2)")
            && told[0].1.contains("0x6000"),
        "{}",
        told[0].1
    );
}

#[test]
fn a_large_page_that_covers_one_foreign_frame_is_told() {
    let mut bench = bench();
    bench.second(0x4000_0000, 2, 0x20_0083);
    assert_eq!(told(&mut bench)[0].0, Rule::Containment);
}

#[test]
fn a_frame_freed_before_its_invalidation_is_told_with_the_one_that_was_needed() {
    for forget in [true, false] {
        let mut bench = bench();
        let slot = bench.second(0x5000, 1, PAGE | 3);
        bench.poke(slot, 0);
        if !forget {
            bench.submit(&[(0x7_00f2, 0x5040)]);
        }
        bench.machine.own(PAGE, 0x1000, Owner::Nobody);
        let told = told(&mut bench);
        if forget {
            assert!(
                told[0].1.contains("type 2")
                    && told[0].1.contains("domain 0x7")
                    && told[0].1.contains("0x5000"),
                "{}",
                told[0].1
            );
        } else {
            assert_eq!(told, []);
        }
    }
}

#[test]
fn a_table_page_freed_while_a_walk_may_use_it_is_told() {
    for (leaf_only, expected) in [(0x40, 1), (0, 0)] {
        let mut bench = bench();
        let slot = bench.second(0x5000, 1, 0);
        bench.second(0x5000, 2, 0);
        bench.submit(&[(0x7_0032, 0x5000 | leaf_only)]);
        bench.machine.own(slot & !0xfff, 0x1000, Owner::Nobody);
        let told = told(&mut bench);
        assert_eq!(told.len(), expected, "{told:?}");
        assert!(
            told.iter()
                .all(|(rule, message)| *rule == Rule::Containment && message.contains("IH = 0"))
        );
    }
}

#[test]
fn what_was_promised_must_not_fail_at_any_step() {
    let mut bench = bench();
    let slot = bench.second(0x5000, 1, PAGE | 3);
    bench.second(0x6000, 1, (PAGE + 0x1000) | 3);
    bench
        .machine
        .expect(DEVICE, None, 0x5000, 0x2000, PAGE, true);
    assert_eq!(told(&mut bench), []);
    // Not present for a moment, then restored: a request may fall between.
    bench.machine.write_u64(slot, 0);
    bench.machine.write_u64(slot, PAGE | 3);
    let told_now = told(&mut bench);
    assert_eq!(told_now[0].0, Rule::Availability, "{told_now:?}");
    assert!(told_now[0].1.contains("0x5000"));

    // Withdrawn first: no promise, no violation.
    let mut bench = self::bench();
    let slot = bench.second(0x5000, 1, PAGE | 3);
    bench
        .machine
        .expect(DEVICE, None, 0x5000, 0x1000, PAGE, true);
    bench.machine.release(DEVICE, None, 0x5000, 0x1000);
    bench.machine.write_u64(slot, 0);
    assert_eq!(told(&mut bench), []);
}

#[test]
fn a_sweep_finds_a_promise_that_broke_out_of_sight() {
    let mut bench = bench();
    let slot = bench.second(0x5000, 1, PAGE | 3);
    bench
        .machine
        .expect(DEVICE, None, 0x5000, 0x1000, PAGE, true);
    // Behind the model's back.
    bench.machine.memory().store(slot, 0);
    bench.machine.sweep();
    assert_eq!(told(&mut bench)[0].0, Rule::Availability);
}

#[test]
fn what_lies_outside_an_invalidation_stays_cached() {
    let mut bench = bench();
    for page in 0..4 {
        bench.second(0x5000 + (page << 12), 1, (PAGE + (page << 12)) | 3);
    }
    let mark = bench.machine.mark();
    bench.submit(&[(0x7_0032, 0x6040)]);
    for (address, survives) in [(0x5000, true), (0x6000, false), (0x7000, true)] {
        assert_eq!(
            bench.machine.survived(mark, DEVICE, None, address),
            survives,
            "{address:#x}"
        );
    }
    bench.machine.must_have_survived(mark, DEVICE, None, 0x7000);
    assert_eq!(told(&mut bench), []);
    bench.submit(&[(0x7_0022, 0)]);
    bench.machine.must_have_survived(mark, DEVICE, None, 0x7000);
    assert_eq!(told(&mut bench)[0].0, Rule::TooMuch);
}

#[test]
fn two_units_have_caches_and_queues_of_their_own() {
    let mut machine = Machine::builder()
        .unit(Config::legacy())
        .unit(Config::legacy())
        .device(0x10, 0)
        .device(0x18, 1)
        .freedom(PESSIMIST)
        .build()
        .expect("good");
    let write = |machine: &mut Machine, unit, offset, value| {
        machine.write(unit, offset, vtd_model::Width::Dword, value)
    };
    machine.write(1, RTADDR, vtd_model::Width::Qword, ROOT);
    write(&mut machine, 1, GCMD, SRTP.into());
    machine.tick();
    write(&mut machine, 1, GCMD, TE.into());
    machine.tick();
    assert_eq!(
        machine.request(&Request::read(0x10, 0x5000)).address(),
        Some(0x5000),
        "unit 0 is off"
    );
    assert_eq!(
        machine.request(&Request::read(0x18, 0x5000)).address(),
        None
    );
    assert_eq!((machine.faults(0).len(), machine.faults(1).len()), (0, 1));
}

#[test]
fn a_walk_and_the_caches_can_be_read() {
    let mut bench = bench();
    bench.second(0x5000, 1, PAGE | 3);
    let walk = bench.machine.dump_walk(&Request::read(DEVICE, 0x5123));
    for part in [
        "read of 0x5123 by 00:02.0",
        "root entry",
        "context entry",
        "second stage, level 4",
        "second stage, level 1",
        "-> reaches 0x200123",
    ] {
        assert!(walk.contains(part), "{walk}");
    }
    let caches = bench.machine.dump_caches(0);
    for part in [
        "context  00:02.0  domain 0x7  second stage, 4 levels at 0x10000",
        "second   domain 0x7  level 1 table for 0x0",
        "iotlb    00:02.0  domain 0x7 tag 0x0  0x5000 -> 0x200000",
    ] {
        assert!(caches.contains(part), "{caches}");
    }
    let blocked = bench.machine.dump_walk(&Request::write(DEVICE, 0x9000));
    assert!(
        blocked.contains("-> blocked by LGN.2 (05h): No write permission."),
        "{blocked}"
    );
}

#[test]
fn a_machine_can_move_to_another_thread() {
    fn sendable<T: Send>() {}
    sendable::<Machine>();
}

#[test]
fn runs_of_one_seed_are_alike() {
    let run = |seed| {
        let mut bench = Bench::legacy(Config::legacy(), Freedom::Random(seed));
        let slot = bench.second(0x5000, 1, PAGE | 3);
        let mut seen = Vec::new();
        for turn in 0..200_u64 {
            bench
                .machine
                .write_u64(slot, (PAGE + ((turn % 7) << 12)) | 3);
            if turn % 5 == 0 {
                bench.put(0x7_0032, 0x5040);
                bench.doorbell();
            }
            bench.machine.tick();
            seen.push(
                bench
                    .machine
                    .request(&Request::read(DEVICE, 0x5000))
                    .address(),
            );
        }
        seen
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn rules_about_domain_ids_are_told() {
    let rules = |bench: &mut Bench| {
        let told = bench.machine.take_violations();
        told.into_iter()
            .filter(|told| told.rule == Rule::Programming)
            .map(|told| (told.section, told.message))
            .collect::<Vec<_>>()
    };
    // Legacy: one domain, two tables.
    let mut bench = bench();
    bench.machine.plug(0x18, 0, None);
    bench.poke(CONTEXT + 0x18 * 16 + 8, 0x702);
    bench.poke(CONTEXT + 0x18 * 16, SECOND | 1);
    assert_eq!(rules(&mut bench), []);
    bench.poke(CONTEXT + 0x18 * 16, FIRST | 1);
    assert_eq!(rules(&mut bench)[0].0, "§6.2.2.1");
    // Caching mode: domain 0.
    let mut bench = Bench::legacy(Config::legacy().with_caching_mode(), PESSIMIST);
    assert_eq!(rules(&mut bench), []);
    bench.poke(CONTEXT + 0x10 * 16 + 8, 2);
    assert_eq!(rules(&mut bench)[0].0, "§6.2.2.1");
    // Scalable: a domain of a second stage used for a first one.
    let mut bench = Bench::scalable(Config::scalable(), PESSIMIST);
    bench.pasid(5, SECOND_ENTRY);
    bench.pasid(6, [FIRST_ENTRY[0], FIRST_ENTRY[1] + 1, FIRST_ENTRY[2]]);
    assert_eq!(rules(&mut bench), []);
    bench.pasid(7, FIRST_ENTRY);
    assert_eq!(rules(&mut bench)[0].0, "§6.2.3.1");
}

/// Version 1: drains only what is asked for.
#[test]
fn memory_given_away_before_the_drain_is_told_with_the_flag_that_was_missing() {
    for (flags, missing) in [
        (0xc0, None),
        (0x40, Some("DR")),
        (0x80, Some("DW")),
        (0, Some("DR and DW")),
    ] {
        for granularity in [0x12, 0x22, 0x32] {
            let mut bench = bench();
            let slot = bench.second(0x5000, 1, PAGE | 3);
            bench.poke(slot, 0);
            bench.submit(&[(0x7_0000 | granularity | flags, 0x5040)]);
            bench.machine.own(PAGE, 0x1000, Owner::Nobody);
            let told = told(&mut bench);
            match missing {
                None => assert_eq!(told, []),
                Some(missing) => {
                    let message = &told[0].1;
                    let expected = format!("needed: {missing} in");
                    assert!(message.contains(&expected), "{message}");
                }
            }
        }
    }
}

#[test]
fn from_version_2_on_everything_is_drained_by_the_wait() {
    for (waits, count) in [(true, 0), (false, 1)] {
        let config = Config {
            major: 2,
            ..Config::legacy()
        };
        let mut bench = Bench::legacy(config, PESSIMIST);
        bench.machine.assign(DEVICE, None, Owner::Guest(1));
        bench.machine.own(PAGE, 0x1000, Owner::Guest(1));
        let slot = bench.second(0x5000, 1, PAGE | 3);
        bench.poke(slot, 0);
        bench.put(0x7_0032, 0x5040);
        if waits {
            assert!(bench.wait());
        } else {
            bench.doorbell();
            bench.machine.settle(10);
        }
        bench.machine.own(PAGE, 0x1000, Owner::Nobody);
        let told = told(&mut bench);
        assert_eq!(told.len(), count, "{told:?}");
        assert!(
            told.iter()
                .all(|(_, message)| message.contains("next wait"))
        );
    }
}

#[test]
fn a_drain_of_other_addresses_leaves_requests_under_way() {
    for (address, count) in [(0x5000, 0), (0x6000, 1)] {
        let mut bench = bench();
        let slot = bench.second(0x5000, 1, PAGE | 3);
        bench.poke(slot, 0);
        // Invalidates without a drain, then drains; one after the other.
        bench.submit(&[(0x7_0032, 0x5040)]);
        bench.submit(&[(0x7_00f2, address)]);
        bench.machine.own(PAGE, 0x1000, Owner::Nobody);
        assert_eq!(told(&mut bench).len(), count, "{address:#x}");
    }
}

#[test]
fn a_cost_rule_tells_what_it_did_not_select() {
    // Page, domain and global invalidation, against a rule for one page.
    for (low, too_much) in [(0x7_0032, false), (0x7_0022, true), (0x12, true)] {
        let mut bench = bench();
        for page in 0..4 {
            bench.second(0x5000 + (page << 12), 1, (PAGE + (page << 12)) | 3);
        }
        let rule = CostRule {
            name: "unmap one page".to_owned(),
            domain: Some(DOMAIN),
            addresses: Some(0x6000..=0x6fff),
            ..CostRule::default()
        };
        let costing = bench.machine.begin_cost(rule);
        bench.submit(&[(low, 0x6040)]);
        assert_eq!(bench.machine.end_cost(costing), 3);
        let told = told(&mut bench);
        assert_eq!(told.len(), usize::from(too_much), "{told:?}");
        for (rule, message) in told {
            assert_eq!(rule, Rule::TooMuch);
            assert!(message.contains("`unmap one page`") && message.contains("0x5000"));
        }
    }
}

#[test]
fn a_violation_carries_the_calls_that_led_to_it() {
    let mut bench = bench();
    bench.second(0x6000, 1, OTHER | 3);
    let violation = bench.machine.take_violations().remove(0);
    let stack = violation.stack();
    // From the store to the test, and nothing of the model or the harness. How much of a
    // function's path is known depends on the debug information.
    let function = stack[0].split(" at ").next().unwrap();
    assert_eq!(function.rsplit("::").next(), Some("poke"), "{stack:#?}");
    let test = stack.iter().any(|call| call.contains("tests/oracle.rs"));
    let inside = stack.iter().any(|call| call.contains("src/"));
    assert!(test && !inside, "{stack:#?}");
}

/// The entry is cleared and the page given to somebody else; a write is still on its way.
#[test]
fn a_posted_write_lands_in_foreign_memory_unless_it_is_drained() {
    // Version 1; descriptor flags, whether it may land late, by mode.
    for (freedoms, flags, late) in [
        (vec![PESSIMIST], 0xc0, false),
        (vec![PESSIMIST], 0x80, true),
        ((0..40).map(Freedom::Random).collect(), 0xc0, false),
        ((0..40).map(Freedom::Random).collect(), 0x80, true),
    ] {
        let mut happened = false;
        for freedom in freedoms {
            let mut bench = Bench::legacy(Config::legacy(), freedom);
            bench.machine.assign(DEVICE, None, Owner::Guest(1));
            bench.machine.own(PAGE, 0x1000, Owner::Guest(1));
            let slot = bench.second(0x5000, 1, PAGE | 3);
            assert!(bench.machine.post_write(DEVICE, None, 0x5008, &[7; 8]));
            bench.poke(slot, 0);
            bench.submit(&[(0x7_0032 | flags, 0x5040)]);
            told(&mut bench);
            bench.machine.own(PAGE, 0x1000, Owner::Guest(2));
            let under_way = bench.machine.posted() > 0;
            // A later drain of everything ends it in any case.
            bench.submit(&[(0xd2, 0)]);
            assert_eq!(bench.machine.posted(), 0);
            assert_eq!(bench.machine.read_u64(PAGE + 8), 0x0707_0707_0707_0707);
            let landed = told(&mut bench)
                .iter()
                .any(|(rule, message)| *rule == Rule::Containment && message.contains("lands at"));
            assert_eq!(landed, under_way, "{freedom:?}");
            happened |= landed;
        }
        assert_eq!(happened, late, "{flags:#x}");
    }
}

/// The device's requests go through a first stage at guest address `FIRST`, which lies at
/// `PAGE`, over a second stage.
fn nested() -> Bench {
    let mut bench = Bench::scalable(Config::scalable(), PESSIMIST);
    bench.machine.assign(DEVICE, None, Owner::Guest(1));
    bench.machine.own(PAGE, 0x10_0000, Owner::Guest(1));
    bench.second(FIRST, 1, PAGE | 3);
    bench.second(FIRST + 0x1000, 1, (PAGE + 0x1000) | 3);
    bench.pasid(0, NESTED_ENTRY);
    bench.flush_all();
    bench
}

#[test]
fn a_nested_root_serves_until_the_second_stage_that_led_to_it_is_invalidated() {
    let page_in_domain = (0x7_00f2, FIRST);
    let whole_domain = (0x7_00e2, 0);
    // A first stage is invalidated by PASID: no word about what lies below it.
    let pasid = (0x7_0026, 0);
    for (invalidated, told_of) in [
        (vec![], 1),
        (vec![pasid], 1),
        (vec![page_in_domain], 0),
        (vec![whole_domain], 0),
    ] {
        let mut bench = nested();
        bench.second(FIRST, 1, 0);
        bench.submit(&invalidated);
        assert_eq!(told(&mut bench), []);
        bench.machine.own(PAGE, 0x1000, Owner::Nobody);
        let told = told(&mut bench);
        assert_eq!(told.len(), told_of, "{invalidated:x?}: {told:?}");
    }
}

#[test]
fn a_nested_root_that_moved_is_walked_where_it_was_until_it_is_invalidated() {
    let mut bench = nested();
    bench.second(FIRST, 1, (PAGE + 0x1000) | 3);
    // What is written to the old place is still walked.
    bench.poke(PAGE, 0x40_0027);
    bench.submit(&[(0x7_00f2, FIRST)]);
    assert_eq!(told(&mut bench), []);
    bench.machine.own(PAGE, 0x1000, Owner::Nobody);
    assert_eq!(told(&mut bench), []);
    bench.machine.own(PAGE + 0x1000, 0x1000, Owner::Nobody);
    assert_eq!(told(&mut bench).len(), 1, "it lies there now");
}
