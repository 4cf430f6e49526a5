//! Device-TLBs and page requests: translation and translated requests, completions, the
//! page request queue.

mod common;

use common::*;
use vtd_model::{
    Access, Condition, Config, Freedom, HostMemory as _, Outcome, PageRequest, PageResponse,
    Promptness, Ram, Request, Status, Translations,
};

const PRQ: u64 = 0x7000;
const PQH: usize = 0xc0;
const PQT: usize = 0xc8;
const PRS: usize = 0xdc;

fn config() -> Config {
    Config {
        second_stage_dirty: true,
        supervisor_requests: true,
        ..Config::scalable_with_ats()
    }
}

fn bench(freedom: Freedom, entry: [u64; 3]) -> Bench {
    let mut bench = Bench::scalable_with(config(), freedom, Some(Promptness::Prompt));
    bench.write64(0xd0, PRQ);
    bench.pasid(0, entry);
    bench.pasid(5, entry);
    bench
}

fn translate(bench: &mut Bench, request: Request, no_write: bool) -> Outcome {
    bench.machine.request(&request.translation(no_write))
}

#[test]
fn a_completion_carries_the_page_and_its_rights() {
    for freedom in freedoms() {
        let mut b = bench(freedom, SECOND_ENTRY);
        b.second(0x5000, 1, 0x20_0003);
        b.second(0x6000, 1, 0x21_0001);
        b.second(0x40_0000, 2, 0x60_0083);
        let page = |b: &mut Bench, address, no_write| match translate(
            b,
            Request::read(DEVICE, address),
            no_write,
        ) {
            Outcome::Completion(c) => (c.address, c.shift, c.read, c.write),
            other => panic!("{other:?}"),
        };
        assert_eq!(page(&mut b, 0x5123, false), (0x20_0000, 12, true, true));
        assert_eq!(
            page(&mut b, 0x5123, true),
            (0x20_0000, 12, true, false),
            "NW with NWFS"
        );
        assert_eq!(
            page(&mut b, 0x6000, false),
            (0x21_0000, 12, true, false),
            "effective rights"
        );
        assert_eq!(page(&mut b, 0x41_2345, false), (0x60_0000, 21, true, true));
        assert_eq!(
            page(&mut b, 0x9000, false),
            (0, 12, false, false),
            "recoverable"
        );
        assert_eq!(b.read32(FSTS) & 2, 0, "recoverable faults are not logged");
    }
}

#[test]
fn the_interrupt_range_is_answered_without_tables() {
    let mut b = bench(Freedom::Random(0), SECOND_ENTRY);
    let request = Request::write(DEVICE, 0xfee0_0000);
    for (no_write, write) in [(false, true), (true, false)] {
        let Outcome::Completion(c) = translate(&mut b, request, no_write) else {
            panic!()
        };
        assert_eq!(
            (c.read, c.write, c.untranslated_only),
            (false, write, write)
        );
    }
}

#[test]
fn errors_answer_translation_requests_with_ur_or_ca_as_table_30_says() {
    type Setup = fn(&mut Bench);
    let context = CONTEXT + 0x10 * 32;
    let cases: &[(Setup, Status, Condition)] = &[
        (
            |b| b.poke(ROOT, 0),
            Status::UnsupportedRequest,
            Condition::Srt2,
        ),
        (
            |b| b.poke(ROOT, CONTEXT | 5),
            Status::CompleterAbort,
            Condition::Srt3,
        ),
        (
            |b| b.poke(CONTEXT + 0x10 * 32, DIRECTORY | 9),
            Status::UnsupportedRequest,
            Condition::Sct5,
        ),
        (
            |b| b.poke(CONTEXT + 0x10 * 32, DIRECTORY | 0x19),
            Status::CompleterAbort,
            Condition::Sct41,
        ),
        (
            |b| b.poke(PASIDS + 24, 1),
            Status::CompleterAbort,
            Condition::Spt3,
        ),
        (
            |b| {
                b.second(0x5000, 1, 0x4000_0000_0000_0003);
            },
            Status::CompleterAbort,
            Condition::Sss3,
        ),
        (
            |b| {
                b.second(0x5000, 1, 0xfee0_0003);
            },
            Status::CompleterAbort,
            Condition::Sgn8,
        ),
    ];
    assert_eq!(context, 0x2200);
    for (setup, status, condition) in cases {
        let mut b = bench(Freedom::Random(0), SECOND_ENTRY);
        setup(&mut b);
        b.flush_all();
        let outcome = translate(&mut b, Request::read(DEVICE, 0x5000), false);
        assert_eq!(
            outcome,
            Outcome::Blocked {
                condition: Some(*condition),
                status: *status,
                logged: true
            }
        );
        assert_eq!(b.read64(FRCD + 8) >> 60 & 3, 1, "AT");
    }
}

