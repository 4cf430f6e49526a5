//! Host permission tables (§4.2.4): what a device may do with host addresses, whatever it
//! says they were translated from.

mod common;

use common::*;
use vtd_model::{
    Access, Condition, Config, Freedom, Outcome, Owner, Promptness, Request, Rule, Status,
};

/// Root of the host permission table.
const HPT: u64 = 0x9000;
const HPT_DOMAIN: u64 = 0x33;
const PAGE: u64 = 0x20_0000;
const CONTEXT_ENTRY: u64 = CONTEXT + 0x10 * 32;
const FREEDOMS: [Freedom; 3] = [
    Freedom::Random(0),
    Freedom::Random(1),
    Freedom::Pessimist(0),
];

fn config() -> Config {
    Config {
        // One address bit more than the smallest table governs.
        host_bits: 50,
        zero_length_read: true,
        ..Config::everything()
    }
}

/// DTE, PASIDE, HPTE; `more` as bits of the context entry.
fn bench_with(config: Config, freedom: Freedom, more: u64) -> Bench {
    let mut bench = Bench::scalable_with(config, freedom, Some(Promptness::Prompt));
    bench.machine.written_back(HPT, 0x1000);
    bench.poke(CONTEXT_ENTRY, DIRECTORY | 1 | 0x2c | more);
    permissions_at(&mut bench, 0, HPT, HPT_DOMAIN);
    bench.pasid(0, SECOND_ENTRY);
    flush(&mut bench);
    bench
}

fn bench(freedom: Freedom) -> Bench {
    bench_with(config(), freedom, 0)
}

fn permissions_at(bench: &mut Bench, pasid: u64, table: u64, domain: u64) {
    bench.poke(PASIDS + pasid * 64 + 32, table);
    bench.poke(PASIDS + pasid * 64 + 40, domain);
}

fn flush(bench: &mut Bench) {
    bench.submit(&[(0x11, 0), (0x37, 0), (0x12, 0), (0x1a, 0)]);
}

/// Writes PPi of the page of `level` that holds `address`, adding tables on the way. Gives
/// the entry's place.
fn permit(bench: &mut Bench, root: u64, address: u64, level: u32, rights: u64) -> u64 {
    let mut table = root;
    for at in (level + 1..=4).rev() {
        let entry = entry_of(table, at, address);
        let pointer = bench.machine.read_u64(entry + 8);
        table = if pointer & 1 == 0 {
            let next = bench.frame();
            bench.poke(entry + 8, next | 1);
            next
        } else {
            pointer & !0xfff
        };
    }
    let entry = entry_of(table, level, address);
    let fields = [32, 16, 8][level as usize - 1];
    let field = 4 * (address >> (12 + 9 * (level - 1)) & (fields - 1));
    let word = entry + field / 64 * 8;
    let old = bench.machine.read_u64(word);
    let (mask, shift) = (0xf << (field % 64), field % 64);
    bench.poke(word, old & !mask | rights << shift);
    entry
}

fn entry_of(table: u64, level: u32, address: u64) -> u64 {
    let index = address >> (17 + 8 * (level - 1));
    table + if level == 4 { index } else { index & 0xff } * 16
}

fn translated(bench: &mut Bench, address: u64, access: Access) -> Outcome {
    let request = Request::new(DEVICE, address, access).translated();
    bench.machine.request(&request)
}

fn condition(bench: &mut Bench, address: u64, access: Access) -> Option<Condition> {
    translated(bench, address, access).condition()
}

#[test]
fn a_translated_request_needs_the_permission_of_its_page() {
    for freedom in FREEDOMS {
        for (level, size) in [(1, 0x1000), (2, 0x20_0000), (3, 0x4000_0000)] {
            let page = 0x1_4000_0000 + 3 * size;
            for (rights, access, denied) in [
                (1, Access::Read, None),
                (1, Access::Write, Some(Condition::Hpt5)),
                (1, Access::Atomic, Some(Condition::Hpt5)),
                (2, Access::Write, None),
                (2, Access::Read, Some(Condition::Hpt6)),
                (2, Access::Atomic, Some(Condition::Hpt6)),
                (2, Access::ZeroLengthRead, None),
                (1, Access::ZeroLengthRead, None),
                (3, Access::Atomic, None),
                (0, Access::Read, Some(Condition::Hpt6)),
                (0, Access::Write, Some(Condition::Hpt5)),
                (0, Access::ZeroLengthRead, Some(Condition::Hpt4)),
            ] {
                let mut b = bench(freedom);
                permit(&mut b, HPT, page, level, rights);
                // A neighbour, so that the entry says something.
                permit(&mut b, HPT, page - size, level, 3);
                let outcome = translated(&mut b, page + 0x123, access);
                let what = format!("{freedom:?}, level {level}, {rights}, {access:?}");
                assert_eq!(outcome.condition(), denied, "{what}");
                if denied.is_none() {
                    assert_eq!(outcome.address(), Some(page + 0x123), "{what}");
                }
            }
        }
    }
}

