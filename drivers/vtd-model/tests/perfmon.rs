//! Performance monitoring, enhanced commands (§10, §11.4.13, §11.4.14) and virtual commands
//! (§11.4.16).

mod common;

use common::*;
use vtd_model::{Config, Freedom, Origin, Perfmon, Promptness, Request, Rule, Width};

const PERFCAP: usize = 0x300;
const PERFINTRSTS: usize = 0x324;
const PERFINTRCTL: usize = 0x328;
const ECMD: usize = 0x400;
const ECRSP: usize = 0x410;
const ENABLE: u64 = 240;
const DISABLE: u64 = 241;
const VCMD: usize = 0xe00;
const VCRSP: usize = 0xe10;
const PAGE: u64 = 0x20_0000;

fn config() -> Config {
    Config {
        enhanced_commands: true,
        perfmon: Some(Perfmon::default()),
        ..Config::scalable_with_ats()
    }
}

fn bench_with(config: Config, freedom: Freedom) -> Bench {
    let mut bench = Bench::scalable_with(config, freedom, Some(Promptness::Prompt));
    bench.pasid(0, SECOND_ENTRY);
    bench.second(0x5000, 1, PAGE | 3);
    bench.second(0x40_0000, 2, 0x60_0083);
    bench
}

/// Submits an enhanced command and waits: status code and result.
fn command(bench: &mut Bench, command: u64, operand: u64) -> u64 {
    bench.write64(ECMD, operand << 16 | command);
    for _ in 0..1000 {
        let response = bench.read64(ECRSP);
        if response & 1 == 0 {
            return response >> 1;
        }
        bench.machine.tick();
    }
    panic!("no response");
}

struct Places {
    configuration: usize,
    freeze: usize,
    overflow: usize,
    counters: usize,
}

fn places(bench: &mut Bench) -> Places {
    let mut offset = |at| bench.read32(at) as usize;
    Places {
        configuration: offset(0x310),
        freeze: offset(0x314),
        overflow: offset(0x318),
        counters: offset(0x31c),
    }
}

/// Programs counter `at` for events of a group and enables it: the status code.
fn count(bench: &mut Bench, at: usize, group: u64, events: u64, flags: u64) -> u64 {
    let configuration = places(bench).configuration + 0x100 * at;
    bench.write64(configuration, events << 32 | group << 8 | flags);
    command(bench, ENABLE, at as u64)
}

fn counter(bench: &mut Bench, at: usize) -> u64 {
    let counters = places(bench).counters;
    bench.read64(counters + 0x400 * at)
}

fn read(bench: &mut Bench, address: u64) {
    bench.machine.request(&Request::read(DEVICE, address));
}

#[test]
fn capabilities_say_what_the_configuration_has() {
    let mut b = bench_with(config(), Freedom::Random(0));
    assert_eq!(b.read64(PERFCAP), 0xf006_0018_0528_0008);
    assert_eq!(b.read64(0x448), 0x3f << 48, "ECCAP_3");
    let mut plain = bench_with(Config::scalable_with_ats(), Freedom::Random(0));
    assert_eq!([plain.read64(PERFCAP), plain.read64(0x448)], [0, 0]);
    plain.write64(ECMD, ENABLE);
    let told = plain.violations();
    assert!(told[0].starts_with("NoRegister"), "{told:?}");
}

#[test]
fn a_counter_counts_its_events_while_it_is_enabled() {
    for freedom in freedoms() {
        let mut b = bench_with(config(), freedom);
        read(&mut b, 0x5000);
        assert_eq!(count(&mut b, 3, 0, 2, 0), 0);
        assert_eq!(count(&mut b, 4, 3, 1, 0), 0);
        for _ in 0..5 {
            read(&mut b, 0x5000);
        }
        assert_eq!(counter(&mut b, 3), 5, "{freedom:?}");
        assert!(counter(&mut b, 4) >= 5, "IOTLB look-ups");
        assert_eq!(command(&mut b, DISABLE, 3), 0);
        read(&mut b, 0x5000);
        assert_eq!(counter(&mut b, 3), 5);
        assert_eq!(b.violations(), [""; 0]);
    }
}

#[test]
fn freezing_stops_all_counters_and_unfreezing_goes_on() {
    let mut b = bench_with(config(), Freedom::Random(0));
    count(&mut b, 0, 0, 2, 0);
    read(&mut b, 0x5000);
    assert_eq!(command(&mut b, 244, 0), 0);
    let freeze = places(&mut b).freeze;
    assert_eq!(b.read64(freeze), 0xff);
    read(&mut b, 0x5000);
    assert_eq!(counter(&mut b, 0), 1);
    assert_eq!(command(&mut b, 245, 0), 0);
    read(&mut b, 0x5000);
    assert_eq!(counter(&mut b, 0), 2);
    assert_eq!(command(&mut b, 243, 0), 0);
    assert_eq!(counter(&mut b, 0), 0, "values reset");
    assert_eq!(command(&mut b, 242, 0), 0);
    let configuration = places(&mut b).configuration;
    assert_eq!(b.read64(configuration), 0, "configuration reset");
}

