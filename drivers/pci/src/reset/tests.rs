//! Each method on a machine of bytes, what each waits for, and what is put back.

use super::method::NoBusReset;
use super::*;
use crate::fake::{Builder, FULL_ACCESS_CONTROL, Machine, Time, id, scanned};

const DEVICE: (u8, u8, u8) = (1, 0, 0);

fn device() -> DeviceId {
    id(DEVICE.0, DEVICE.1, DEVICE.2)
}

/// A function behind a root port, with BARs, at work.
fn machine(describe: impl FnOnce(Builder<'_>)) -> Machine {
    let machine = Machine::new();
    machine
        .root_port(0, 1, 0, 1, 1)
        .access_control(0x140, FULL_ACCESS_CONTROL, 0x1d);
    describe(at_work(machine.express(1, 0, 0, 0)));
    machine
}

fn at_work(builder: Builder<'_>) -> Builder<'_> {
    builder
        .bar32(0, 0xfe00_0000, 0x1000)
        .bar64(2, 0x80_0000_0000, 0x10_0000)
        .command(0b110)
}

fn reset_with(
    machine: &Machine,
    time: &Time,
    is_in_use: &dyn Fn(DeviceId) -> bool,
) -> Result<Done, ResetFailure> {
    let topology = scanned(machine);
    let resetter = Resetter {
        topology: &topology,
        access: machine,
        clock: time,
        limits: ResetLimits::default(),
    };
    resetter.reset(device(), is_in_use)
}

fn reset(machine: &Machine) -> Result<Done, ResetFailure> {
    reset_with(machine, &Time::default(), &|_| false)
}

const fn done(method: Method) -> Result<Done, ResetFailure> {
    Ok(Done {
        method,
        was_busy: false,
    })
}

#[test]
fn the_first_method_that_a_function_has_is_taken_and_resets_it_once() {
    let bus = Method::Bus(id(0, 1, 0));
    let all = |builder: Builder<'_>| {
        builder.function_reset().advanced_reset().power(false);
    };
    let without_first = |builder: Builder<'_>| {
        builder.advanced_reset().power(false);
    };
    let power = |builder: Builder<'_>| {
        builder.power(false);
    };
    let keeps = |builder: Builder<'_>| {
        builder.power(true);
    };
    let cases: [(fn(Builder<'_>), Method); 4] = [
        (all, Method::Function),
        (without_first, Method::AdvancedFeatures),
        (power, Method::Power),
        (keeps, bus),
    ];
    for (describe, method) in cases {
        let machine = machine(describe);
        assert_eq!(reset(&machine), done(method));
        assert_eq!(machine.resets(device()), 1, "{method:?}");
    }
}

#[test]
fn addresses_come_back_and_bus_mastering_does_not() {
    let bars = |bytes: &[u8]| bytes[0x10..0x28].to_vec();
    let machine = machine(|builder| {
        builder.function_reset().raw(0x88, 0x2010);
    });
    let before = machine.bytes(device());
    reset(&machine).unwrap();
    let after = machine.bytes(device());
    assert_eq!(bars(&after), bars(&before));
    assert_eq!(after[0x88..0x8a], before[0x88..0x8a], "device control");
    assert_eq!(after[4], 0b010, "memory decoding alone");
    assert_eq!(after[5], 0b100, "no interrupt line");
}

#[test]
fn requests_under_way_are_awaited() {
    let machine = machine(|builder| {
        builder.function_reset().busy(10);
    });
    assert_eq!(reset(&machine), done(Method::Function));
    let written = machine.written(device());
    let stop = written
        .iter()
        .position(|(at, value)| *at == 4 && value & 4 == 0);
    let reset = written
        .iter()
        .position(|(at, value)| *at == 0x88 && value & 1 << 15 != 0);
    assert!(stop.unwrap() < reset.unwrap(), "bus mastering is off first");
}

#[test]
fn a_function_whose_requests_never_end_is_reset_all_the_same_and_that_is_told() {
    let machine = machine(|builder| {
        builder.function_reset().busy(u32::MAX);
    });
    let time = Time::default();
    let done = reset_with(&machine, &time, &|_| false).unwrap();
    assert!(done.was_busy);
    assert!(time.now() < Nanoseconds::from_millis(1_300));
}

#[test]
fn a_function_that_asks_for_patience_gets_it_within_limits() {
    let patient = machine(|builder| {
        builder.function_reset().patience(100);
    });
    assert_eq!(reset(&patient), done(Method::Function));
    let endless = machine(|builder| {
        builder.function_reset().patience(u32::MAX);
    });
    let time = Time::default();
    assert_eq!(
        reset_with(&endless, &time, &|_| false),
        Err(ResetFailure::NotReady(Method::Function))
    );
    assert!(time.now() < Nanoseconds::from_millis(6_000));
}

#[test]
fn the_wait_after_a_reset_is_as_long_as_it_must_be() {
    let function = |builder: Builder<'_>| {
        builder.function_reset();
    };
    let advanced = |builder: Builder<'_>| {
        builder.advanced_reset();
    };
    let power = |builder: Builder<'_>| {
        builder.power(false);
    };
    let cases: [(fn(Builder<'_>), u64); 4] =
        [(function, 100), (advanced, 100), (power, 20), (|_| {}, 102)];
    for (describe, least) in cases {
        let machine = machine(describe);
        let time = Time::default();
        reset_with(&machine, &time, &|_| false).unwrap();
        assert!(time.now() >= Nanoseconds::from_millis(least), "{least} ms");
    }
}

#[test]
fn a_bus_is_reset_only_if_nobody_else_behind_it_is_at_work() {
    let machine = machine(|_| {});
    at_work(machine.express(1, 0, 1, 0));
    machine.builder(device()).multiple_functions();
    let time = Time::default();
    let other = id(1, 0, 1);
    let refused = reset_with(&machine, &time, &|id| id == other).unwrap_err();
    assert_eq!(
        refused,
        ResetFailure::NoMethod(NoMethod {
            forbidden: None,
            bus: NoBusReset::InUse(other)
        })
    );
    assert!(std::format!("{refused}").contains("0000:01:00.1 on the same bus is in use"));
    assert_eq!((machine.resets(device()), machine.resets(other)), (0, 0));
    let before = machine.bytes(other);
    assert!(reset(&machine).is_ok());
    assert_eq!((machine.resets(device()), machine.resets(other)), (1, 1));
    assert_eq!(machine.bytes(other)[0x10..0x28], before[0x10..0x28]);
}

#[test]
fn bridges_behind_a_bus_that_is_reset_lead_where_they_led() {
    let machine = Machine::new();
    machine.root_port(0, 1, 0, 1, 3);
    machine.bridge(1, 0, 0, 2, 3).port(5);
    machine.bridge(2, 0, 0, 3, 3).port(6);
    machine.bridge(2, 1, 0, 4, 4).port(6);
    at_work(machine.endpoint(3, 0, 0));
    let topology = scanned(&machine);
    let time = Time::default();
    let resetter = Resetter {
        topology: &topology,
        access: &machine,
        clock: &time,
        limits: ResetLimits::default(),
    };
    let target = id(3, 0, 0);
    let before = machine.bytes(target);
    let result = resetter.reset(target, &|_| false).unwrap();
    assert_eq!(
        result.method,
        Method::Bus(id(2, 0, 0)),
        "the nearest bridge"
    );
    assert_eq!(machine.bytes(target)[0x10..0x28], before[0x10..0x28]);
    assert_eq!(machine.resets(id(1, 0, 0)), 0);
    // The switch itself, from above.
    let before = machine.bytes(id(2, 0, 0));
    resetter.reset(id(1, 0, 0), &|_| false).unwrap();
    assert_eq!(machine.resets(id(2, 0, 0)), 1);
    assert_eq!(machine.bytes(id(2, 0, 0))[0x18..0x1b], before[0x18..0x1b]);
    assert_eq!(
        machine.bytes(id(2, 0, 0))[4],
        0b111,
        "bridges go on forwarding"
    );
}

#[test]
fn what_a_row_of_the_table_forbids_is_not_done() {
    // Intel 82579 has a function-level reset that hangs it.
    let machine = machine(|builder| {
        builder.raw(0, 0x1502_8086).function_reset().power(false);
    });
    assert_eq!(reset(&machine), done(Method::Power));
    // Atheros does not survive a bus reset.
    let machine = self::machine(|builder| {
        builder.raw(0, 0x003c_168c);
    });
    let refused = reset(&machine).unwrap_err();
    assert!(matches!(
        refused,
        ResetFailure::NoMethod(NoMethod {
            bus: NoBusReset::Fatal(..),
            ..
        })
    ));
    assert_eq!(machine.resets(device()), 0);
}

#[test]
fn a_function_on_a_root_bus_without_a_method_is_refused_in_words() {
    let machine = Machine::new();
    at_work(machine.endpoint(0, 4, 0));
    let topology = scanned(&machine);
    let resetter = Resetter {
        topology: &topology,
        access: &machine,
        clock: &Time::default(),
        limits: ResetLimits::default(),
    };
    let refused = resetter.reset(id(0, 4, 0), &|_| false).unwrap_err();
    assert_eq!(
        std::format!("{refused}"),
        "it cannot be reset: it has no function-level reset and keeps its state in D3hot, \
         and it is on a root bus, which cannot be reset"
    );
    assert_eq!(machine.bytes(id(0, 4, 0))[4], 0b110, "nothing was written");
}

#[test]
fn a_function_that_was_taken_out_is_told_so_without_a_wait() {
    let machine = machine(|builder| {
        builder.function_reset();
    });
    let topology = scanned(&machine);
    machine.builder(device()).gone();
    let time = Time::default();
    let resetter = Resetter {
        topology: &topology,
        access: &machine,
        clock: &time,
        limits: ResetLimits::default(),
    };
    assert_eq!(
        resetter.reset(device(), &|_| false),
        Err(ResetFailure::Gone)
    );
    assert_eq!(time.now(), Nanoseconds(0));
}