#[test]
fn privileged_translation_needs_sre() {
    for (entry, read) in [
        (FIRST_ENTRY, false),
        ([FIRST_ENTRY[0], FIRST_ENTRY[1], FIRST | 1], true),
    ] {
        let mut b = bench(Freedom::Random(0), [0; 3]);
        b.pasid(5, entry);
        b.first(0x5000, 1, 0x20_0061);
        let request = Request::read(DEVICE, 0x5000).with_pasid(5).privileged();
        let Outcome::Completion(c) = translate(&mut b, request, true) else {
            panic!()
        };
        assert_eq!((c.privileged, c.read), (true, read));
    }
}

#[test]
fn translation_sets_dirty_unless_only_a_read_is_meant() {
    for (no_write, flags) in [(true, 0x27), (false, 0x67)] {
        let mut b = bench(Freedom::Random(0), FIRST_ENTRY);
        let slot = b.first(0x5000, 1, 0x20_0007);
        translate(&mut b, Request::read(DEVICE, 0x5000), no_write);
        assert_eq!(b.machine.read_u64(slot) & 0xff, flags);
    }
}

#[test]
fn translated_requests_pass_only_where_the_context_allows_them() {
    let mut b = bench(Freedom::Random(0), SECOND_ENTRY);
    let request = Request::write(DEVICE, 0x1234_5678).translated();
    assert_eq!(b.machine.request(&request).address(), Some(0x1234_5678));
    for (address, condition) in [(1 << 46, Condition::Sgn41), (0xfee0_0000, Condition::Sgn8)] {
        let outcome = b.machine.request(&Request { address, ..request });
        assert_eq!(outcome.condition(), Some(condition));
    }
    assert_eq!(
        b.machine.request(&request.with_pasid(5)),
        Outcome::Blocked {
            condition: None,
            status: Status::UnsupportedRequest,
            logged: false
        }
    );
    b.poke(CONTEXT + 0x10 * 32, DIRECTORY | 1);
    b.flush_all();
    assert_eq!(
        b.machine.request(&request).condition(),
        Some(Condition::Sct5)
    );
}

#[test]
fn a_device_uses_its_own_translation_until_it_is_invalidated() {
    let mut b = bench(Freedom::Random(0), SECOND_ENTRY);
    let slot = b.second(0x5000, 1, 0x20_0003);
    let write = |b: &mut Bench| {
        b.machine
            .ats_access(DEVICE, None, 0x5008, Access::Write)
            .address()
    };
    assert_eq!(write(&mut b), Some(0x20_0008));
    b.poke(slot, 0x30_0003);
    b.submit(&[(0x7_0032, 0x5000)]);
    assert_eq!(
        write(&mut b),
        Some(0x20_0008),
        "the device-TLB was not told"
    );
    b.submit(&[(u64::from(DEVICE) << 32 | 3, 0x5000)]);
    assert_eq!(write(&mut b), Some(0x30_0008));
}

#[test]
fn a_device_that_may_write_has_had_the_flags_set_whenever_it_asked() {
    const FLAGS: u64 = 0x60;
    for freedom in freedoms() {
        for (access, flags) in [(Access::Read, 0x20), (Access::Write, 0x60)] {
            let mut b = bench(freedom, FIRST_ENTRY);
            let slot = b.first(0x5000, 1, 0x20_0007);
            // Now the device may have asked for all that there is.
            b.submit(&[(0x12, 0), (u64::from(DEVICE) << 32 | 3, 0x5000)]);
            assert_eq!(b.machine.read_u64(slot) & FLAGS, 0);
            let reached = b.machine.ats_access(DEVICE, None, 0x5008, access);
            assert_eq!(reached.address(), Some(0x20_0008));
            let set = b.machine.read_u64(slot) & FLAGS;
            assert_eq!(set, flags, "{freedom:?} {access:?}");
        }
    }
}

