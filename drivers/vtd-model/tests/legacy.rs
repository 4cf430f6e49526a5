//! Legacy mode: every fault beside the request that differs in one thing and passes.

mod common;

use common::*;
use vtd_model::{Access, Condition, Config, Outcome, Request};

const CONTEXT_ENTRY: u64 = CONTEXT + 0x10 * 16;

fn faults_with(
    config: &Config,
    setup: impl Fn(&mut Bench),
    request: Request,
    condition: Condition,
) {
    for freedom in freedoms() {
        let mut bench = Bench::legacy(config.clone(), freedom);
        bench.second(0x5000, 1, 0x20_0003);
        setup(&mut bench);
        bench.flush_all();
        let outcome = bench.machine.request(&request);
        assert_eq!(
            outcome.condition(),
            Some(condition),
            "{freedom:?}: {outcome:?}"
        );
        assert_eq!(bench.machine.possible(&request).len(), 1, "{freedom:?}");
    }
}

fn passes_with(config: &Config, setup: impl Fn(&mut Bench), request: Request, address: u64) {
    for freedom in freedoms() {
        let mut bench = Bench::legacy(config.clone(), freedom);
        bench.second(0x5000, 1, 0x20_0003);
        setup(&mut bench);
        bench.flush_all();
        for _ in 0..3 {
            assert_eq!(
                bench.machine.request(&request),
                Outcome::Memory { address },
                "{freedom:?}"
            );
        }
        assert_eq!(
            bench.machine.possible(&request),
            [Outcome::Memory { address }]
        );
        assert_eq!(bench.violations(), [""; 0]);
    }
}

type Setup = fn(&mut Bench);

#[test]
fn each_condition_of_table_30_and_its_twin() {
    let read = Request::read(DEVICE, 0x5123);
    let write = Request::write(DEVICE, 0x5123);
    let config = Config::legacy();
    let nothing: Setup = |_| ();
    passes_with(&config, nothing, read, 0x20_0123);
    passes_with(&config, nothing, write, 0x20_0123);
    passes_with(
        &config,
        nothing,
        Request::new(DEVICE, 0x5123, Access::Atomic),
        0x20_0123,
    );
    let cases: &[(Setup, Request, Condition)] = &[
        (|b| b.poke(ROOT, 0), read, Condition::Lrt2),
        (|b| b.poke(ROOT, CONTEXT | 3), read, Condition::Lrt3),
        (|b| b.poke(ROOT + 8, 1), read, Condition::Lrt3),
        (|b| b.poke(ROOT, 0x1_0000_0001), read, Condition::Lct1),
        (|b| b.poke(CONTEXT_ENTRY, SECOND), read, Condition::Lct2),
        (
            |b| b.poke(CONTEXT_ENTRY, SECOND | 0x11),
            read,
            Condition::Lct3,
        ),
        (|b| b.poke(CONTEXT_ENTRY + 8, 0x703), read, Condition::Lct41),
        (
            |b| b.poke(CONTEXT_ENTRY, SECOND | 0xd),
            read,
            Condition::Lct42,
        ),
        (
            |b| b.poke(CONTEXT_ENTRY, SECOND | 5),
            read,
            Condition::Lct42,
        ),
        (
            |b| b.poke(CONTEXT_ENTRY, 0x1_0000_0001),
            read,
            Condition::Lct43,
        ),
        (|b| b.poke(SECOND, 0x1_0000_0003), read, Condition::Lss1),
        (|b| b.poke(SECOND, 0x1_0000_0083), read, Condition::Lss2),
        (
            |b| {
                b.second(0x5000, 1, 0x20_0001);
            },
            write,
            Condition::Lgn2,
        ),
        (
            |b| {
                b.second(0x5000, 1, 0x20_0002);
            },
            read,
            Condition::Lgn3,
        ),
        (
            |b| {
                b.second(0x5000, 1, 0x20_0000);
            },
            write,
            Condition::Lgn2,
        ),
        (
            |b| {
                b.second(0x5000, 1, 0x20_0000);
            },
            read,
            Condition::Lgn3,
        ),
        (
            |b| {
                b.second(0x5000, 1, 0xfee0_1003);
            },
            read,
            Condition::Lgn4,
        ),
        (
            |b| {
                b.second(0x5000, 1, 0x20_0001);
            },
            Request::new(DEVICE, 0x5000, Access::Atomic),
            Condition::Lgn2,
        ),
    ];
    for (setup, request, condition) in cases {
        faults_with(&config, setup, *request, *condition);
    }
    // Rights are ANDed over the levels.
    let root_read_only: Setup = |b| {
        let entry = b.machine.read_u64(SECOND);
        b.poke(SECOND, entry & !2);
    };
    passes_with(&config, root_read_only, read, 0x20_0123);
    faults_with(&config, root_read_only, write, Condition::Lgn2);
    faults_with(&config, nothing, read.with_pasid(3), Condition::Rta2);
    faults_with(
        &config,
        nothing,
        Request::read(DEVICE, 1 << 48),
        Condition::Lgn11,
    );
    faults_with(
        &config,
        nothing,
        Request::read(DEVICE, 0xfee0_0000),
        Condition::Irq29,
    );
    faults_with(&config, nothing, read.translation(false), Condition::Lct5);
}

