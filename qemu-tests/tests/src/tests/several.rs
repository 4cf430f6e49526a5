//! Several CPUs, and several guests at once.

use crate::bench::{Bench, end};
use crate::check::{Deviation, Outcome, check, check_eq};
use crate::registry::boot_test;
use hypervisor_abi::Outcome as Word;
use iommu_abi::Op;
use iommu_core::Nanoseconds;
use kernel::cpu::{self, MAX_CPUS};
use kernel::guest::{Access, BackEnd, Endings, Guest, Lives, Order, Stopper};
use kernel::log::report;
use kernel::memory;
use kernel::time;
use kernel::turns::{self, Countdown, Counted, Task, Turn};
use kernel::vcpu::Ending;
use limits::deed;

/// Longer than any of these guests needs, in the machine's time.
const LONG: Nanoseconds = Nanoseconds::from_millis(900_000);

/// Takes turns, and notes on which CPU each was.
#[derive(Default)]
struct Walker {
    turns: u32,
    /// One bit for each CPU.
    seen: u64,
    /// Where its stack was.
    stack: u64,
}

/// Turns of each walker.
const TURNS: u32 = 5;

impl Task for Walker {
    fn turn(&mut self) -> Turn {
        self.turns += 1;
        self.seen |= 1 << cpu::index();
        self.stack = (&raw const self.turns).addr() as u64;
        let local = 0_u64;
        self.stack = (&raw const local).addr() as u64;
        match self.turns {
            TURNS => Turn::Over,
            // Nothing wakes it but the time.
            2 => Turn::Wait(Nanoseconds(time::now().0 + 3_000_000)),
            _ => Turn::Again,
        }
    }
}

boot_test!(
    all_cpus_are_started_and_take_turns,
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1 2 4",
);
fn all_cpus_are_started_and_take_turns(bench: &mut Bench) -> Outcome {
    bench.host();
    let cpus = cpu::count();
    let mut walkers: [Walker; 2 * MAX_CPUS] = Default::default();
    let mut tasks = walkers.each_mut().map(|walker| walker as &mut dyn Task);
    check_eq!(turns::together(&mut tasks), 0, "tasks without a place");
    for (number, walker) in walkers.iter().enumerate() {
        check_eq!(walker.turns, TURNS, "turns");
        let wanted = 1 << (number % cpus);
        check_eq!(walker.seen, wanted, "CPUs of task {number}");
    }
    for one in 0..cpus {
        for other in 0..one {
            let [one, other] = [walkers[one].stack, walkers[other].stack];
            check!(
                one.abs_diff(other) > 4096,
                "{one:#x} and {other:#x} are one stack"
            );
        }
    }
    Ok(())
}

boot_test!(
    four_cpus_are_four,
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "4",
    logs = "4 processors, of which 4 are used",
);
fn four_cpus_are_four(bench: &mut Bench) -> Outcome {
    bench.host();
    check_eq!(cpu::count(), 4, "CPUs");
    Ok(())
}

boot_test!(
    with_32_bit_apic_ids_all_cpus_are_started,
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "3",
    unit = "eim=on",
    logs = "3 processors, of which 3 are used",
);
fn with_32_bit_apic_ids_all_cpus_are_started(bench: &mut Bench) -> Outcome {
    bench.host();
    check!(cpu::apic::is_x2apic(), "the mode of the local APICs");
    all_cpus_are_started_and_take_turns(bench)
}

/// A guest's run went as it should, by what was seen of so many trials or more.
fn well(guest: &Guest, least: u64) -> Outcome {
    check_eq!(
        guest.ending(),
        Some(Ending::Finished(Word::Pass)),
        "how it ended"
    );
    let trials = guest.trials();
    check_eq!(trials.failed, 0, "trials that did not hold");
    check!(trials.all >= least, "{} trials", trials.all);
    Ok(())
}

/// What is free now, in pages, and used of the heap, in bytes.
fn in_use() -> (u64, usize) {
    (memory::counters().free, memory::heap_counters().used)
}

/// Two guests of the program that binds its own tables and tries what it must not.
fn two_good_guests(bench: &mut Bench, seed: u64, parameter: u64) -> Result<[Guest; 2], Deviation> {
    let copiers = bench.copiers(2)?;
    let mut guests = [
        bench.guest(&Order {
            label: "one",
            parameter,
            ..Order::new("nested-bind", seed, copiers[0])
        })?,
        bench.guest(&Order {
            label: "other",
            parameter,
            ..Order::new("nested-bind", !seed, copiers[1])
        })?,
    ];
    guests.iter_mut().for_each(|guest| guest.set_limit(LONG));
    Ok(guests)
}