#[test]
fn without_zlr_a_zero_length_read_is_a_read() {
    for (zero_length_read, rights, expected) in [
        (true, 2, None),
        (false, 2, Some(Condition::Hpt6)),
        (true, 0, Some(Condition::Hpt4)),
        (false, 0, Some(Condition::Hpt6)),
    ] {
        let config = Config {
            zero_length_read,
            ..config()
        };
        let mut b = bench_with(config, Freedom::Random(0), 0);
        permit(&mut b, HPT, PAGE, 1, rights);
        let found = condition(&mut b, PAGE, Access::ZeroLengthRead);
        assert_eq!(found, expected, "ZLR {zero_length_read}, PPi {rights}");
    }
}

#[test]
fn without_hpte_translated_requests_pass_unchecked() {
    let mut b = bench(Freedom::Random(0));
    assert_eq!(
        condition(&mut b, PAGE, Access::Read),
        Some(Condition::Hpt6),
        "with HPTE"
    );
    b.poke(CONTEXT_ENTRY, DIRECTORY | 1 | 0xc);
    flush(&mut b);
    let outcome = translated(&mut b, PAGE, Access::Read);
    assert_eq!(outcome.address(), Some(PAGE));
}

#[test]
fn untranslated_requests_do_not_ask_for_host_permissions() {
    let mut b = bench(Freedom::Random(0));
    b.second(0x5000, 1, PAGE | 3);
    let outcome = b.machine.request(&Request::read(DEVICE, 0x5000));
    assert_eq!(outcome.address(), Some(PAGE));
}

#[test]
fn a_page_found_on_the_way_hides_the_tables_below() {
    let mut b = bench(Freedom::Random(0));
    permit(&mut b, HPT, PAGE, 1, 0);
    permit(&mut b, HPT, PAGE + 0x1000, 1, 3);
    permit(&mut b, HPT, PAGE, 2, 1);
    permit(&mut b, HPT, PAGE + 0x20_0000, 1, 3);
    for (address, access, expected) in [
        (PAGE, Access::Read, None),
        (PAGE + 0x1000, Access::Write, Some(Condition::Hpt5)),
        (PAGE + 0x20_0000, Access::Write, None),
    ] {
        assert_eq!(condition(&mut b, address, access), expected, "{address:#x}");
    }
}

#[test]
fn errors_of_the_table_have_their_reasons_and_abort() {
    type Setup = fn(&mut Bench);
    let cases: &[(&str, Setup, Condition)] = &[
        (
            "lower table",
            |b| b.poke(HPT + 8, 0x8000_0001),
            Condition::Hpt1,
        ),
        ("reserved field", |b| b.poke(HPT, 4), Condition::Hpt2),
        (
            "reserved bits of PPi",
            |b| {
                let entry = permit(b, HPT, PAGE, 1, 3);
                b.poke(entry, 0x43);
            },
            Condition::Hpt2,
        ),
        (
            "root",
            |b| {
                permissions_at(b, 0, 0x8000_0000, HPT_DOMAIN);
            },
            Condition::Hpt3,
        ),
        ("PASID entry", |b| b.poke(PASIDS + 24, 1), Condition::Spt3),
    ];
    for (name, setup, expected) in cases {
        for silent in [false, true] {
            let mut b = bench(Freedom::Random(0));
            if silent {
                b.poke(PASIDS, SECOND_ENTRY[0] | 2);
            }
            setup(&mut b);
            flush(&mut b);
            assert_eq!(
                translated(&mut b, PAGE, Access::Read),
                Outcome::Blocked {
                    condition: Some(*expected),
                    status: Status::CompleterAbort,
                    logged: !silent,
                },
                "{name}"
            );
            let record = b.read64(FRCD + 8);
            let expected = if silent { 0 } else { expected.code().into() };
            assert_eq!(record >> 32 & 0xff, expected, "{name}");
        }
    }
}