#[test]
fn the_last_address_of_the_width_translates() {
    let top: Setup = |b| {
        b.second(0xffff_ffff_f000, 1, 0x30_0003);
    };
    passes_with(
        &Config::legacy(),
        top,
        Request::read(DEVICE, 0xffff_ffff_ffff),
        0x30_0fff,
    );
}

#[test]
fn a_zero_length_read_of_a_write_only_page_depends_on_zlr() {
    let write_only: Setup = |b| {
        b.second(0x5000, 1, 0x20_0002);
    };
    let request = Request::new(DEVICE, 0x5000, Access::ZeroLengthRead);
    passes_with(&Config::legacy(), write_only, request, 0x20_0000);
    let config = Config {
        zero_length_read: false,
        ..Config::legacy()
    };
    faults_with(&config, write_only, request, Condition::Lgn3);
}

#[test]
fn large_pages_translate_where_the_unit_has_them() {
    let large: Setup = |b| {
        b.second(0x4000_0000, 2, 0x0060_0083);
        b.second(0x80_0000_0000, 3, 0x8000_0083);
    };
    let config = Config::legacy();
    passes_with(
        &config,
        large,
        Request::read(DEVICE, 0x4012_3456),
        0x0072_3456,
    );
    passes_with(
        &config,
        large,
        Request::read(DEVICE, 0x80_1234_5678),
        0x9234_5678,
    );
    let small = Config {
        second_stage_1g: false,
        ..config.clone()
    };
    passes_with(
        &small,
        large,
        Request::read(DEVICE, 0x4012_3456),
        0x0072_3456,
    );
    faults_with(
        &small,
        large,
        Request::read(DEVICE, 0x80_1234_5678),
        Condition::Lss2,
    );
}

#[test]
fn three_and_five_levels_are_walked_as_the_address_width_says() {
    let config = Config {
        depths: vtd_model::Depths {
            three: true,
            four: true,
            five: true,
        },
        guest_bits: 57,
        ..Config::legacy()
    };
    for (levels, width, address) in [(3, 1, 0x7f_1234_5000_u64), (5, 3, 0x1ff_8012_3456_7000)] {
        for freedom in freedoms() {
            let mut bench = Bench::legacy(config.clone(), freedom);
            bench.put_entry(SECOND, levels, address, 1, 0x40_0003, 3);
            bench.poke(CONTEXT_ENTRY + 8, u64::from(DOMAIN) << 8 | width);
            bench.flush_all();
            assert_eq!(
                bench
                    .machine
                    .request(&Request::read(DEVICE, address | 0x10))
                    .address(),
                Some(0x40_0010)
            );
            let beyond = bench
                .machine
                .request(&Request::read(DEVICE, 1 << (12 + 9 * levels)));
            assert_eq!(beyond.condition(), Some(Condition::Lgn11));
        }
    }
}