#[test]
fn a_device_keeps_nothing_while_its_ats_is_off() {
    for freedom in freedoms() {
        for off in [false, true] {
            let mut b = bench(freedom, SECOND_ENTRY);
            let slot = b.second(0x5000, 1, 0x20_0003);
            let access = |b: &mut Bench| {
                let outcome = b.machine.ats_access(DEVICE, None, 0x5000, Access::Write);
                outcome.address()
            };
            assert_eq!(access(&mut b), Some(0x20_0000));
            b.poke(slot, 0x30_0003);
            b.submit(&[(0x7_0032, 0x5000)]);
            if off {
                b.machine.switch_ats(DEVICE, false);
                b.machine.switch_ats(DEVICE, true);
            }
            let reached = if off { 0x30_0000 } else { 0x20_0000 };
            assert_eq!(access(&mut b), Some(reached), "{freedom:?}");
        }
    }
}

fn ask(last: bool, group: u16) -> PageRequest {
    PageRequest {
        source: DEVICE,
        pasid: Some(5),
        address: 0x1234_5000,
        read: true,
        write: true,
        execute: false,
        privileged: false,
        group,
        last,
    }
}

#[test]
fn a_page_request_is_queued_and_answered_by_software() {
    for freedom in freedoms() {
        let mut b = bench(freedom, FIRST_ENTRY);
        b.write32(0xe4, 0x55);
        b.write32(0xe8, 0xfee0_0000);
        b.write32(0xe0, 0);
        b.machine.page_request(&ask(true, 3));
        b.machine.settle(50);
        assert_eq!(b.read64(PQT), 32);
        assert_eq!(b.read32(PRS), 1);
        assert_eq!(b.machine.take_messages().len(), 1);
        assert_eq!(
            [b.machine.read_u64(PRQ), b.machine.read_u64(PRQ + 8)],
            [0x5_0010_0101, 0x1234_501f]
        );
        b.write32(PRS, 1);
        b.write64(PQH, 32);
        b.submit(&[(5 << 32 | u64::from(DEVICE) << 16 | 0x19, 3 << 3)]);
        b.machine.settle(50);
        let response = PageResponse {
            source: DEVICE,
            pasid: Some(5),
            group: 3,
            code: 0,
            automatic: false,
        };
        assert_eq!(b.machine.take_responses(), [response]);
        assert_eq!(b.violations(), [""; 0]);
    }
}

#[test]
fn requests_that_cannot_be_queued_are_answered_by_hardware_or_dropped() {
    let context = CONTEXT + 0x10 * 32;
    // PRE = 0: a fault, and Invalid Request for the last of a group.
    for (last, code) in [(true, Some(1)), (false, None)] {
        let mut b = bench(Freedom::Random(0), FIRST_ENTRY);
        b.poke(context, DIRECTORY | 0xd);
        b.flush_all();
        b.machine.page_request(&ask(last, 3));
        assert_eq!(b.machine.take_responses().first().map(|r| r.code), code);
        let record = b.read64(FRCD + 8);
        assert_eq!(
            (record >> 32 & 0xff, record >> 62 & 1, record >> 28 & 1),
            (0x47, 0, 1),
            "reason, T1, T2"
        );
    }
    // A full queue: overflow, and Success, so that the device tries again.
    let mut b = bench(Freedom::Pessimist(0), FIRST_ENTRY);
    for group in 0..127 {
        b.machine.page_request(&ask(true, group));
    }
    assert_eq!(b.machine.take_responses(), []);
    b.machine.page_request(&ask(true, 200));
    b.machine.page_request(&ask(false, 201));
    b.machine.settle(30);
    assert_eq!(b.read32(PRS), 3);
    let codes: Vec<_> = b
        .machine
        .take_responses()
        .iter()
        .map(|r| (r.group, r.code, r.automatic))
        .collect();
    assert_eq!(codes, [(200, 0, true)]);
    assert_eq!(b.read64(PQT), 127 * 32);
    b.write64(PQH, 127 * 32);
    b.machine.page_request(&ask(true, 202));
    assert_eq!(
        b.machine.take_responses().len(),
        1,
        "while PRO is set everything is dropped"
    );
    b.write32(PRS, 3);
    b.machine.page_request(&ask(true, 203));
    b.machine.settle(30);
    assert_eq!(b.read64(PQT), 0);
}

#[test]
fn a_wait_with_page_request_drain_comes_after_the_requests() {
    for seed in 0..40 {
        let mut b = bench(Freedom::Random(seed), FIRST_ENTRY);
        for group in 0..20 {
            b.machine.page_request(&ask(true, group));
        }
        b.put(0x77_0000_00a5, STATUS + 16);
        b.doorbell();
        for _ in 0..1000 {
            if b.machine.read_u32(STATUS + 16) == 0x77 {
                break;
            }
            b.machine.tick();
        }
        assert_eq!(b.machine.read_u32(STATUS + 16), 0x77);
        assert_eq!(b.read64(PQT), 20 * 32);
    }
}