#[test]
fn an_overflow_is_recorded_interrupts_and_freezes_as_configured() {
    for (flags, message, frozen) in [(0, false, 0), (2, true, 0), (4, false, 0xff)] {
        let mut b = bench_with(config(), Freedom::Random(0));
        b.write32(PERFINTRCTL + 4, 0x41);
        b.write32(PERFINTRCTL + 8, 0xfee0_0000);
        b.write32(PERFINTRCTL, 0);
        let Places {
            freeze,
            overflow,
            counters,
            ..
        } = places(&mut b);
        b.write64(counters, u64::MAX);
        assert_eq!(counter(&mut b, 0), (1 << 40) - 1, "bits above the width");
        count(&mut b, 0, 0, 2, flags);
        read(&mut b, 0x5000);
        read(&mut b, 0x5000);
        let went_on = u64::from(frozen == 0);
        assert_eq!(counter(&mut b, 0), went_on);
        assert_eq!([b.read64(overflow), b.read64(freeze)], [1, frozen]);
        assert_eq!(b.read32(PERFINTRSTS), u32::from(message));
        let sent = b.machine.take_messages();
        let expected = (0xfee0_0000, 0x41, Origin::PerformanceEvent(0));
        assert_eq!(sent.len(), usize::from(message));
        assert!(
            sent.iter()
                .all(|sent| (sent.address, sent.data, sent.origin) == expected)
        );
        b.write32(PERFINTRSTS, 1);
        b.write64(overflow, 1);
        assert_eq!([b.read64(overflow), b.read32(PERFINTRSTS).into()], [0, 0]);
        assert_eq!(b.violations(), [""; 0]);
    }
}

#[test]
fn what_cannot_be_counted_is_refused_with_status_16() {
    let perfmon = Perfmon {
        freeze_on_overflow: false,
        identity_filters: true,
        ..Perfmon::default()
    };
    let config = Config {
        perfmon: Some(perfmon),
        ..config()
    };
    // (group, events, flags, filter register and its value, status)
    let cases = [
        (0, 2, 0, None, 0),
        (0, 0, 0, None, 16),
        (0, 1 << 2, 0, None, 16),
        (5, 1, 0, None, 16),
        (0, 3, 0, None, 0),
        (0, 2, 0, Some((0x14, 1)), 0),
        (0, 3, 0, Some((0x14, 1)), 16),
        (3, 1, 0, Some((0x14, 1)), 16),
        (3, 2, 0, Some((0x18, 1)), 0),
        (3, 1, 0, Some((0x18, 1)), 16),
        (0, 2, 0, Some((0x08, 0x10)), 16),
    ];
    for (group, events, flags, filter, status) in cases {
        let mut b = bench_with(config.clone(), Freedom::Random(0));
        if let Some((at, value)) = filter {
            let configuration = places(&mut b).configuration;
            b.write32(configuration + at, 1 << 31 | value);
        }
        let found = count(&mut b, 0, group, events, flags);
        assert_eq!(found, status, "{group} {events:#x} {filter:?}");
    }
    let mut b = bench_with(config, Freedom::Random(0));
    assert_eq!(command(&mut b, ENABLE, 8), 16, "no such counter");
    assert_eq!(command(&mut b, DISABLE, 8), 16);
    assert_eq!(command(&mut b, 1, 0), 1, "no such command");
    assert_eq!(b.violations(), [""; 0]);
    // Refused at once where the bit does not exist.
    count(&mut b, 0, 0, 2, 4);
    assert!(b.violations()[0].starts_with("Reserved"));
}

#[test]
fn filters_tell_levels_and_address_types_apart() {
    for (level, hits) in [(1, 1), (2, 2), (4, 0)] {
        let mut b = bench_with(config(), Freedom::Pessimist(0));
        let configuration = places(&mut b).configuration;
        b.write32(configuration + 0x18, 1 << 31 | level);
        // What is cached has set its flags, if it has any; here it has none.
        for address in [0x5000, 0x40_0000, 0x41_0000] {
            read(&mut b, address);
        }
        assert_eq!(count(&mut b, 0, 3, 2, 0), 0);
        let mut counted = 0;
        for address in [0x5000, 0x40_0000, 0x41_0000] {
            let before = counter(&mut b, 0);
            for _ in 0..40 {
                read(&mut b, address);
            }
            counted += u64::from(counter(&mut b, 0) > before);
        }
        assert_eq!(counted, hits, "level {level}");
    }
    for (kinds, expected) in [(1, 2), (2, 1), (3, 3)] {
        let mut b = bench_with(config(), Freedom::Random(0));
        let configuration = places(&mut b).configuration;
        b.write32(configuration + 0x14, 1 << 31 | kinds);
        assert_eq!(count(&mut b, 0, 0, 2, 0), 0);
        read(&mut b, 0x5000);
        read(&mut b, 0x5000);
        let request = Request::read(DEVICE, 0x5000).translation(false);
        b.machine.request(&request);
        assert_eq!(counter(&mut b, 0), expected, "AT {kinds}");
    }
}

