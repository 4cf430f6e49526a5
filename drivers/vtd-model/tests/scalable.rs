//! Scalable mode: first stage, second stage, nesting, flags, PASIDs.

mod common;

use common::*;
use std::sync::Arc;
use vtd_model::{Access, Condition, Config, Freedom, HostMemory as _, Outcome, Ram, Request};

const CONTEXT_ENTRY: u64 = CONTEXT + 0x10 * 32;

type Setup = fn(&mut Bench);

fn bench(config: &Config, freedom: Freedom, entry: [u64; 3], setup: impl Fn(&mut Bench)) -> Bench {
    let mut bench = Bench::scalable(config.clone(), freedom);
    bench.pasid(0, entry);
    setup(&mut bench);
    bench.flush_all();
    bench
}

fn faults_with(
    config: &Config,
    entry: [u64; 3],
    setup: impl Fn(&mut Bench),
    request: Request,
    condition: Condition,
) {
    for freedom in freedoms() {
        let mut bench = bench(config, freedom, entry, &setup);
        let all = bench.machine.possible(&request);
        let conditions: Vec<_> = all.iter().map(Outcome::condition).collect();
        assert_eq!(conditions, [Some(condition)], "{freedom:?}: {all:?}");
        assert_eq!(
            bench.machine.request(&request).condition(),
            Some(condition),
            "{freedom:?}"
        );
    }
}

fn passes_with(
    config: &Config,
    entry: [u64; 3],
    setup: impl Fn(&mut Bench),
    request: Request,
    address: u64,
) {
    for freedom in freedoms() {
        let mut bench = bench(config, freedom, entry, &setup);
        for _ in 0..3 {
            assert_eq!(
                bench.machine.request(&request),
                Outcome::Memory { address },
                "{freedom:?}"
            );
        }
        assert_eq!(
            bench.machine.possible(&request),
            [Outcome::Memory { address }],
            "{freedom:?}"
        );
        assert_eq!(bench.violations(), [""; 0]);
    }
}

fn config() -> Config {
    Config {
        rid_priv: true,
        supervisor_requests: true,
        second_stage_dirty: true,
        extended_accessed: true,
        ..Config::scalable()
    }
}

const READ: fn() -> Request = || Request::read(DEVICE, 0x5123);
const WRITE: fn() -> Request = || Request::write(DEVICE, 0x5123);