#[test]
fn page_requests_need_scalable_mode() {
    let mut b = Bench::ats(
        Config::scalable_with_ats(),
        Freedom::Random(0),
        Promptness::Prompt,
    );
    b.clear_tables();
    b.queue_on();
    b.write64(RTADDR, ROOT);
    b.command(SRTP, true);
    b.submit(&[(0x11, 0), (0x12, 0)]);
    b.command(TE, true);
    b.machine.page_request(&ask(true, 1));
    assert_eq!(b.machine.take_responses()[0].code, 1);
    assert_eq!(b.read64(FRCD + 8) >> 32 & 0xff, 0x32);
}

#[test]
fn several_pages_of_one_size_may_be_answered_at_once() {
    for freedom in freedoms() {
        let mut b = bench(freedom, SECOND_ENTRY);
        for page in 0..3 {
            b.second(0x1f_d000 + (page << 12), 1, (0x20_0000 + (page << 14)) | 3);
        }
        b.second(0x20_0000, 2, 0x60_0083);
        let request = Request::read(DEVICE, 0x1f_d000).translation(false);
        let mut most = 0;
        for _ in 0..32 {
            let found = b.machine.request_translations(&request, 16, 0xff);
            let Translations::Completed(pages) = found else {
                panic!("{found:?}")
            };
            // The 2 MiB page behind them is of another size.
            assert!((1..=3).contains(&pages.len()));
            for (at, page) in pages.iter().enumerate() {
                assert_eq!(
                    (page.address, page.shift),
                    (0x20_0000 + (at as u64 * 0x4000), 12)
                );
            }
            most = most.max(pages.len());
        }
        assert_eq!(most, 3, "{freedom:?}");
        let one = b.machine.request_translations(&request, 2, 0xff);
        assert!(matches!(one, Translations::Completed(pages) if pages.len() == 1));
    }
}

#[test]
fn an_error_behind_the_first_page_ends_the_list_without_a_fault() {
    for (address, fails) in [(0x5000, false), (0x6000, true)] {
        let mut b = bench(Freedom::Pessimist(0), SECOND_ENTRY);
        b.second(0x5000, 1, 0x20_0003);
        b.second(0x6000, 1, 0x4000_0000_0000_0003);
        let request = Request::read(DEVICE, address).translation(false);
        let found = b.machine.request_translations(&request, 8, 0xff);
        assert_eq!(matches!(found, Translations::Failed(_)), fails, "{found:?}");
        assert_eq!(b.read32(FSTS) & 2 != 0, fails, "PPF");
    }
}

#[test]
fn malformed_translation_requests_are_no_business_of_the_unit() {
    let mut b = bench(Freedom::Random(0), SECOND_ENTRY);
    b.second(0x5000, 1, 0x20_0003);
    let request = Request::read(DEVICE, 0x5000).translation(false);
    for (dwords, byte_enables, malformed) in [
        (2, 0xff, false),
        (16, 0xff, false),
        (0, 0xff, true),
        (3, 0xff, true),
        (18, 0xff, true),
        (2, 0xf7, true),
    ] {
        let found = b
            .machine
            .request_translations(&request, dwords, byte_enables);
        assert_eq!(
            found == Translations::Malformed,
            malformed,
            "{dwords} {byte_enables:#x}"
        );
    }
    assert_eq!(b.read32(FSTS) & 2, 0);
}

#[test]
fn a_failed_flag_update_is_logged_although_the_answer_is_success() {
    let ram = Ram::new(0, 16 << 20);
    // A is clear, and the table lies where nothing can set it.
    ram.store(ROM, 0x20_0007).expect("memory");
    let memory = std::sync::Arc::new(WithRom(ram));
    let mut b = Bench::scalable_in_with(config(), Freedom::Random(0), memory, true);
    b.pasid(0, FIRST_ENTRY);
    b.first(0, 2, ROM | 0x27);
    let outcome = translate(&mut b, Request::read(DEVICE, 0), true);
    let Outcome::Completion(found) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(!found.read && !found.write);
    let record = b.read64(FRCD + 8);
    assert_eq!(record >> 32 & 0xff, u64::from(Condition::Sfs10.code()));
}