#[test]
fn the_size_of_the_root_table_bounds_the_address() {
    for (size, expected) in [(0, Some(Condition::Spt9)), (1, None)] {
        let mut b = bench(Freedom::Random(0));
        b.machine.written_back(0xa000, 0x1000);
        permissions_at(&mut b, 0, HPT | size, HPT_DOMAIN);
        let far = 1 << 49 | PAGE;
        permit(&mut b, HPT, far, 1, 3);
        flush(&mut b);
        assert_eq!(condition(&mut b, far, Access::Read), expected, "{size}");
        let beyond = condition(&mut b, 1 << 50, Access::Read);
        assert_eq!(beyond, Some(Condition::Sgn41), "host address width");
    }
}

#[test]
fn the_interrupt_range_is_closed_whatever_is_permitted() {
    let mut b = bench(Freedom::Random(0));
    permit(&mut b, HPT, 0xfee0_0000, 1, 3);
    let found = condition(&mut b, 0xfee0_0000, Access::Write);
    assert_eq!(found, Some(Condition::Sgn8));
}

#[test]
fn with_eptr_each_pasid_has_a_table_of_its_own() {
    const OTHER: u64 = 0xb000;
    for freedom in FREEDOMS {
        for eptr in [true, false] {
            let more = if eptr { 0x40 } else { 0 };
            let mut b = bench_with(config(), freedom, more);
            b.machine.written_back(OTHER, 0x1000);
            permissions_at(&mut b, 5, OTHER, 0x44);
            b.pasid(5, SECOND_ENTRY);
            permit(&mut b, HPT, PAGE, 1, 1);
            permit(&mut b, OTHER, PAGE + 0x1000, 1, 1);
            flush(&mut b);
            let mut found = |pasid, address| {
                let request = Request {
                    pasid,
                    ..Request::read(DEVICE, address)
                };
                b.machine.request(&request.translated()).condition()
            };
            assert_eq!(found(None, PAGE), None);
            assert_eq!(found(None, PAGE + 0x1000), Some(Condition::Hpt6));
            let refused = |condition| {
                if eptr {
                    condition
                } else {
                    Some(Condition::Sct10)
                }
            };
            assert_eq!(found(Some(5), PAGE + 0x1000), refused(None));
            assert_eq!(found(Some(5), PAGE), refused(Some(Condition::Hpt6)));
        }
    }
}

#[test]
fn a_permission_stays_until_the_right_invalidation() {
    type Case<'a> = (&'a str, &'a [(u64, u64)], bool);
    let domain = HPT_DOMAIN << 16;
    let cases: &[Case<'_>] = &[
        ("nothing", &[], false),
        ("page, leaves", &[(domain | 0x3a, PAGE)], true),
        ("page, all levels", &[(domain | 0x3a, PAGE | 0xc0)], true),
        ("domain, leaves", &[(domain | 0x2a, 0)], true),
        ("global", &[(0x1a, 0)], true),
        ("another page", &[(domain | 0x3a, PAGE + 0x1000)], false),
        (
            "a mask that covers it",
            &[(domain | 0x3a, PAGE + 0x1001)],
            true,
        ),
        ("another domain", &[(0x44_002a, 0xc0)], false),
        ("IOTLB", &[(0x11, 0), (0x37, 0), (0x12, 0)], false),
    ];
    for (name, descriptors, suffices) in cases {
        let mut b = bench(Freedom::Pessimist(0));
        permit(&mut b, HPT, PAGE, 1, 3);
        permit(&mut b, HPT, PAGE + 0x2000, 1, 3);
        permit(&mut b, HPT, PAGE, 1, 0);
        b.submit(descriptors);
        let request = Request::write(DEVICE, PAGE).translated();
        let passes = b
            .machine
            .possible(&request)
            .iter()
            .any(|outcome| outcome.address().is_some());
        assert_eq!(passes, !suffices, "{name}");
    }
}

#[test]
fn a_table_stays_until_the_levels_above_it_are_invalidated() {
    let domain = HPT_DOMAIN << 16;
    for (hint, suffices) in [(0, false), (1, true), (2, true), (3, true)] {
        let mut b = bench(Freedom::Pessimist(0));
        permit(&mut b, HPT, PAGE, 1, 3);
        let entry = permit(&mut b, HPT, PAGE, 2, 0);
        b.poke(entry + 8, 0);
        b.submit(&[(domain | 0x3a, PAGE | hint << 6)]);
        let request = Request::write(DEVICE, PAGE).translated();
        let outcomes = b.machine.possible(&request);
        let passes = outcomes.iter().any(|outcome| outcome.address().is_some());
        assert_eq!(passes, !suffices, "IH {hint}");
    }
}

