//! The invalidation queue: completion, events, errors, devices that do not answer.

mod common;

use common::*;
use vtd_model::{Config, Freedom, Promptness, Request, Rule};

const ICS: usize = 0x9c;
const IECTL: usize = 0xa0;
const IQERCD: usize = 0xb0;
const IQE: u32 = 1 << 4;
const ICE: u32 = 1 << 5;
const ITE: u32 = 1 << 6;

fn rules(bench: &mut Bench) -> Vec<Rule> {
    bench
        .machine
        .take_violations()
        .iter()
        .map(|violation| violation.rule)
        .collect()
}

#[test]
fn a_wait_writes_its_status_and_the_head_moves_on() {
    for freedom in freedoms() {
        let mut bench = Bench::legacy(Config::legacy(), freedom);
        bench.submit(&[(0x12, 0), (0x11, 0), (0x04, 0)]);
        let (head, tail) = (bench.read64(IQH), bench.read64(IQT));
        assert_eq!(head, tail);
        assert_eq!(rules(&mut bench), []);
    }
}

#[test]
fn the_queue_wraps() {
    let mut bench = Bench::legacy(Config::legacy(), Freedom::Random(5));
    for _ in 0..600 {
        bench.submit(&[(0x12, 0)]);
    }
    assert_eq!(rules(&mut bench), []);
}

#[test]
fn a_wait_with_interrupt_flag_sets_iwc_and_sends_one_message() {
    for freedom in freedoms() {
        let mut bench = Bench::legacy(Config::legacy(), freedom);
        bench.write32(IECTL + 4, 0x33);
        bench.write32(IECTL + 8, 0xfee0_0000);
        bench.write32(IECTL, 0);
        bench.put(0x15, 0);
        bench.put(0x15, 0);
        bench.doorbell();
        bench.machine.settle(400);
        assert_eq!(bench.read32(ICS), 1);
        assert_eq!(bench.machine.take_messages().len(), 1);
        bench.write32(ICS, 1);
        assert_eq!(bench.read32(ICS), 0);
        bench.put(0x15, 0);
        bench.doorbell();
        bench.machine.settle(400);
        assert_eq!(bench.machine.take_messages().len(), 1);
    }
}

/// (what stands in the slot or register, IQEI)
#[test]
fn queue_errors_stop_the_queue_at_the_bad_descriptor() {
    type Act = fn(&mut Bench);
    let cases: &[(&str, u64, Act)] = &[
        ("type 0", 3, |b| {
            b.put(0, 0);
            b.doorbell()
        }),
        ("reserved bit", 4, |b| {
            b.put(0x112, 0);
            b.doorbell()
        }),
        ("reserved granularity", 4, |b| {
            b.put(0x02, 0);
            b.doorbell()
        }),
        ("tail beyond the ring", 1, |b| b.write64(IQT, 0x1000)),
        ("queue in a hole", 2, |b| {
            b.command(QIE, false);
            b.write64(IQT, 0);
            b.write64(IQA, 0x1_0000_0000);
            b.command(QIE, true);
            b.write64(IQT, 0x10);
        }),
    ];
    for (name, info, act) in cases {
        for freedom in freedoms() {
            let mut bench = Bench::legacy(Config::legacy(), freedom);
            act(&mut bench);
            bench.machine.settle(100);
            assert_eq!(bench.read32(FSTS) & IQE, IQE, "{name}");
            assert_eq!(bench.read64(IQERCD) & 0xf, *info, "{name}");
            let head = bench.read64(IQH);
            bench.machine.settle(100);
            assert_eq!(bench.read64(IQH), head, "{name}");
        }
    }
}

#[test]
fn a_corrected_descriptor_goes_on_after_iqe_was_cleared() {
    for freedom in freedoms() {
        let mut bench = Bench::legacy(Config::legacy(), freedom);
        let bad = QUEUE + bench.read64(IQT);
        bench.put(0x00, 0);
        assert!(!bench.wait());
        assert_eq!(QUEUE + bench.read64(IQH), bad);
        bench.machine.write_u64(bad, 0x12);
        bench.write32(FSTS, IQE);
        bench.machine.settle(100);
        assert_eq!(bench.machine.read_u32(STATUS), bench.waits);
        assert_eq!(bench.read32(FSTS) & IQE, 0);
    }
}

#[test]
fn an_odd_tail_is_an_error_for_wide_descriptors() {
    let mut bench = Bench::scalable(Config::scalable(), Freedom::Random(1));
    let tail = bench.read64(IQT);
    bench.write64(IQT, tail + 16);
    bench.machine.settle(50);
    assert_eq!(bench.read64(IQERCD), 6);
}

#[test]
fn narrow_descriptors_are_refused_in_scalable_mode() {
    let mut bench = Bench::new(Config::scalable(), Freedom::Random(1));
    bench.write64(IQA, QUEUE);
    bench.command(QIE, true);
    bench.write64(RTADDR, ROOT | 0x400);
    bench.command(SRTP, true);
    bench.machine.write_u64(QUEUE, 0x12);
    bench.write64(IQT, 0x10);
    bench.machine.settle(50);
    assert_eq!(bench.read64(IQERCD), 5);
}

fn with_ats(freedom: Freedom, promptness: Promptness) -> Bench {
    Bench::scalable_with(Config::scalable_with_ats(), freedom, Some(promptness))
}

const DEVICE_ALL: (u64, u64) = ((DEVICE as u64) << 32 | 3, 0x7fff_ffff_ffff_f001);