/// All that they have is given back.
fn end_all(guests: [Guest; 2]) -> Outcome {
    guests.into_iter().try_for_each(end)
}

/// Nothing waits for a flush that failed.
fn nothing_is_parked(bench: &mut Bench) -> Outcome {
    let parked = bench.driver().quarantined();
    check_eq!(parked, Default::default(), "what lies in quarantine");
    Ok(())
}

fn two_guests(bench: &mut Bench, round: u64) -> Outcome {
    let seed = bench.seed().wrapping_add(round);
    let mut guests = two_good_guests(bench, seed, 0)?;
    let [one, other] = &mut guests;
    turns::together(&mut [one, other]);
    guests.iter().try_for_each(|guest| well(guest, 50))?;
    end_all(guests)
}

boot_test!(
    two_guests_run_at_once_and_everything_of_theirs_comes_back,
    caching = "off",
    cpus = "1 2 4",
    machine = "-device edu,addr=6,dma_mask=0xffffffffffffffff",
    provokes = "refused-dma refused-at-once absent-interrupt",
    seconds = "60",
);
fn two_guests_run_at_once_and_everything_of_theirs_comes_back(bench: &mut Bench) -> Outcome {
    // What is made once, at first use, is made in the first round.
    two_guests(bench, 0)?;
    let before = in_use();
    two_guests(bench, 1)?;
    check_eq!(in_use(), before, "free pages and bytes of the heap");
    nothing_is_parked(bench)
}

/// Two guests of the program that turns against its CPU.
fn two_of_limits(bench: &mut Bench, parameters: [u64; 2]) -> Result<[Guest; 2], Deviation> {
    let copiers = bench.copiers(2)?;
    let seed = bench.seed() | 1;
    let [one, other] = parameters;
    let mut guests = [
        bench.guest(&Order {
            parameter: one,
            ..Order::new("limits", seed, copiers[0])
        })?,
        bench.guest(&Order {
            parameter: other,
            ..Order::new("limits", !seed, copiers[1])
        })?,
    ];
    guests.iter_mut().for_each(|guest| guest.set_limit(LONG));
    Ok(guests)
}

boot_test!(
    guests_that_share_a_cpu_keep_their_vector_registers,
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
    machine = "-device edu,addr=6,dma_mask=0xffffffffffffffff",
);
fn guests_that_share_a_cpu_keep_their_vector_registers(bench: &mut Bench) -> Outcome {
    let mut guests = two_of_limits(bench, [deed::VECTORS; 2])?;
    let [one, other] = &mut guests;
    turns::together(&mut [one, other]);
    for guest in &guests {
        check_eq!(
            guest.ending(),
            Some(Ending::Finished(Word::Pass)),
            "how it ended"
        );
        let mut figures = guest.exits().figures();
        let slices = figures.find(|(name, _)| *name == "exits.host-interrupt");
        let slices = slices.map_or(0, |(_, count)| count);
        check!(slices > 5, "it was interrupted {slices} times");
    }
    end_all(guests)
}

/// Stops a guest when the time has come.
struct Killer {
    victim: Stopper,
    at: Nanoseconds,
}

impl Task for Killer {
    fn turn(&mut self) -> Turn {
        if time::now() < self.at {
            return Turn::Wait(self.at);
        }
        self.victim.stop();
        Turn::Over
    }
}

boot_test!(
    a_guest_that_never_yields_is_stopped_by_another_cpu_and_its_neighbour_goes_on,
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1 2 4",
    machine = "-device edu,addr=6,dma_mask=0xffffffffffffffff",
);
fn a_guest_that_never_yields_is_stopped_by_another_cpu_and_its_neighbour_goes_on(
    bench: &mut Bench,
) -> Outcome {
    let mut guests = two_of_limits(bench, [deed::VECTORS, deed::LOOP])?;
    let mut killer = Killer {
        victim: guests[1].stopper(),
        at: Nanoseconds(time::now().0 + 100_000_000),
    };
    let begun = time::now();
    let [good, looping] = &mut guests;
    turns::together(&mut [good, looping, &mut killer]);
    let endings = [guests[0].ending(), guests[1].ending()];
    let wanted = [Some(Ending::Finished(Word::Pass)), Some(Ending::Stopped)];
    check_eq!(endings, wanted, "how they ended");
    check!(
        time::now().since(begun) < LONG,
        "the loop ran out of time first"
    );
    end_all(guests)
}

/// Panics when the others have begun.
struct Panicking {
    at: Nanoseconds,
}