#[test]
fn a_large_page_needs_a_mask_of_its_size() {
    for (mask, suffices) in [(0, false), (8, false), (9, true), (18, true)] {
        let mut b = bench(Freedom::Pessimist(0));
        permit(&mut b, HPT, PAGE, 2, 3);
        permit(&mut b, HPT, PAGE, 2, 0);
        b.submit(&[(HPT_DOMAIN << 16 | 0x3a, PAGE | 1 << 6 | mask)]);
        let request = Request::write(DEVICE, PAGE + 0x1f_f000).translated();
        let outcomes = b.machine.possible(&request);
        let passes = outcomes.iter().any(|outcome| outcome.address().is_some());
        assert_eq!(passes, !suffices, "AM {mask}");
    }
}

#[test]
fn an_absent_permission_is_kept_where_its_entry_says_something_else() {
    for (neighbour, may_fail) in [(3, true), (0, false)] {
        let mut b = bench(Freedom::Pessimist(0));
        permit(&mut b, HPT, PAGE + 0x1000, 1, neighbour);
        permit(&mut b, HPT, PAGE, 1, 3);
        let request = Request::write(DEVICE, PAGE).translated();
        let fails = |b: &Bench| {
            let outcomes = b.machine.possible(&request);
            outcomes.iter().any(|outcome| outcome.address().is_none())
        };
        assert_eq!(fails(&b), may_fail, "neighbour {neighbour}");
        b.submit(&[(HPT_DOMAIN << 16 | 0x3a, PAGE)]);
        assert!(!fails(&b), "after the invalidation");
    }
}

#[test]
fn setting_the_root_pointer_forgets_permissions_only_with_esrtps() {
    for srtp_invalidates in [false, true] {
        let config = Config {
            srtp_invalidates,
            ..config()
        };
        let mut b = bench_with(config, Freedom::Pessimist(0), 0);
        permit(&mut b, HPT, PAGE, 1, 3);
        permit(&mut b, HPT, PAGE, 1, 0);
        b.command(SRTP, true);
        let request = Request::write(DEVICE, PAGE).translated();
        let outcomes = b.machine.possible(&request);
        let passes = outcomes.iter().any(|outcome| outcome.address().is_some());
        assert_eq!(passes, !srtp_invalidates, "ESRTPS {srtp_invalidates}");
    }
}

#[test]
fn a_completion_prefetches_its_permission_unless_that_is_disabled() {
    for (disable, kept) in [(0, true), (4, false)] {
        let kept_once = (0..16).any(|seed| {
            let mut b = bench(Freedom::Random(seed));
            permissions_at(&mut b, 0, HPT | disable, HPT_DOMAIN);
            flush(&mut b);
            b.second(0x5000, 1, PAGE | 3);
            permit(&mut b, HPT, PAGE, 1, 3);
            let request = Request::write(DEVICE, 0x5000).translation(false);
            b.machine.request(&request);
            permit(&mut b, HPT, PAGE, 1, 0);
            let outcomes = (0..8).map(|_| condition(&mut b, PAGE, Access::Write));
            outcomes.into_iter().any(|found| found.is_none())
        });
        assert_eq!(kept_once, kept, "HPTPFD {disable}");
    }
}

fn told(bench: &mut Bench) -> Vec<(Rule, String)> {
    let violations = bench.machine.take_violations();
    violations
        .into_iter()
        .map(|violation| (violation.rule, violation.message))
        .collect()
}

#[test]
fn a_permission_for_foreign_memory_is_told() {
    let mut b = bench(Freedom::Pessimist(0));
    b.machine.assign(DEVICE, None, Owner::Guest(1));
    b.machine.own(PAGE, 0x1000, Owner::Guest(1));
    b.machine.own(PAGE + 0x1000, 0x1000, Owner::Guest(2));
    permit(&mut b, HPT, PAGE, 1, 3);
    assert_eq!(told(&mut b), []);
    permit(&mut b, HPT, PAGE + 0x1000, 1, 1);
    let told = told(&mut b);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, Rule::Containment);
    let message = &told[0].1;
    assert!(message.contains("translated request") && message.contains("0x201000"));
}

#[test]
fn memory_given_away_before_the_permission_is_invalidated_is_told() {
    for forget in [true, false] {
        let mut b = bench(Freedom::Pessimist(0));
        b.machine.assign(DEVICE, None, Owner::Guest(1));
        b.machine.own(PAGE, 0x1000, Owner::Guest(1));
        permit(&mut b, HPT, PAGE, 1, 3);
        permit(&mut b, HPT, PAGE, 1, 0);
        if !forget {
            b.submit(&[(HPT_DOMAIN << 16 | 0x3a, PAGE)]);
        }
        b.machine.own(PAGE, 0x1000, Owner::Nobody);
        let told = told(&mut b);
        if forget {
            let message = &told[0].1;
            assert!(
                message.contains("type A") && message.contains("0x33"),
                "{message}"
            );
        } else {
            assert_eq!(told, []);
        }
    }
}