#[test]
fn registers_of_an_enabled_counter_are_not_written() {
    for (writable_while_enabled, told) in [(false, 2), (true, 1)] {
        let perfmon = Perfmon {
            writable_while_enabled,
            ..Perfmon::default()
        };
        let config = Config {
            perfmon: Some(perfmon),
            ..config()
        };
        let mut b = bench_with(config, Freedom::Random(0));
        count(&mut b, 0, 0, 2, 0);
        let Places {
            configuration,
            counters,
            ..
        } = places(&mut b);
        b.write64(configuration, 1 << 32);
        b.write64(counters, 7);
        let violations = b.machine.take_violations();
        assert_eq!(violations.len(), told, "{violations:?}");
        assert!(violations.iter().all(|told| told.rule == Rule::Busy));
        let expected = if writable_while_enabled { 7 } else { 0 };
        assert_eq!(counter(&mut b, 0), expected);
        assert_eq!(b.read64(configuration), 2 << 32 | 1);
    }
}

#[test]
fn an_enhanced_command_beside_another_command_is_aborted_and_told() {
    let mut b = bench_with(config(), Freedom::Pessimist(0));
    let status = b.read32(GSTS) & 0x96ff_ffff;
    b.write32(GCMD, status & !TE);
    b.write64(ECMD, 244);
    let response = b.read64(ECRSP);
    assert_eq!(response >> 1, 2, "aborted");
    assert!(b.violations()[0].starts_with("OneCommand"));
    // Alone it is carried out; a second one before the answer is dropped.
    b.machine.settle(10);
    b.write64(ECMD, 244);
    b.write64(ECMD, 245);
    assert_eq!(b.read64(ECRSP), 0);
    let freeze = places(&mut b).freeze;
    assert_eq!(b.read64(freeze), 0xff);
    assert_eq!(b.violations().len(), 1);
}

#[test]
fn by_halves_the_operand_comes_first() {
    let mut b = bench_with(config(), Freedom::Pessimist(0));
    let configuration = places(&mut b).configuration;
    b.write64(configuration + 0x200, 2 << 32);
    let operand = 2_u64 << 16;
    b.machine.write(0, ECMD + 4, Width::Dword, operand >> 32);
    assert_eq!(b.read64(ECRSP), 0, "nothing is submitted yet");
    let low = operand & 0xffff_ffff | ENABLE;
    b.machine.write(0, ECMD, Width::Dword, low);
    assert_eq!(b.read64(ECRSP), 0);
    assert_eq!(b.read64(configuration + 0x200) & 1, 1);
}

fn virtual_config(pasid_bits: u8) -> Config {
    Config {
        virtual_commands: true,
        pasid_bits: Some(pasid_bits),
        ..Config::scalable().with_caching_mode()
    }
}

fn virtual_command(bench: &mut Bench, command: u64) -> u64 {
    bench.write64(VCMD, command);
    for _ in 0..1000 {
        let response = bench.read64(VCRSP);
        if response & 1 == 0 {
            return response;
        }
        bench.machine.tick();
    }
    panic!("no response");
}

#[test]
fn pasids_are_given_out_once_and_taken_back() {
    for freedom in freedoms() {
        let mut b = Bench::scalable(virtual_config(2), freedom);
        assert_eq!(b.read64(0xe30), 7, "VCCAP");
        assert_eq!(virtual_command(&mut b, 0), 0, "null");
        let mut given: Vec<u64> = (0..3).map(|_| virtual_command(&mut b, 1) >> 16).collect();
        given.sort_unstable();
        assert_eq!(given, [1, 2, 3]);
        assert_eq!(virtual_command(&mut b, 1) >> 1, 16, "none available");
        assert_eq!(virtual_command(&mut b, 2 << 16 | 2), 0);
        assert_eq!(virtual_command(&mut b, 2 << 16 | 2) >> 1, 16, "invalid");
        assert_eq!(virtual_command(&mut b, 1), 2 << 16);
        assert_eq!(virtual_command(&mut b, 3) >> 1, 1, "undefined");
        assert_eq!(b.violations(), [""; 0]);
    }
}

#[test]
fn an_entry_for_a_pasid_that_was_not_given_out_is_told() {
    for allocate in [true, false] {
        let mut b = Bench::scalable(virtual_config(5), Freedom::Pessimist(0));
        let pasid = if allocate {
            virtual_command(&mut b, 1) >> 16
        } else {
            5
        };
        b.pasid(0, SECOND_ENTRY);
        assert_eq!(b.violations(), [""; 0], "RID_PASID is the driver's own");
        b.pasid(pasid, SECOND_ENTRY);
        let told = b.violations();
        assert_eq!(told.len(), usize::from(!allocate), "{told:?}");
    }
}