impl Task for Panicking {
    fn turn(&mut self) -> Turn {
        match time::now() < self.at {
            true => Turn::Wait(self.at),
            false => panic!("this CPU has had enough"),
        }
    }
}

/// Is in the middle of a log record most of the time.
struct Talker;

impl Task for Talker {
    fn turn(&mut self) -> Turn {
        defmt::trace!("talking");
        Turn::Again
    }
}

boot_test!(
    a_panic_stops_all_other_cpus_first,
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "4",
    exit = "panic",
    says = "3 of 3 other CPUs stopped",
);
fn a_panic_stops_all_other_cpus_first(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?.id();
    let mut looping = bench.guest(&Order {
        parameter: deed::LOOP,
        ..Order::new("limits", bench.seed(), copier)
    })?;
    looping.set_limit(LONG);
    let mut panicking = Panicking {
        at: Nanoseconds(time::now().0 + 50_000_000),
    };
    // The fourth CPU halts.
    turns::together(&mut [&mut panicking, &mut looping, &mut Talker]);
    Err(Deviation::failed(format_args!("nobody panicked")))
}

/// Two guests that behave and one that does not, all at once; how the latter's lives ended.
fn beside_a_hostile_one(
    bench: &mut Bench,
    parameter: u64,
    least_trials: u64,
    life: Nanoseconds,
) -> Result<Endings, Deviation> {
    let copiers = bench.copiers(3)?;
    let (host, seed) = (bench.host(), bench.seed());
    let [one, other] = two_good_guests(bench, seed, parameter)?;
    let countdown = Countdown::new(2);
    let order = Order {
        label: "hostile",
        pages: HOSTILE_PAGES,
        access: Access::Mediated,
        ..Order::new("hostile-guest", seed, copiers[2])
    };
    let lives = Lives::new(&host, bench.archive(), order, life, &countdown);
    let mut lives =
        lives.map_err(|error| Deviation::failed(format_args!("no hostile guest: {error}")))?;
    let mut one = Counted::new(one, &countdown);
    let mut other = Counted::new(other, &countdown);
    turns::together(&mut [&mut one, &mut lives, &mut other]);
    lives.end();
    if let Some(error) = lives.error() {
        return Err(Deviation::failed(format_args!("a life: {error}")));
    }
    let endings = lives.endings();
    drop(lives);
    let guests = [one.task, other.task];
    guests
        .iter()
        .try_for_each(|guest| well(guest, least_trials))?;
    end_all(guests)?;
    Ok(endings)
}

/// Of the hostile guest.
const HOSTILE_PAGES: usize = 160;
/// The most time that one life may take.
const LIFE: Nanoseconds = Nanoseconds::from_millis(20_000);

fn lived(endings: &Endings, least: u64) -> Outcome {
    check_eq!(
        endings.failed,
        0,
        "lives that could not be made or taken back"
    );
    check!(endings.lives() >= least, "{} lives", endings.lives());
    let calls = endings.hypercalls;
    check!(
        calls > 20 * endings.lives(),
        "{calls} calls in {} lives",
        endings.lives()
    );
    Ok(())
}

boot_test!(
    two_guests_are_left_alone_by_a_hostile_one_beside_them,
    widths = "48",
    caching = "off",
    cpus = "1 2 4",
    machine = "-device edu,addr=6,dma_mask=0xffffffffffffffff -device edu,addr=7,dma_mask=0xffffffffffffffff",
    provokes = "refused-dma refused-at-once absent-interrupt",
    seconds = "90",
);
fn two_guests_are_left_alone_by_a_hostile_one_beside_them(bench: &mut Bench) -> Outcome {
    // What is made once, at first use, is made in the first round.
    beside_a_hostile_one(bench, nested_bind::SHORT, 10, LIFE)?;
    let before = in_use();
    let endings = beside_a_hostile_one(bench, 0, 50, LIFE)?;
    lived(&endings, 5)?;
    check_eq!(in_use(), before, "free pages and bytes of the heap");
    nothing_is_parked(bench)
}