#[test]
fn roots_contexts_and_pasid_entries_fault_as_table_30_says() {
    let mapped: Setup = |b| {
        b.second(0x5000, 1, 0x20_0003);
    };
    passes_with(&config(), SECOND_ENTRY, mapped, READ(), 0x20_0123);
    let with_pasid = READ().with_pasid(5);
    let cases: &[(Setup, Request, Condition)] = &[
        (|b| b.poke(ROOT, 0), READ(), Condition::Srt2),
        (|b| b.poke(ROOT, CONTEXT | 5), READ(), Condition::Srt3),
        (|b| b.poke(ROOT, 0x1_0000_0001), READ(), Condition::Sct1),
        (|b| b.poke(CONTEXT_ENTRY, 0), READ(), Condition::Sct2),
        (
            |b| b.poke(CONTEXT_ENTRY, DIRECTORY | 5),
            READ(),
            Condition::Sct3,
        ),
        (|b| b.poke(CONTEXT_ENTRY + 24, 1), READ(), Condition::Sct3),
        (
            |b| b.poke(CONTEXT_ENTRY, 0x1_0000_0001),
            READ(),
            Condition::Spd1,
        ),
        (|b| b.poke(DIRECTORY, 0), READ(), Condition::Spd2),
        (|b| b.poke(DIRECTORY, PASIDS | 5), READ(), Condition::Spd3),
        (
            |b| b.poke(DIRECTORY, 0x1_0000_0001),
            READ(),
            Condition::Spt1,
        ),
        (|b| b.poke(PASIDS, 0), READ(), Condition::Spt2),
        (|b| b.poke(PASIDS + 24, 1), READ(), Condition::Spt3),
        (
            |b| b.poke(PASIDS, SECOND | 2 << 6 | 4 << 2 | 1),
            READ(),
            Condition::Spt41,
        ),
        (
            |b| b.poke(PASIDS, SECOND | 5 << 6 | 2 << 2 | 1),
            READ(),
            Condition::Spt42,
        ),
        (
            |b| b.poke(CONTEXT_ENTRY, DIRECTORY | 1),
            with_pasid,
            Condition::Sct6,
        ),
        (|_| (), READ().with_pasid(1 << 13), Condition::Sct7),
        (|_| (), READ().with_pasid(0), Condition::Sct9),
        (|_| (), with_pasid, Condition::Spt2),
        (|b| b.poke(SECOND, 0x1_0000_0003), READ(), Condition::Sss1),
        (|b| b.poke(SECOND, 0x83), READ(), Condition::Sss3),
        (
            |b| {
                b.second(0x5000, 1, 0);
            },
            READ(),
            Condition::Sss2,
        ),
        (
            |b| {
                b.second(0x5000, 1, 0x20_0001);
            },
            WRITE(),
            Condition::Sgn6,
        ),
        (
            |b| {
                b.second(0x5000, 1, 0x20_0002);
            },
            READ(),
            Condition::Sgn7,
        ),
        (
            |b| {
                b.second(0x5000, 1, 0xfee0_0003);
            },
            READ(),
            Condition::Sgn8,
        ),
        (
            |b| b.poke(PASIDS, 0x1_0000_0000 | 2 << 6 | 2 << 2 | 1),
            READ(),
            Condition::Sss4,
        ),
    ];
    for (setup, request, condition) in cases {
        let both = |b: &mut Bench| {
            mapped(b);
            setup(b)
        };
        faults_with(&config(), SECOND_ENTRY, both, *request, *condition);
    }
    faults_with(
        &config(),
        SECOND_ENTRY,
        mapped,
        Request::read(DEVICE, 1 << 48),
        Condition::Sgn5,
    );
    let narrow = Config {
        pasid_bits: Some(4),
        ..config()
    };
    faults_with(
        &narrow,
        SECOND_ENTRY,
        mapped,
        READ().with_pasid(16),
        Condition::Sgn10,
    );
    let rights: Setup = |b| {
        // Read above, write below: nothing is left of either.
        b.second(0x5000, 1, 0x20_0002);
        let root = b.machine.read_u64(SECOND);
        b.poke(SECOND, root & !2);
    };
    faults_with(&config(), SECOND_ENTRY, rights, READ(), Condition::Sss2);
}

#[test]
fn rid_pasid_is_used_only_where_the_unit_has_it() {
    let entry: Setup = |b| {
        b.second(0x5000, 1, 0x20_0003);
        b.pasid(9, SECOND_ENTRY);
        b.poke(CONTEXT_ENTRY + 8, 9);
    };
    let with = Config {
        rid_pasid: true,
        ..config()
    };
    passes_with(&with, [0; 3], entry, READ(), 0x20_0123);
    faults_with(&with, [0; 3], entry, READ().with_pasid(9), Condition::Sct9);
    faults_with(&config(), [0; 3], entry, READ(), Condition::Sct3);
}

#[test]
fn the_first_stage_obeys_its_rights() {
    let c = config();
    // A, D set; U/S, R/W by case.
    let user: Setup = |b| {
        b.first(0x5000, 1, 0x20_0067);
    };
    let read_only: Setup = |b| {
        b.first(0x5000, 1, 0x20_0065);
    };
    let supervisor: Setup = |b| {
        b.first(0x5000, 1, 0x20_0061);
    };
    passes_with(&c, FIRST_ENTRY, user, WRITE(), 0x20_0123);
    passes_with(&c, FIRST_ENTRY, read_only, READ(), 0x20_0123);
    faults_with(&c, FIRST_ENTRY, read_only, WRITE(), Condition::Sgn6);
    faults_with(&c, FIRST_ENTRY, supervisor, READ(), Condition::Sgn2);
    faults_with(
        &c,
        FIRST_ENTRY,
        |b| {
            b.first(0x5000, 1, 0x20_0066);
        },
        READ(),
        Condition::Sfs2,
    );
    faults_with(
        &c,
        FIRST_ENTRY,
        |b| b.poke(FIRST, 0x1_0000_0000 | 0x27),
        READ(),
        Condition::Sfs1,
    );
    faults_with(
        &c,
        FIRST_ENTRY,
        |b| b.poke(FIRST, 0x5000 | 0xa7),
        READ(),
        Condition::Sfs3,
    );
    faults_with(
        &c,
        [FIRST_ENTRY[0], FIRST_ENTRY[1], 0x1_0000_0000],
        user,
        READ(),
        Condition::Sfs4,
    );
    faults_with(
        &c,
        [FIRST_ENTRY[0], FIRST_ENTRY[1], FIRST | 8],
        user,
        READ(),
        Condition::Spt43,
    );
    faults_with(
        &c,
        FIRST_ENTRY,
        |b| {
            b.first(0x5000, 1, 0xfee0_0067);
        },
        READ(),
        Condition::Sgn8,
    );
    faults_with(
        &c,
        FIRST_ENTRY,
        user,
        Request::read(DEVICE, 0x8000_0000_0000),
        Condition::Sgn1,
    );
    let high: Setup = |b| {
        b.first(0xffff_8000_0000_5000, 1, 0x20_0067);
    };
    passes_with(
        &c,
        FIRST_ENTRY,
        high,
        Request::read(DEVICE, 0xffff_8000_0000_5123),
        0x20_0123,
    );
}