#[test]
fn pass_through_gives_the_address_back_within_the_host_width() {
    let pass: Setup = |b| b.poke(CONTEXT_ENTRY, 9);
    let config = Config::legacy();
    passes_with(
        &config,
        pass,
        Request::write(DEVICE, 0x3fff_ffff_ffff),
        0x3fff_ffff_ffff,
    );
    faults_with(
        &config,
        pass,
        Request::write(DEVICE, 1 << 46),
        Condition::Lgn13,
    );
    faults_with(
        &config,
        pass,
        Request::write(DEVICE, 0x5000).translated(),
        Condition::Lct5,
    );
    let without = Config {
        pass_through: false,
        ..config
    };
    faults_with(
        &without,
        pass,
        Request::write(DEVICE, 0x5000),
        Condition::Lct42,
    );
}

#[test]
fn fpd_silences_qualified_faults_even_in_an_absent_entry() {
    for (entry, logged) in [
        (0, true),
        (2, false),
        (SECOND | 0x13, false),
        (SECOND | 0x11, true),
    ] {
        for freedom in freedoms() {
            let mut bench = Bench::legacy(Config::legacy(), freedom);
            bench.poke(CONTEXT_ENTRY, entry);
            bench.flush_all();
            bench.machine.request(&Request::write(DEVICE, 0x5000));
            assert_eq!(bench.read32(FSTS) & 2 != 0, logged, "{entry:#x}");
        }
    }
    let mut bench = Bench::legacy(Config::legacy(), vtd_model::Freedom::Random(0));
    bench.poke(CONTEXT_ENTRY, SECOND | 3);
    bench.poke(ROOT, 0x1_0000_0001);
    bench.flush_all();
    bench.machine.request(&Request::write(DEVICE, 0x5000));
    assert_eq!(bench.read32(FSTS) & 2, 2, "a read error is never silenced");
}

#[test]
fn fpd_silences_a_fault_that_a_cached_translation_leads_to() {
    for (flags, logged) in [(1, true), (3, false)] {
        for freedom in freedoms() {
            let mut bench = Bench::legacy(Config::legacy(), freedom);
            bench.poke(CONTEXT + 0x10 * 16, SECOND | flags);
            bench.second(0x5000, 1, 0x20_0001);
            bench.second(0x6000, 1, 0xfee0_0003);
            bench.flush_all();
            assert!(
                bench
                    .machine
                    .request(&Request::read(DEVICE, 0x5000))
                    .address()
                    .is_some()
            );
            for request in [
                Request::write(DEVICE, 0x5000),
                Request::read(DEVICE, 0x6000),
            ] {
                let mut all = bench.machine.possible(&request);
                all.push(bench.machine.request(&request));
                for outcome in all {
                    let right =
                        matches!(outcome, Outcome::Blocked { logged: it, .. } if it == logged);
                    assert!(right, "{freedom:?}: {request:?} gives {outcome:?}");
                }
            }
        }
    }
}

#[test]
fn a_fault_is_recorded_with_its_source_address_and_kind() {
    let mut bench = Bench::legacy(Config::legacy(), vtd_model::Freedom::Random(0));
    for access in [Access::Write, Access::Read, Access::Atomic] {
        bench
            .machine
            .request(&Request::new(DEVICE, 0x1234_5678, access));
    }
    let record = |bench: &mut Bench, at: usize| {
        (
            bench.read64(FRCD + 16 * at),
            bench.read64(FRCD + 16 * at + 8),
        )
    };
    assert_eq!(record(&mut bench, 0), (0x1234_5000, 0x8000_0005_0000_0010));
    assert_eq!(record(&mut bench, 1), (0x1234_5000, 0xc000_0006_0000_0010));
    assert_eq!(record(&mut bench, 2), (0x1234_5000, 0xc000_0005_1000_0010));
}