#[test]
fn a_table_of_permissions_freed_while_a_walk_may_use_it_is_told() {
    for (hint, expected) in [(0, 1), (1, 0)] {
        let mut b = bench(Freedom::Pessimist(0));
        let leaf = permit(&mut b, HPT, PAGE, 1, 3);
        let entry = permit(&mut b, HPT, PAGE, 2, 0);
        b.poke(entry + 8, 0);
        b.submit(&[(HPT_DOMAIN << 16 | 0x3a, PAGE | hint << 6)]);
        b.machine.own(leaf & !0xfff, 0x1000, Owner::Nobody);
        let told = told(&mut b);
        assert_eq!(told.len(), expected, "IH {hint}: {told:?}");
    }
}

#[test]
fn host_permissions_contain_a_device_that_keeps_stale_translations() {
    for guarded in [true, false] {
        let mut b = bench(Freedom::Pessimist(0));
        if !guarded {
            b.poke(CONTEXT_ENTRY, DIRECTORY | 1 | 0xc);
            flush(&mut b);
        }
        b.machine.assign(DEVICE, None, Owner::Guest(1));
        b.machine.own(PAGE, 0x1000, Owner::Guest(1));
        permit(&mut b, HPT, PAGE, 1, 3);
        let slot = b.second(0x5000, 1, PAGE | 3);
        let reached = b.machine.ats_access(DEVICE, None, 0x5000, Access::Write);
        assert_eq!(reached.address(), Some(PAGE));
        // Table and IOTLB, not the device-TLB; then the permission.
        b.poke(slot, 0);
        permit(&mut b, HPT, PAGE, 1, 0);
        b.submit(&[(0x7_0032, 0x5000), (HPT_DOMAIN << 16 | 0x3a, PAGE)]);
        b.machine.own(PAGE, 0x1000, Owner::Guest(2));
        let told = told(&mut b);
        assert_eq!(told.len(), usize::from(!guarded), "{told:?}");
        let reached = b.machine.ats_access(DEVICE, None, 0x5000, Access::Write);
        let expected = if guarded { None } else { Some(PAGE) };
        assert_eq!(reached.address(), expected);
    }
}

#[test]
fn one_hpt_domain_names_one_table() {
    for (domain, broken) in [(HPT_DOMAIN, 1), (0x44, 0)] {
        let mut b = bench_with(config(), Freedom::Pessimist(0), 0x40);
        assert_eq!(told(&mut b), []);
        permissions_at(&mut b, 5, 0xb000, domain);
        b.pasid(5, SECOND_ENTRY);
        let told = told(&mut b);
        assert_eq!(told.len(), broken, "{told:?}");
        assert!(told.iter().all(|(rule, _)| *rule == Rule::Programming));
    }
}

#[test]
fn whatever_the_random_mode_does_the_pessimist_held_possible() {
    for seed in 0..20 {
        let mut random = bench(Freedom::Random(seed));
        let mut pessimist = bench(Freedom::Pessimist(0));
        let mut choice = fastrand::Rng::with_seed(seed);
        for _ in 0..150 {
            let page = PAGE + (choice.u64(..4) << 12) + (choice.u64(..2) << 21);
            match choice.u8(..6) {
                0 | 1 => {
                    let (level, rights) = (choice.u32(1..=2), choice.u64(..4));
                    for b in [&mut random, &mut pessimist] {
                        permit(b, HPT, page, level, rights);
                    }
                }
                2 => {
                    let low = [0x1a, HPT_DOMAIN << 16 | 0x3a][choice.usize(..2)];
                    let high = page | choice.u64(..4) << 6 | choice.u64(..10);
                    for b in [&mut random, &mut pessimist] {
                        b.submit(&[(low, high)]);
                    }
                }
                _ => {
                    let access = [Access::Read, Access::Write][choice.usize(..2)];
                    let request = Request::new(DEVICE, page, access).translated();
                    let seen = random.machine.request(&request);
                    let possible = pessimist.machine.possible(&request);
                    assert!(
                        possible.contains(&seen),
                        "seed {seed}: {seen:?} {possible:?}"
                    );
                }
            }
        }
    }
}
