//! Interrupt remapping: formats, sources, entries, caches, posting.

mod common;

use common::*;
use vtd_model::{Condition, Config, Freedom, InterruptOutcome, Origin, PossibleInterrupt, Rule};

const TABLE: u64 = 0x9000;
const COMPATIBLE: u64 = 0xfee0_0000;

/// Address of a remappable message: handle, subhandle valid.
fn remappable(handle: u64, subhandle: bool) -> u64 {
    0xfee0_0010 | (handle & 0x7fff) << 5 | (handle >> 15) << 2 | u64::from(subhandle) << 3
}

fn bench(config: Config, freedom: Freedom, x2apic: bool) -> Bench {
    let mut bench = Bench::new(config, freedom);
    bench.machine.written_back(TABLE, 0x1000);
    bench.queue_on();
    // 256 entries: S = 7.
    bench.write64(IRTA, TABLE | 7 | u64::from(x2apic) << 11);
    bench.command(SIRTP, true);
    bench.submit(&[(0x04, 0)]);
    bench.command(IRE, true);
    bench
}

fn entry(bench: &mut Bench, index: u64, words: [u64; 2]) {
    bench.machine.write_u128(TABLE + 16 * index, words);
    bench.machine.written_back(TABLE + 16 * index, 16);
}

/// Vector 41h, fixed, edge, APIC id 5 (xAPIC), source 00:02.0.
const GOOD: [u64; 2] = [0x0000_0500_0041_0001, 0x0004_0010];

fn condition(outcome: InterruptOutcome) -> Option<Condition> {
    match outcome {
        InterruptOutcome::Blocked { condition, .. } => Some(condition),
        _ => None,
    }
}

#[test]
fn an_entry_decides_what_arrives() {
    for freedom in freedoms() {
        let mut bench = bench(Config::everything(), freedom, false);
        entry(&mut bench, 3, GOOD);
        let outcome = bench
            .machine
            .interrupt(DEVICE, remappable(3, false), 0xffff_ffff);
        let InterruptOutcome::Delivered(message) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(
            (message.address, message.data & 0xbfff, message.origin),
            (0xfee0_5000, 0x41, Origin::Remapped(DEVICE))
        );
        // Logical, hint, level, lowest priority.
        entry(&mut bench, 4, [GOOD[0] | 0x3c, GOOD[1]]);
        let outcome = bench.machine.interrupt(DEVICE, remappable(3, true), 1);
        let InterruptOutcome::Delivered(message) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((message.address, message.data), (0xfee0_500c, 0xc141));
    }
}

#[test]
fn x2apic_ids_have_32_bits() {
    let mut bench = bench(Config::everything(), Freedom::Random(0), true);
    entry(&mut bench, 3, [0x1234_5678_0041_0001, GOOD[1]]);
    let InterruptOutcome::Delivered(message) =
        bench.machine.interrupt(DEVICE, remappable(3, false), 0)
    else {
        panic!()
    };
    assert_eq!(message.address, 0x1234_5600_fee7_8000);
}

#[test]
fn each_fault_has_its_reason_and_its_permitted_twin() {
    let cases: &[(Condition, u64, u32, [u64; 2])] = &[
        (Condition::Irq20, remappable(3, true), 0x1_0000, GOOD),
        (Condition::Irq21, remappable(256, false), 0, GOOD),
        (Condition::Irq21, remappable(0, true), 256, GOOD),
        (Condition::Irq22, remappable(3, false), 0, [0, 0]),
        (
            Condition::Irq24,
            remappable(3, false),
            0,
            [GOOD[0] | 1 << 12, GOOD[1]],
        ),
        (
            Condition::Irq24,
            remappable(3, false),
            0,
            [GOOD[0] | 1 << 32, GOOD[1]],
        ),
        (
            Condition::Irq24,
            remappable(3, false),
            0,
            [GOOD[0], 0xc_0010],
        ),
        (Condition::Irq25, COMPATIBLE, 0, GOOD),
        (
            Condition::Irq26,
            remappable(3, false),
            0,
            [GOOD[0], 0x0004_0018],
        ),
    ];
    for freedom in freedoms() {
        for (expected, address, data, words) in cases {
            let mut bench = bench(Config::everything(), freedom, false);
            entry(&mut bench, 3, *words);
            let outcome = bench.machine.interrupt(DEVICE, *address, *data);
            assert_eq!(condition(outcome), Some(*expected));
            assert_eq!(bench.read32(FSTS) & 2, 2);
            let record = bench.read64(FRCD + 8);
            assert_eq!(record >> 32 & 0xff, u64::from(expected.code()));
            assert_eq!(record & 0xffff, u64::from(DEVICE));
            if *expected == Condition::Irq26 {
                assert_eq!(bench.read64(FRCD), 3 << 48, "the index");
            }
        }
        let mut bench = bench(Config::everything(), freedom, false);
        entry(&mut bench, 3, GOOD);
        assert_eq!(
            condition(bench.machine.interrupt(DEVICE, remappable(3, true), 0)),
            None
        );
    }
}