#[test]
fn privileged_requests_need_sre_and_obey_wpe() {
    let c = config();
    let page: Setup = |b| {
        b.first(0x5000, 1, 0x20_0061);
        let at = PASIDS + 5 * 64;
        b.poke(at + 16, FIRST_ENTRY[2] | 1);
        b.poke(at + 8, FIRST_ENTRY[1]);
        b.poke(at, FIRST_ENTRY[0]);
    };
    let request = WRITE().with_pasid(5).privileged();
    passes_with(&c, [0; 3], page, request, 0x20_0123);
    faults_with(&c, [0; 3], page, WRITE().with_pasid(5), Condition::Sgn2);
    let protected: Setup = |b| {
        b.first(0x5000, 1, 0x20_0061);
        b.pasid(5, [FIRST_ENTRY[0], FIRST_ENTRY[1], FIRST_ENTRY[2] | 0x11]);
    };
    faults_with(&c, [0; 3], protected, request, Condition::Sgn6);
    passes_with(
        &c,
        [0; 3],
        protected,
        READ().with_pasid(5).privileged(),
        0x20_0123,
    );
    let refused: Setup = |b| {
        b.first(0x5000, 1, 0x20_0061);
        b.pasid(5, FIRST_ENTRY);
    };
    faults_with(&c, [0; 3], refused, request, Condition::Spt6);
    // RID_PRIV makes requests without PASID privileged.
    let rid: Setup = |b| {
        b.first(0x5000, 1, 0x20_0061);
        b.poke(CONTEXT_ENTRY + 8, 1 << 20);
    };
    passes_with(
        &c,
        [FIRST_ENTRY[0], FIRST_ENTRY[1], FIRST_ENTRY[2] | 1],
        rid,
        WRITE(),
        0x20_0123,
    );
    faults_with(&c, FIRST_ENTRY, rid, WRITE(), Condition::Spt6);
}

#[test]
fn execute_requests_fail_as_the_version_says() {
    let page: Setup = |b| {
        b.first(0x5000, 1, 0x20_0067);
        b.pasid(5, FIRST_ENTRY);
    };
    let request = Request {
        execute: true,
        ..READ().with_pasid(5)
    };
    faults_with(&config(), [0; 3], page, request, Condition::Spt5);
    faults_with(
        &Config {
            major: 8,
            ..config()
        },
        [0; 3],
        page,
        request,
        Condition::Rta5,
    );
    passes_with(
        &config(),
        [0; 3],
        page,
        Request {
            execute: false,
            ..request
        },
        0x20_0123,
    );
}

#[test]
fn five_levels_of_the_first_stage_are_walked_if_the_unit_has_them() {
    let deep: Setup = |b| {
        b.put_entry(
            FIRST,
            5,
            0xff12_3456_7890_b000 | 0xff << 56,
            1,
            0x20_0067,
            0x27,
        );
    };
    let address = 0xff12_3456_7890_b000_u64;
    let entry = [FIRST_ENTRY[0], FIRST_ENTRY[1], FIRST | 4];
    passes_with(
        &config(),
        entry,
        deep,
        Request::read(DEVICE, address),
        0x20_0000,
    );
    let four = Config {
        first_stage_5_level: false,
        ..config()
    };
    faults_with(
        &four,
        entry,
        deep,
        Request::read(DEVICE, address),
        Condition::Spt43,
    );
}