#[test]
fn a_wait_waits_for_the_devices_answer() {
    for freedom in freedoms() {
        let mut bench = with_ats(freedom, Promptness::Late(30));
        bench.put(DEVICE_ALL.0, DEVICE_ALL.1);
        bench.put(0x9_0000_0025, STATUS);
        bench.doorbell();
        bench.machine.settle(20);
        assert_ne!(bench.machine.read_u32(STATUS), 9, "{freedom:?}");
        bench.machine.settle(200);
        assert_eq!(bench.machine.read_u32(STATUS), 9, "{freedom:?}");
        assert_eq!(rules(&mut bench), []);
    }
}

#[test]
fn a_device_that_never_answers_times_out_and_its_waits_are_aborted() {
    for freedom in freedoms() {
        let mut bench = with_ats(freedom, Promptness::Never);
        bench.put(DEVICE_ALL.0, DEVICE_ALL.1);
        bench.put(0x9_0000_0025, STATUS);
        bench.doorbell();
        bench.machine.settle(300);
        assert_ne!(bench.machine.read_u32(STATUS), 9);
        assert_eq!(bench.read32(FSTS) & ITE, ITE);
        assert_eq!(bench.read64(IQERCD) >> 32 & 0xffff, u64::from(DEVICE));
        bench.put(0xa_0000_0025, STATUS);
        bench.doorbell();
        bench.machine.settle(100);
        assert_ne!(
            bench.machine.read_u32(STATUS),
            10,
            "nothing is fetched while ITE is set"
        );
        bench.write32(FSTS, ITE);
        bench.machine.settle(100);
        assert_eq!(bench.machine.read_u32(STATUS), 10);
    }
}

#[test]
fn a_completion_that_nobody_waits_for_is_an_error_that_stops_nothing() {
    let mut bench = with_ats(Freedom::Random(1), Promptness::Prompt);
    bench.machine.stray_completion(DEVICE);
    assert_eq!(bench.read32(FSTS) & ICE, ICE);
    assert_eq!(bench.read64(IQERCD) >> 48, u64::from(DEVICE));
    bench.submit(&[(0x12, 0)]);
    bench.write32(FSTS, ICE);
    assert_eq!(bench.read32(FSTS) & ICE, 0);
}

#[test]
fn device_tlb_invalidations_need_translation_to_be_on() {
    let mut bench = Bench::ats(
        Config::scalable_with_ats(),
        Freedom::Pessimist(0),
        Promptness::Prompt,
    );
    bench.queue_on();
    bench.put(DEVICE_ALL.0, DEVICE_ALL.1);
    bench.doorbell();
    bench.machine.tick();
    assert_eq!(rules(&mut bench), [Rule::Order]);
}

#[test]
fn waits_without_fence_let_later_descriptors_overtake() {
    // A late device holds the wait; without a fence a later wait completes first.
    for (fence, early) in [(0, true), (0x40, false)] {
        let mut bench = with_ats(Freedom::Pessimist(0), Promptness::Late(40));
        bench.put(DEVICE_ALL.0, DEVICE_ALL.1);
        bench.put(0x7_0000_0025 | fence, STATUS + 8);
        bench.put(0x9_0000_0025, STATUS);
        bench.doorbell();
        bench.machine.settle(10);
        assert_eq!(bench.machine.read_u32(STATUS) == 9, early);
        assert_ne!(bench.machine.read_u32(STATUS + 8), 7);
        bench.machine.settle(100);
        assert_eq!(
            (
                bench.machine.read_u32(STATUS),
                bench.machine.read_u32(STATUS + 8)
            ),
            (9, 7)
        );
    }
}

#[test]
fn registers_invalidate_where_there_is_no_queue() {
    let config = Config {
        queued_invalidation: false,
        interrupt_remapping: false,
        x2apic: false,
        max_handle_mask: 0,
        ..Config::legacy()
    };
    for freedom in freedoms() {
        let mut bench = Bench::new(config.clone(), freedom);
        bench.poke(ROOT, CONTEXT | 1);
        bench.poke(CONTEXT + 0x100, SECOND | 1);
        bench.poke(CONTEXT + 0x108, 0x702);
        let slot = bench.second(0x5000, 1, 0x20_0003);
        bench.write64(RTADDR, ROOT);
        bench.command(SRTP, true);
        // Global, and the actual granularity says so.
        assert_eq!(
            command(&mut bench, 0x28, 0xa000_0000_0000_0000) >> 59 & 3,
            1
        );
        assert_eq!(
            command(&mut bench, IOTLB, 0x9000_0000_0000_0000) >> 57 & 3,
            1
        );
        bench.command(TE, true);
        let request = Request::read(DEVICE, 0x5000);
        assert_eq!(bench.machine.request(&request).address(), Some(0x20_0000));
        bench.poke(slot, 0x30_0003);
        bench.write64(IVA, 0x5000);
        let done = command(&mut bench, IOTLB, 0xb003_0007_0000_0000);
        assert_eq!(done >> 57 & 3, 3, "page-selective was performed");
        assert_eq!(bench.machine.possible(&request).len(), 1);
        assert_eq!(bench.machine.request(&request).address(), Some(0x30_0000));
        bench.write64(IVA, 0x5000 | 19);
        let done = command(&mut bench, IOTLB, 0xb000_0007_0000_0000);
        assert_eq!(done >> 57 & 3, 0, "AM beyond MAMV is refused");
    }
}

fn command(bench: &mut Bench, offset: usize, value: u64) -> u64 {
    bench.write64(offset, value);
    for _ in 0..100 {
        let value = bench.read64(offset);
        if value >> 63 == 0 {
            return value;
        }
    }
    panic!("{offset:#x} was never answered");
}