#[test]
fn sources_are_checked_as_svt_and_sq_say() {
    // (SVT, SQ, SID, source, passes)
    let cases = [
        (0, 0, 0x0018, DEVICE, true),
        (1, 0, 0x0010, DEVICE, true),
        (1, 0, 0x0014, DEVICE, false),
        (1, 1, 0x0014, DEVICE, true),
        (1, 1, 0x0012, DEVICE, false),
        (1, 2, 0x0016, DEVICE, true),
        (1, 2, 0x0011, DEVICE, false),
        (1, 3, 0x0017, DEVICE, true),
        (1, 3, 0x0018, DEVICE, false),
        (2, 0, 0x0103, 0x0200, true),
        (2, 0, 0x0103, 0x0100, true),
        (2, 0, 0x0103, 0x0400, false),
        (2, 0, 0x0301, 0x0200, false),
    ];
    for (svt, sq, sid, source, passes) in cases {
        let mut bench = bench(Config::everything(), Freedom::Random(0), false);
        bench.machine.plug(source, 0, None);
        entry(&mut bench, 3, [GOOD[0], svt << 18 | sq << 16 | sid]);
        let outcome = bench.machine.interrupt(source, remappable(3, false), 0);
        assert_eq!(
            condition(outcome).is_none(),
            passes,
            "SVT {svt} SQ {sq} SID {sid:#x}"
        );
    }
}

#[test]
fn fpd_silences_a_qualified_fault_only() {
    for (words, address, logged) in [
        ([2, 0], remappable(3, false), false),
        ([0, 0], remappable(3, false), true),
        ([2, 0], remappable(3, true), true),
    ] {
        let mut bench = bench(Config::everything(), Freedom::Random(0), false);
        entry(&mut bench, 3, words);
        let data = if address == remappable(3, true) {
            0x1_0000
        } else {
            0
        };
        bench.machine.interrupt(DEVICE, address, data);
        assert_eq!(bench.read32(FSTS) & 2 != 0, logged);
    }
}

#[test]
fn compatibility_format_passes_as_cfi_and_eime_say() {
    for (x2apic, cfi, passes) in [
        (false, true, true),
        (false, false, false),
        (true, true, false),
    ] {
        let mut bench = bench(Config::everything(), Freedom::Random(0), x2apic);
        if cfi {
            bench.command(CFI, true);
        }
        assert_eq!(
            condition(bench.machine.interrupt(DEVICE, COMPATIBLE, 0x41)).is_none(),
            passes
        );
    }
    let off = |required| {
        let mut bench = Bench::new(
            Config {
                remapping_required: required,
                ..Config::everything()
            },
            Freedom::Random(0),
        );
        condition(bench.machine.interrupt(DEVICE, COMPATIBLE, 0x41))
    };
    assert_eq!((off(false), off(true)), (None, Some(Condition::Irq2b)));
    let mut required = bench(
        Config {
            x2apic_required: true,
            ..Config::everything()
        },
        Freedom::Random(0),
        false,
    );
    assert_eq!(
        condition(required.machine.interrupt(DEVICE, remappable(3, false), 0)),
        Some(Condition::Irq2a)
    );
}