#[test]
fn flags_are_set_where_walks_snoop_and_fault_where_they_cannot_be() {
    for freedom in freedoms() {
        // A page without A and D, under tables with A.
        let mut b = bench(&config(), freedom, FIRST_ENTRY, |_| ());
        let slot = b.first(0x5000, 1, 0x20_0007);
        assert_eq!(b.machine.request(&READ()).address(), Some(0x20_0123));
        assert_eq!(b.machine.read_u64(slot), 0x20_0027, "A");
        assert_eq!(b.machine.request(&WRITE()).address(), Some(0x20_0123));
        assert_eq!(b.machine.read_u64(slot), 0x20_0067, "A and D");
        // EAFE: bit 10 too.
        let eafe = [FIRST_ENTRY[0], FIRST_ENTRY[1], FIRST | 0x80];
        let mut b = bench(&config(), freedom, eafe, |_| ());
        let slot = b.first(0x5000, 1, 0x20_0007);
        b.machine.request(&READ());
        assert_eq!(b.machine.read_u64(slot), 0x20_0427, "A and EA");
    }
    // Without PWSNP an update that is needed faults, and one that is not does not.
    let still = [FIRST_ENTRY[0], DOMAIN.into(), FIRST];
    faults_with(
        &config(),
        still,
        |b| {
            b.first(0x5000, 1, 0x20_0007);
        },
        READ(),
        Condition::Sfs9,
    );
    faults_with(
        &config(),
        still,
        |b| {
            b.first(0x5000, 1, 0x20_0027);
        },
        WRITE(),
        Condition::Sfs9,
    );
    passes_with(
        &config(),
        still,
        |b| {
            b.first(0x5000, 1, 0x20_0027);
        },
        READ(),
        0x20_0123,
    );
}

#[test]
fn the_second_stage_keeps_flags_only_with_ssade() {
    let with = [SECOND_ENTRY[0] | 1 << 9, SECOND_ENTRY[1] | 1 << 23, 0];
    for (entry, read, written) in [
        (SECOND_ENTRY, 0x20_0003, 0x20_0003),
        (with, 0x20_0103, 0x20_0303),
    ] {
        for freedom in freedoms() {
            let mut b = bench(&config(), freedom, entry, |_| ());
            let slot = b.second(0x5000, 1, 0x20_0003);
            assert_eq!(b.machine.request(&READ()).address(), Some(0x20_0123));
            assert_eq!(b.machine.read_u64(slot), read);
            assert_eq!(b.machine.request(&WRITE()).address(), Some(0x20_0123));
            assert_eq!(b.machine.read_u64(slot), written);
        }
    }
    let still = [with[0], SECOND_ENTRY[1], 0];
    faults_with(
        &config(),
        still,
        |b| {
            b.second(0x5000, 1, 0x20_0003);
        },
        READ(),
        Condition::Sss5,
    );
}

/// First stage in guest memory: guest 0x8_0000.. and below is mapped one to one but for
/// the data page.
fn nested(b: &mut Bench) {
    b.first(0x5000, 1, 0x30_0067);
    b.second(0x30_0000, 1, 0x20_0003);
    for page in [FIRST]
        .into_iter()
        .chain((0x10_0000..0x11_0000).step_by(0x1000))
    {
        b.second(page, 1, page | 3);
    }
}