#[test]
fn while_translation_is_off_addresses_pass_and_ats_does_not() {
    let mut bench = Bench::new(Config::scalable_with_ats(), vtd_model::Freedom::Random(0));
    let request = Request::write(DEVICE, 0x1234_5678);
    assert_eq!(bench.machine.request(&request).address(), Some(0x1234_5678));
    assert_eq!(
        bench.machine.request(&request.with_pasid(5)).address(),
        Some(0x1234_5678)
    );
    for refused in [request.translated(), request.translation(false)] {
        let outcome = bench.machine.request(&refused);
        assert!(matches!(
            outcome,
            Outcome::Blocked {
                condition: None,
                logged: false,
                ..
            }
        ));
    }
}

/// A whole run as another emulator was seen to answer it: registers, tables, fault record.
#[test]
fn a_recorded_session_gives_the_same_answers() {
    let config = Config {
        fault_offset: 0x22,
        iotlb_offset: 0xf,
        fault_records: 1,
        ..Config::legacy()
    };
    let mut bench = Bench::new(config, vtd_model::Freedom::Random(0));
    for (at, value) in [
        (0x10_0000, 0x10_1001),
        (0x10_1200, 0x11_0001),
        (0x10_1208, 0x702),
        (0x11_0000, 0x11_1003),
        (0x11_1000, 0x11_2003),
        (0x11_2000, 0x11_3003),
        (0x11_3028, 0x20_0003),
        (0x11_3030, 0x20_1003),
        (0x18_0000, 0x11),
        (0x18_0010, 0x12),
        (0x18_0020, 0x1_0000_0025),
        (0x18_0028, 0x18_1000),
    ] {
        bench.poke(at, value);
    }
    bench.write64(RTADDR, 0x10_0000);
    bench.command(SRTP, true);
    bench.write64(IQA, 0x18_0000);
    bench.command(QIE, true);
    bench.write64(IQT, 0x30);
    bench.machine.settle(100);
    assert_eq!(bench.machine.read_u32(0x18_1000), 1);
    bench.command(TE, true);
    assert_eq!(bench.read32(GSTS), 0xc400_0000);
    let source = 0x20;
    assert_eq!(
        bench
            .machine
            .request(&Request::read(source, 0x5000))
            .address(),
        Some(0x20_0000)
    );
    assert_eq!(
        bench
            .machine
            .request(&Request::write(source, 0x6000))
            .address(),
        Some(0x20_1000)
    );
    bench.machine.request(&Request::read(source, 0x9000));
    let status = bench.read32(FSTS);
    assert_eq!(
        (status, bench.read64(0x220), bench.read64(0x228)),
        (2, 0x9000, 0xc000_0006_0000_0020)
    );
    bench.write32(0x22c, 0x8000_0000);
    assert_eq!(bench.read32(FSTS) & 2, 0);
    assert_eq!(bench.violations(), [""; 0]);
}

#[test]
fn a_store_waits_in_the_write_buffer_until_a_flush_or_an_invalidation() {
    const WBF: u32 = 1 << 27;
    let request = Request::read(DEVICE, 0x6000);
    let there = Outcome::Memory { address: 0x20_1000 };
    let config = Config {
        write_buffer_flush: true,
        ..Config::legacy()
    };
    for freedom in freedoms() {
        for by_command in [true, false] {
            let mut bench = Bench::legacy(config.clone(), freedom);
            bench.second(0x5000, 1, 0x20_0003);
            bench.flush_all();
            // Not present before, so only the buffer stands between (§6.8).
            bench.second(0x6000, 1, 0x20_1003);
            let possible = bench.machine.possible(&request);
            assert!(possible.contains(&there), "{freedom:?}");
            assert_eq!(possible.len(), 2, "{freedom:?}");
            if by_command {
                let status = bench.read32(GSTS) & 0x96ff_ffff;
                bench.write32(GCMD, status | WBF);
                bench.machine.settle(100);
            } else {
                bench.flush_all();
            }
            assert_eq!(bench.machine.possible(&request), [there], "{freedom:?}");
        }
    }
}