#[test]
fn a_cached_entry_is_used_until_its_index_is_invalidated() {
    for (descriptor, stale) in [
        (None, true),
        (Some(0x3_0000_0014), false),
        (Some(0x4_0000_0014), true),
        (Some(0x0800_0014 | 2 << 32), false),
        (Some(0x04), false),
    ] {
        let mut bench = bench(Config::everything(), Freedom::Pessimist(0), false);
        entry(&mut bench, 3, GOOD);
        entry(&mut bench, 3, [0, 0]);
        if let Some(low) = descriptor {
            bench.submit(&[(low, 0)]);
        }
        let outcome = bench.machine.interrupt(DEVICE, remappable(3, false), 0);
        assert_eq!(condition(outcome).is_none(), stale, "{descriptor:x?}");
        let possible = bench
            .machine
            .possible_interrupts(DEVICE, remappable(3, false), 0);
        let blocked = PossibleInterrupt::Blocked(Condition::Irq22);
        let delivered = PossibleInterrupt::Remapped {
            vector: 0x41,
            destination: 5,
        };
        assert_eq!(
            possible,
            if stale {
                vec![delivered, blocked]
            } else {
                vec![blocked]
            }
        );
    }
}

#[test]
fn an_absent_entry_is_cached_only_in_caching_mode() {
    for (caching_mode, stale) in [(false, false), (true, true)] {
        let config = Config {
            caching_mode,
            ..Config::everything()
        };
        let mut bench = bench(config, Freedom::Pessimist(0), false);
        bench.machine.interrupt(DEVICE, remappable(3, false), 0);
        entry(&mut bench, 3, GOOD);
        let outcome = bench.machine.interrupt(DEVICE, remappable(3, false), 0);
        assert_eq!(condition(outcome).is_some(), stale);
    }
}

#[test]
fn posting_sets_the_vector_and_notifies_as_on_sn_and_urg_say() {
    const DESCRIPTOR: u64 = 0xa000;
    // (URG, control word before, notification, control word after)
    let control = 0x0000_0700_00f2_0000; // NDST 7 (xAPIC), NV f2h
    let cases = [
        (0, control, true, control | 1),
        (0, control | 1, false, control | 1),
        (0, control | 2, false, control | 2),
        (1, control | 2, true, control | 3),
        (1, control | 3, false, control | 3),
    ];
    for (urgent, before, notifies, after) in cases {
        let mut bench = bench(Config::everything(), Freedom::Random(0), false);
        bench.poke(DESCRIPTOR + 32, before);
        entry(
            &mut bench,
            3,
            [DESCRIPTOR << 32 | 0x45_8001 | urgent << 14, GOOD[1]],
        );
        let outcome = bench.machine.interrupt(DEVICE, remappable(3, false), 0);
        let InterruptOutcome::Posted { notification } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(
            notification.map(|message| (message.address, message.data)),
            notifies.then_some((0xfee0_7000, 0xf2))
        );
        assert_eq!(bench.machine.read_u64(DESCRIPTOR + 32), after);
        assert_eq!(bench.machine.read_u64(DESCRIPTOR + 8), 1 << 5);
    }
    for (place, value) in [(32, 4), (40, 1), (56, 1)] {
        let mut bench = bench(Config::everything(), Freedom::Random(0), false);
        bench.poke(DESCRIPTOR + place, value);
        entry(&mut bench, 3, [DESCRIPTOR << 32 | 0x45_8001, GOOD[1]]);
        let outcome = bench.machine.interrupt(DEVICE, remappable(3, false), 0);
        assert_eq!(condition(outcome), Some(Condition::Irq28));
    }
}

#[test]
fn eime_may_not_change_under_remapping() {
    let mut bench = bench(Config::everything(), Freedom::Random(0), false);
    bench.write64(IRTA, TABLE | 7 | 1 << 11);
    bench.command(SIRTP, true);
    assert_eq!(bench.machine.take_violations()[0].rule, Rule::Value);
}
