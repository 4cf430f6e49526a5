//! The register file: widths, reserved bits, commands, events.

mod common;

use common::*;
use vtd_model::{Access, Config, Freedom, Machine, Request, Rule, Width};

fn rules(bench: &mut Bench) -> Vec<(Rule, &'static str)> {
    bench
        .machine
        .take_violations()
        .iter()
        .map(|violation| (violation.rule, violation.section))
        .collect()
}

fn plain() -> Bench {
    Bench::new(Config::everything(), Freedom::Random(1))
}

#[test]
fn registers_are_accessed_in_their_width_and_aligned() {
    let mut bench = plain();
    let good = [
        (0x00, Width::Dword),
        (0x08, Width::Dword),
        (0x0c, Width::Dword),
        (0x08, Width::Qword),
        (0x34, Width::Dword),
    ];
    for (offset, width) in good {
        bench.machine.read(0, offset, width);
        assert_eq!(rules(&mut bench), [], "{offset:#x}");
    }
    let bad = [
        (0x00, Width::Qword),
        (0x18, Width::Qword),
        (0x38, Width::Qword),
        (0x0a, Width::Dword),
        (0x24, Width::Qword),
    ];
    for (offset, width) in bad {
        bench.machine.read(0, offset, width);
        assert_eq!(rules(&mut bench), [(Rule::Width, "§11.2")], "{offset:#x}");
    }
    bench.machine.read(0, 0x10_0000, Width::Dword);
    assert_eq!(rules(&mut bench)[0].0, Rule::NoRegister);
}

#[test]
fn a_64_bit_register_may_be_written_in_halves() {
    let mut bench = plain();
    bench.write32(RTADDR + 4, 0x12);
    bench.write32(RTADDR, 0x3456_7400);
    assert_eq!(bench.read64(RTADDR), 0x12_3456_7400);
    assert_eq!(bench.read32(RTADDR + 4), 0x12);
}

#[test]
fn reserved_bits_and_read_only_registers_are_told() {
    let cases: &[(usize, Width, u64, u64, &str)] = &[
        (GCMD, Width::Dword, 0, 1 << 22, "§11.4.4.1"),
        (RTADDR, Width::Qword, 0x1000, 0x1200, "§11.4.5"),
        (FSTS, Width::Dword, 0x71, 0x80, "§11.4.7.1"),
        (FECTL, Width::Dword, 0x8000_0000, 0x8000_0001, "§11.4.7.2"),
        (IQA, Width::Qword, 0x5803, 0x5808, "§11.4.9.3"),
        (IQT, Width::Qword, 0, 8, "§11.4.9.2"),
        (IRTA, Width::Qword, 0x580f, 0x5010, "§11.4.10"),
        (0xd0, Width::Qword, 0x5007, 0x5008, "§11.4.11"),
        (0xdc, Width::Dword, 3, 4, "§11.4.11.4"),
        (0x9c, Width::Dword, 1, 2, "§11.4.9.4"),
        (0x64, Width::Dword, 0, 2, "§11.4.8.1"),
    ];
    for (offset, width, good, bad, section) in cases {
        let mut bench = plain();
        bench.machine.write(0, *offset, *width, *good);
        assert_eq!(rules(&mut bench), [], "{offset:#x} good");
        bench.machine.settle(200);
        bench.machine.write(0, *offset, *width, *bad);
        assert_eq!(
            rules(&mut bench),
            [(Rule::Reserved, *section)],
            "{offset:#x}"
        );
    }
    let mut bench = plain();
    for offset in [0x00, GSTS] {
        bench.write32(offset, 1);
        assert_eq!(
            rules(&mut bench),
            [(Rule::Reserved, "§11.3")],
            "{offset:#x}"
        );
    }
}

#[test]
fn registers_of_missing_capabilities_are_not_there() {
    let mut bench = Bench::new(
        Config {
            queued_invalidation: false,
            interrupt_remapping: false,
            x2apic: false,
            max_handle_mask: 0,
            ..Config::legacy()
        },
        Freedom::Random(0),
    );
    for offset in [IQT, IQA, IRTA, 0xd0] {
        assert_eq!(bench.read64(offset), 0);
        bench.write64(offset, 0x1000);
        assert_eq!(
            rules(&mut bench),
            [(Rule::NoRegister, "§11.3")],
            "{offset:#x}"
        );
    }
}