#[test]
fn nesting_walks_the_second_stage_for_every_table_and_the_page() {
    let c = config();
    passes_with(&c, NESTED_ENTRY, nested, READ(), 0x20_0123);
    passes_with(&c, NESTED_ENTRY, nested, WRITE(), 0x20_0123);
    let cases: &[(Setup, Request, Condition)] = &[
        (
            |b| {
                b.second(FIRST, 1, 0);
            },
            READ(),
            Condition::Sss2,
        ),
        (
            |b| {
                b.second(FIRST, 1, FIRST | 2);
            },
            READ(),
            Condition::Sfs6,
        ),
        (
            |b| {
                b.second(0x10_0000, 1, 0x10_0002);
            },
            READ(),
            Condition::Sfs7,
        ),
        (
            |b| {
                b.second(0x30_0000, 1, 0);
            },
            READ(),
            Condition::Sss2,
        ),
        (
            |b| {
                b.second(0x30_0000, 1, 0x20_0001);
            },
            WRITE(),
            Condition::Sgn6,
        ),
        (
            |b| {
                b.second(0x30_0000, 1, 0x20_0002);
            },
            READ(),
            Condition::Sgn7,
        ),
        (
            |b| {
                b.second(0x30_0000, 1, 0xfee0_0003);
            },
            READ(),
            Condition::Sgn8,
        ),
        (
            |b| {
                b.second(0x10_0000, 1, 0x1_0000_0003);
            },
            READ(),
            Condition::Sfs1,
        ),
    ];
    for (setup, request, condition) in cases {
        faults_with(
            &c,
            NESTED_ENTRY,
            |b| {
                nested(b);
                setup(b)
            },
            *request,
            *condition,
        );
    }
    // A needed flag update in a read-only table page.
    let update: Setup = |b| {
        nested(b);
        b.first(0x5000, 1, 0x30_0007);
        b.second(0x10_2000, 1, 0x10_2001);
    };
    faults_with(&c, NESTED_ENTRY, update, READ(), Condition::Sfs8);
    let set: Setup = |b| {
        nested(b);
        b.second(0x10_2000, 1, 0x10_2001);
    };
    passes_with(&c, NESTED_ENTRY, set, READ(), 0x20_0123);
    // Beyond the second stage's width.
    let three = [SECOND | 3 << 6 | 1 << 2 | 1, NESTED_ENTRY[1], 1 << 39];
    faults_with(&c, three, |_| (), READ(), Condition::Spt44);
}

#[test]
fn a_large_guest_page_over_small_host_pages_is_translated_piece_by_piece() {
    let setup: Setup = |b| {
        nested(b);
        b.first(0x4000_0000, 2, 0x60_00e7);
        b.second(0x60_0000, 1, 0x20_8003);
        b.second(0x60_3000, 1, 0x20_7003);
    };
    passes_with(
        &config(),
        NESTED_ENTRY,
        setup,
        Request::read(DEVICE, 0x4000_0123),
        0x20_8123,
    );
    passes_with(
        &config(),
        NESTED_ENTRY,
        setup,
        Request::read(DEVICE, 0x4000_3123),
        0x20_7123,
    );
    faults_with(
        &config(),
        NESTED_ENTRY,
        setup,
        Request::read(DEVICE, 0x4000_1000),
        Condition::Sss2,
    );
}

#[test]
fn with_ssade_even_reading_a_guest_table_needs_write_permission() {
    let entry = [NESTED_ENTRY[0] | 1 << 9, NESTED_ENTRY[1], NESTED_ENTRY[2]];
    passes_with(&config(), entry, nested, READ(), 0x20_0123);
    let read_only: Setup = |b| {
        nested(b);
        b.second(0x10_0000, 1, 0x10_0001);
    };
    faults_with(&config(), entry, read_only, READ(), Condition::Sfs7);
    passes_with(&config(), NESTED_ENTRY, read_only, READ(), 0x20_0123);
}

#[test]
fn pass_through_needs_no_table_and_no_right() {
    passes_with(&config(), PASS_ENTRY, |_| (), WRITE(), 0x5123);
    faults_with(
        &config(),
        PASS_ENTRY,
        |_| (),
        Request::write(DEVICE, 1 << 46),
        Condition::Sgn42,
    );
    // With a PASID the interrupt range is an address like others; only the output is checked.
    let setup: Setup = |b| b.pasid(5, PASS_ENTRY);
    faults_with(
        &config(),
        [0; 3],
        setup,
        Request::write(DEVICE, 0xfee0_0000).with_pasid(5),
        Condition::Sgn8,
    );
}