// QEMU 10.0 sends an access to registers astray now and then if another CPU, on a thread of its
// own, turns a function's memory decoding on or off just then, as the end of a guest does.
boot_test!(
    two_guests_and_a_hostile_one_race_on_cpus_of_their_own,
    qemu = "11.1",
    modes = "legacy first-stage",
    widths = "48",
    caching = "off",
    cpus = "4",
    clock = "host",
    machine = "-device edu,addr=6,dma_mask=0xffffffffffffffff -device edu,addr=7,dma_mask=0xffffffffffffffff",
    provokes = "refused-dma refused-at-once",
    seconds = "120",
);
fn two_guests_and_a_hostile_one_race_on_cpus_of_their_own(bench: &mut Bench) -> Outcome {
    /// Of the host's time.
    const SHORT_LIFE: Nanoseconds = Nanoseconds::from_millis(400);
    let endings = beside_a_hostile_one(bench, nested_bind::SHORT, 10, SHORT_LIFE)?;
    lived(&endings, 2)?;
    nothing_is_parked(bench)
}

boot_test!(
    a_call_over_large_tables_is_done_in_parts_and_is_one_to_the_guest,
    caching = "off",
    cpus = "1",
    provokes = "refused-dma refused-at-once absent-interrupt",
    seconds = "60",
);
fn a_call_over_large_tables_is_done_in_parts_and_is_one_to_the_guest(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?.id();
    for back_end in [BackEnd::Svm, BackEnd::Direct] {
        let mut guest = bench.guest(&Order {
            back_end,
            ..Order::new("nested-bind", bench.seed(), copier)
        })?;
        guest.run(LONG);
        well(&guest, 50)?;
        let taken = guest.meter().taken(Op::Invalidate);
        let more = taken.parts - taken.calls;
        check!(more >= 2, "{more} more parts than calls");
        end(guest)?;
    }
    Ok(())
}

/// How long a guest's calls took: the longest of all, and the longest that only reads.
fn longest_calls(guest: &Guest) -> [u64; 2] {
    let meter = guest.meter();
    [meter.total().longest, meter.taken(Op::FaultRead).longest]
}

boot_test!(
    a_hostile_guest_delays_the_calls_of_another_within_bounds,
    qemu = "11.1",
    widths = "48",
    caching = "off",
    cpus = "2",
    machine = "-device edu,addr=6,dma_mask=0xffffffffffffffff",
    provokes = "refused-dma refused-at-once absent-interrupt",
    seconds = "60",
);
fn a_hostile_guest_delays_the_calls_of_another_within_bounds(bench: &mut Bench) -> Outcome {
    /// Two CPUs share what the emulator counts as one time, so twice is as on CPUs of their own.
    const MOST_TIMES: u64 = 4;
    /// 3.9 million instructions: what a part of a call may look at (65,536 entries), at less
    /// than sixty for each, with the tables that it makes for new ones. It is the emulator's
    /// time, in which no hardware is waited for.
    const MOST_ALONE: u64 = 4_000_000_000;
    /// A call that only reads waits for locks and for interrupts.
    const MOST_TO_READ: u64 = 100_000_000;
    let copiers = bench.copiers(2)?;
    let (host, seed) = (bench.host(), bench.seed());
    let order = Order::new("nested-bind", seed, copiers[0]);
    let mut alone = bench.guest(&order)?;
    alone.run(LONG);
    well(&alone, 50)?;
    let before = longest_calls(&alone);
    if let Some(op) = alone.meter().slowest() {
        defmt::info!("the slowest operation alone: {}", defmt::Debug2Format(&op));
    }
    end(alone)?;

    let mut beside = bench.guest(&order)?;
    beside.set_limit(LONG);
    let countdown = Countdown::new(1);
    let order = Order {
        label: "hostile",
        pages: HOSTILE_PAGES,
        access: Access::Mediated,
        ..Order::new("hostile-guest", seed, copiers[1])
    };
    let lives = Lives::new(&host, bench.archive(), order, LIFE, &countdown);
    let mut lives =
        lives.map_err(|error| Deviation::failed(format_args!("no hostile guest: {error}")))?;
    let mut beside = Counted::new(beside, &countdown);
    turns::together(&mut [&mut beside, &mut lives]);
    lives.end();
    lived(&lives.endings(), 5)?;
    well(&beside.task, 50)?;
    let after = longest_calls(&beside.task);
    for (name, count) in [
        ("latency.longest-ns.alone", before[0]),
        ("latency.longest-ns.beside", after[0]),
        ("latency.fault-read-ns.alone", before[1]),
        ("latency.fault-read-ns.beside", after[1]),
    ] {
        report::figure(name, count);
    }
    check!(
        before[0] < MOST_ALONE,
        "{} ns, and nobody was there",
        before[0]
    );
    let [longest, reading] = after;
    check!(
        longest < MOST_TIMES * before[0],
        "{longest} ns, and {} alone",
        before[0]
    );
    check!(
        reading < MOST_TO_READ,
        "{reading} ns to read, and {} alone",
        before[1]
    );
    end(beside.task)
}