#[test]
fn commands_go_one_at_a_time() {
    for freedom in freedoms() {
        let mut bench = Bench::new(Config::legacy(), freedom);
        bench.write64(RTADDR, ROOT);
        bench.command(SRTP, true);
        assert_eq!(rules(&mut bench), []);
        // Two fields in one write.
        bench.write32(GCMD, TE | QIE);
        assert_eq!(rules(&mut bench), [(Rule::OneCommand, "§11.4.4.1")]);
        bench.machine.settle(100);
        // A second write before the first was answered.
        let mut bench = Bench::new(Config::legacy(), Freedom::Pessimist(0));
        bench.write64(RTADDR, ROOT);
        bench.write32(GCMD, SRTP);
        bench.write32(GCMD, SRTP);
        assert_eq!(rules(&mut bench), [(Rule::OneCommand, "§6.9")]);
    }
}

#[test]
fn translation_needs_a_root_pointer_before_each_enabling() {
    let mut bench = Bench::new(Config::legacy(), Freedom::Random(3));
    bench.command(TE, true);
    assert_eq!(rules(&mut bench), [(Rule::Order, "§6.6")]);
    let mut bench = Bench::legacy(Config::legacy(), Freedom::Random(3));
    assert_eq!(rules(&mut bench), []);
    bench.command(TE, false);
    bench.command(TE, true);
    assert_eq!(rules(&mut bench), [(Rule::Order, "§6.6")]);
}

#[test]
fn the_table_mode_changes_under_translation_only_with_esrtps() {
    for (esrtps, expected) in [(true, vec![]), (false, vec![(Rule::Value, "§11.4.5")])] {
        let config = Config {
            srtp_invalidates: esrtps,
            ..Config::everything()
        };
        let mut bench = Bench::scalable(config, Freedom::Random(3));
        bench.write64(RTADDR, ROOT | 0xc00);
        bench.command(SRTP, true);
        assert_eq!(rules(&mut bench), expected);
    }
}

#[test]
fn the_queue_starts_at_zero_and_stops_when_quiet() {
    let mut bench = Bench::new(Config::legacy(), Freedom::Random(3));
    bench.write64(IQT, 0x20);
    bench.command(QIE, true);
    assert_eq!(rules(&mut bench)[0], (Rule::Queue, "§6.5.2"));

    let mut bench = Bench::legacy(Config::legacy(), Freedom::Random(3));
    bench.command(QIE, false);
    assert_eq!(rules(&mut bench), [], "after a wait");
    assert_eq!(bench.read64(IQH), 0);

    let mut bench = Bench::legacy(Config::legacy(), Freedom::Pessimist(3));
    bench.put(0x12, 0);
    bench.doorbell();
    bench.command(QIE, false);
    assert_eq!(rules(&mut bench), [(Rule::Queue, "§6.5.2")]);
}

#[test]
fn the_tail_must_not_pass_the_head() {
    let mut bench = Bench::legacy(Config::legacy(), Freedom::Pessimist(3));
    let head = bench.read64(IQH);
    bench.put(0x12, 0);
    bench.doorbell();
    assert_eq!(rules(&mut bench), []);
    bench.write64(IQT, head);
    assert_eq!(rules(&mut bench), [(Rule::Queue, "§6.5.2")]);
}

#[test]
fn a_fault_event_is_sent_once_until_its_conditions_are_served() {
    let mut bench = Bench::legacy(Config::legacy(), Freedom::Random(3));
    bench.write32(FECTL + 4, 0x41);
    bench.write32(FECTL + 8, 0xfee0_1000);
    bench.machine.request(&Request::read(DEVICE, 0x5000));
    assert_eq!(bench.machine.take_messages(), [], "masked");
    assert_eq!(bench.read32(FECTL), 0xc000_0000, "IM and IP");
    bench.write32(FECTL, 0);
    let messages = bench.machine.take_messages();
    assert_eq!((messages[0].address, messages[0].data), (0xfee0_1000, 0x41));
    assert_eq!(bench.read32(FECTL), 0);
    bench.machine.request(&Request::read(DEVICE, 0x6000));
    assert_eq!(bench.machine.take_messages(), [], "PPF was set");
    assert_eq!(bench.read32(FSTS), 2, "PPF, FRI 0");
    for record in 0..2 {
        bench.write32(FRCD + 16 * record + 12, 0x8000_0000);
    }
    assert_eq!(bench.read32(FSTS) & 3, 0);
    bench.machine.request(&Request::read(DEVICE, 0x6000));
    assert_eq!(bench.machine.take_messages().len(), 1);
    assert_eq!(bench.read32(FSTS), 0x202, "FRI 2");
}

#[test]
fn a_masked_event_is_dropped_if_its_conditions_are_served_first() {
    let mut bench = Bench::legacy(Config::legacy(), Freedom::Random(3));
    bench.machine.request(&Request::read(DEVICE, 0x5000));
    bench.write32(FRCD + 12, 0x8000_0000);
    assert_eq!(bench.read32(FECTL), 0x8000_0000);
    bench.write32(FECTL, 0);
    assert_eq!(bench.machine.take_messages(), []);
}