#[test]
fn abort_mode_and_a_wrong_table_mode_block_everything() {
    for (mode, with, condition) in [
        (0xc00, true, Condition::Rta4),
        (0xc00, false, Condition::Rta11),
        (0x800, true, Condition::Rta12),
    ] {
        let config = Config {
            abort_dma: with,
            srtp_invalidates: true,
            ..config()
        };
        for freedom in freedoms() {
            let mut b = bench(&config, freedom, SECOND_ENTRY, |b| {
                b.second(0x5000, 1, 0x20_0003);
            });
            assert_eq!(b.machine.request(&READ()).address(), Some(0x20_0123));
            b.write64(RTADDR, ROOT | mode);
            b.command(SRTP, true);
            assert_eq!(b.machine.request(&READ()).condition(), Some(condition));
        }
    }
    let mut legacy = Bench::legacy(Config::legacy(), Freedom::Random(0));
    legacy.write64(RTADDR, ROOT | 0x400);
    legacy.command(SRTP, true);
    legacy.machine.forget(0);
    assert_eq!(
        legacy.machine.request(&READ()).condition(),
        Some(Condition::Rta13)
    );
}

#[test]
fn io_rights_take_the_place_of_the_processors() {
    let config = Config {
        second_stage_io_rights: true,
        srtp_invalidates: true,
        ..config()
    };
    let mut b = Bench::scalable(config, Freedom::Random(0));
    b.pasid(0, SECOND_ENTRY);
    b.put_entry(SECOND, 4, 0x5000, 1, 1 << 61 | 0x20_0000, 3 << 61 | 3);
    b.write64(RTADDR, ROOT | 0x480);
    b.command(SRTP, true);
    assert_eq!(b.machine.request(&READ()).address(), Some(0x20_0123));
    assert_eq!(
        b.machine.request(&WRITE()).condition(),
        Some(Condition::Sgn6)
    );
}

#[test]
fn an_atomic_needs_both_rights() {
    let atomic = Request::new(DEVICE, 0x5000, Access::Atomic);
    for (entry, condition) in [(0x20_0001, Condition::Sgn6), (0x20_0002, Condition::Sgn7)] {
        faults_with(
            &config(),
            SECOND_ENTRY,
            move |b| {
                b.second(0x5000, 1, entry);
            },
            atomic,
            condition,
        );
    }
    passes_with(
        &config(),
        SECOND_ENTRY,
        |b| {
            b.second(0x5000, 1, 0x20_0003);
        },
        atomic,
        0x20_0000,
    );
}

#[test]
fn a_supervisor_table_stops_a_user_request_before_what_lies_below() {
    let setup: Setup = |b| {
        b.first(0x5000, 1, 0);
        let root = b.machine.read_u64(FIRST);
        b.poke(FIRST, root & !4);
    };
    faults_with(&config(), FIRST_ENTRY, setup, READ(), Condition::Sgn2);
    let user: Setup = |b| {
        b.first(0x5000, 1, 0);
    };
    faults_with(&config(), FIRST_ENTRY, user, READ(), Condition::Sfs2);
}

fn rom_outcome(entry: [u64; 3], stage: fn(&mut Bench), word: u64, request: Request) -> Outcome {
    let ram = Ram::new(0, 16 << 20);
    ram.store(ROM, word).expect("memory");
    let mut bench = Bench::scalable_in(config(), Freedom::Pessimist(0), Arc::new(WithRom(ram)));
    bench.pasid(0, entry);
    stage(&mut bench);
    bench.flush_all();
    let outcome = bench.machine.request(&request);
    assert_eq!(bench.machine.possible(&request), [outcome]);
    outcome
}

#[test]
fn flags_that_cannot_be_written_fault_and_flags_that_are_set_do_not() {
    let read = Request::read(DEVICE, 0x123);
    let first = |word, request| {
        let stage: Setup = |b| {
            b.first(0, 2, ROM | 0x27);
        };
        rom_outcome(FIRST_ENTRY, stage, word, request)
    };
    assert_eq!(first(0x20_0007, read).condition(), Some(Condition::Sfs10));
    assert_eq!(first(0x20_0027, read).address(), Some(0x20_0123));
    let write = Request::write(DEVICE, 0x123);
    assert_eq!(first(0x20_0027, write).condition(), Some(Condition::Sfs10));
    assert_eq!(first(0x20_0067, write).address(), Some(0x20_0123));

    let with_flags = [SECOND_ENTRY[0] | 1 << 9, DOMAIN as u64 | 1 << 23, 0];
    let second = |word| {
        let stage: Setup = |b| {
            b.second(0, 2, ROM | 3);
        };
        rom_outcome(with_flags, stage, word, read)
    };
    assert_eq!(second(0x20_0003).condition(), Some(Condition::Sss6));
    assert_eq!(second(0x20_0103).address(), Some(0x20_0123));
}
