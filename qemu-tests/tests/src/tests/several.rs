//! Several CPUs, and several guests at once.

use crate::bench::Bench;
use crate::check::{Deviation, Outcome, check, check_eq};
use crate::registry::boot_test;
use core::sync::atomic::{AtomicU64, Ordering};
use hypervisor_abi::Outcome as Word;
use iommu_core::Nanoseconds;
use kernel::cpu::{self, MAX_CPUS};
use kernel::guest::{Guest, Order};
use kernel::memory;
use kernel::time;
use kernel::turns::{self, Task, Turn};
use kernel::vcpu::Ending;

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
            check!(one.abs_diff(other) > 4096, "{one:#x} and {other:#x} are one stack");
        }
    }
    Ok(())
}

/// As the machine that is booted has them, and by what it tells.
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

/// How a guest's run went, and that nothing was left behind by it.
fn well(guest: &Guest) -> Outcome {
    check_eq!(guest.ending(), Some(Ending::Finished(Word::Pass)), "how it ended");
    let trials = guest.trials();
    check_eq!(trials.failed, 0, "trials that did not hold");
    check!(trials.all > 50, "{} trials", trials.all);
    Ok(())
}

fn end(guest: Guest) -> Outcome {
    guest
        .end()
        .map_err(|error| Deviation::failed(format_args!("the guest cannot be ended: {error}")))
}

/// What is free now, in pages, and used of the heap, in bytes.
fn in_use() -> (u64, usize) {
    (memory::counters().free, memory::heap_counters().used)
}

fn two_guests(bench: &mut Bench, round: u64) -> Outcome {
    let copiers = bench.copiers(2)?;
    let seed = bench.seed().wrapping_add(round);
    let [mut one, mut other] = [
        bench.guest(&Order {
            label: "one",
            ..Order::new("nested-bind", seed, copiers[0])
        })?,
        bench.guest(&Order {
            label: "other",
            ..Order::new("nested-bind", !seed, copiers[1])
        })?,
    ];
    one.set_limit(LONG);
    other.set_limit(LONG);
    turns::together(&mut [&mut one, &mut other]);
    well(&one)?;
    well(&other)?;
    end(one)?;
    end(other)
}

boot_test!(
    two_guests_run_at_once_and_everything_of_theirs_comes_back,
    caching = "off",
    cpus = "1 2 4",
    machine = "-device edu,addr=6,dma_mask=0xffffffffffffffff",
    provokes = "refused-dma foreign-interrupt absent-interrupt",
    seconds = "60",
);
fn two_guests_run_at_once_and_everything_of_theirs_comes_back(bench: &mut Bench) -> Outcome {
    // What is made once, at first use, is made in the first round.
    two_guests(bench, 0)?;
    let before = in_use();
    two_guests(bench, 1)?;
    check_eq!(in_use(), before, "free pages and bytes of the heap");
    Ok(())
}

static _UNUSED: AtomicU64 = AtomicU64::new(0);
const _: Ordering = Ordering::Relaxed;