#[test]
fn protected_memory_blocks_without_a_fault() {
    let mut bench = Bench::new(Config::legacy(), Freedom::Random(3));
    bench.write32(0x68, 0xffff_ffff);
    assert_eq!(bench.read32(0x68), 0xffe0_0000, "the alignment shows");
    bench.write32(0x68, 0x20_0000);
    bench.write32(0x6c, 0x20_0000);
    bench.write32(0x64, 0x8000_0000);
    assert_eq!(bench.read32(0x64), 0x8000_0001);
    let inside = bench
        .machine
        .request(&Request::new(DEVICE, 0x3f_f000, Access::Write));
    assert_eq!((inside.address(), inside.condition()), (None, None));
    assert_eq!(
        bench
            .machine
            .request(&Request::write(DEVICE, 0x40_0000))
            .address(),
        Some(0x40_0000)
    );
    bench.write32(0x68, 0);
    assert_eq!(rules(&mut bench), [(Rule::Busy, "§11.4.8")]);
    bench.write32(0x64, 0);
    assert_eq!(bench.read32(0x64), 0);
    assert_eq!(
        bench
            .machine
            .request(&Request::write(DEVICE, 0x20_0000))
            .address(),
        Some(0x20_0000)
    );
}

#[test]
fn no_access_makes_the_model_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    for config in [
        Config::legacy(),
        Config::everything(),
        Config::scalable().non_coherent(),
    ] {
        for freedom in [Freedom::Random(1), Freedom::Pessimist(1)] {
            let mut machine = Machine::builder()
                .unit(config.clone())
                .device(DEVICE, 0)
                .freedom(freedom)
                .build()
                .expect("good");
            for _ in 0..20_000 {
                let width = if random.bool() {
                    Width::Dword
                } else {
                    Width::Qword
                };
                let offset = if random.bool() {
                    random.usize(..0x100) & !3
                } else {
                    random.usize(..0x2000)
                };
                match random.u8(..8) {
                    0 => machine.tick(),
                    1 | 2 => {
                        machine.read(0, offset, width);
                    }
                    3 => machine.write_u64(random.u64(..0x1_0000) & !7, random.u64(..)),
                    4 => {
                        machine.request(&Request::read(DEVICE, random.u64(..)));
                    }
                    5 => machine.write(0, offset, width, random.u64(..0x10_0000)),
                    _ => machine.write(0, offset, width, random.u64(..)),
                }
            }
        }
    }
}

#[test]
fn version_and_capabilities_read_as_composed() {
    let mut bench = Bench::new(Config::legacy(), Freedom::Random(0));
    assert_eq!(bench.read32(0), 0x10);
    // §11.4.2, §11.4.3; fields by literal: ND 6, PLMR, PHMR, SAGAW 6, MGAW 47, ZLR, FRO 20h,
    // SSLPS 3, PSI, NFR 7, MAMV 18, DWD, DRD.
    let cap = 6
        | 1 << 5
        | 1 << 6
        | 6 << 8
        | 47 << 16
        | 1 << 22
        | 0x20 << 24
        | 3 << 34
        | 1 << 39
        | 7 << 40
        | 18 << 48
        | 3 << 54;
    assert_eq!(bench.read64(8), cap);
    let ecap = 0b1101_1011 | 0x50 << 8 | 15 << 20 | 1 << 46;
    assert_eq!(bench.read64(0x10), ecap);
}

#[test]
fn memory_type_registers_exist_with_mts_and_refuse_what_is_no_type() {
    let config = Config {
        memory_type: true,
        fault_offset: 0x60,
        ..Config::scalable()
    };
    let mut b = Bench::new(config, Freedom::Random(0));
    assert_eq!(b.read64(0x100), 0x50a);
    for (offset, good, bad) in [
        (0x108, 0xc06, 0xc02),
        (0x120, 0x0605_0401_0006_0606, 0x0605_0401_0006_0603),
        (0x180, 0x1000_0006, 0x1000_0106),
        (0x218, 0x3fff_f000_0800, 0x3fff_f000_0801),
    ] {
        b.write64(offset, good);
        assert_eq!(
            (b.read64(offset), b.violations()),
            (good, vec![]),
            "{offset:#x}"
        );
        b.write64(offset, bad);
        assert_eq!(b.violations().len(), 1, "{offset:#x}");
    }
    let mut b = Bench::new(Config::scalable(), Freedom::Random(0));
    b.write64(0x108, 0xc06);
    assert!(b.violations()[0].starts_with("NoRegister"));
}
