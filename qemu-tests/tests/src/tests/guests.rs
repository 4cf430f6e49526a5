//! Guests that turn against the CPU: what ends them, and what they cannot reach.

use crate::bench::{Bench, Counter, Line, PLATFORM};
use crate::check::{Deviation, Outcome, check, check_eq};
use crate::registry::boot_test;
use hypervisor_abi::Outcome as Word;
use iommu_core::{Address, Gpa, Nanoseconds, Platform};
use kernel::guest::{Guest, Order};
use kernel::remapping::faults;
use kernel::vcpu::Ending;
use limits::deed;
use x86_64::registers::model_specific::Msr;

/// Longer than any of these guests needs.
const LONG: Nanoseconds = Nanoseconds::from_millis(600_000);

/// Makes a guest of the program `limits` that does this.
fn guest(bench: &mut Bench, parameter: u64) -> Result<Guest, Deviation> {
    let device = bench.copier()?.id();
    let order = Order {
        parameter,
        ..Order::new("limits", bench.seed(), device)
    };
    bench.guest(&order)
}

fn exits(guest: &Guest, name: &str) -> u64 {
    let mut figures = guest.exits().figures();
    let found = figures.find(|(figure, _)| *figure == name);
    found.map_or(0, |(_, count)| count)
}

/// Registers of the host's that a guest could have an eye on: APIC base, EFER, where SVM
/// keeps the host's state, the page attribute table.
fn host_registers() -> [u64; 4] {
    // SAFETY: all exist on a CPU with SVM, and reading them has no effect.
    [0x1b, 0xc000_0080, 0xc001_0117, 0x277].map(|register| unsafe { Msr::new(register).read() })
}

boot_test!(
    a_guest_uses_nothing_of_the_cpu_that_is_not_its_own,
    modes = "legacy",
    widths = "48",
    caching = "off",
);
fn a_guest_uses_nothing_of_the_cpu_that_is_not_its_own(bench: &mut Bench) -> Outcome {
    let mut guest = guest(bench, deed::TRY_EVERYTHING)?;
    let before = host_registers();
    let ending = guest.run(LONG);
    check_eq!(ending, Ending::Finished(Word::Pass), "how it ended");
    check_eq!(host_registers(), before, "registers of the host");
    // Not the guest's word: what the CPU left it for.
    for (name, least) in [
        ("exits.forbidden", 12),
        ("exits.msr", 13),
        ("exits.port", 1_000),
        ("exits.cpuid", 3),
    ] {
        let count = exits(&guest, name);
        check!(count >= least, "{name}: {count}, not {least} or more");
    }
    Ok(())
}

boot_test!(
    a_triple_fault_ends_the_guest_alone,
    modes = "legacy",
    widths = "48",
    caching = "off",
);
fn a_triple_fault_ends_the_guest_alone(bench: &mut Bench) -> Outcome {
    let mut guest = guest(bench, deed::TRIPLE_FAULT)?;
    check_eq!(guest.run(LONG), Ending::ShutDown, "how it ended");
    Ok(())
}

boot_test!(
    what_is_not_the_guest_s_is_not_mapped_for_it,
    modes = "legacy",
    widths = "48",
    caching = "off",
);
fn what_is_not_the_guest_s_is_not_mapped_for_it(bench: &mut Bench) -> Outcome {
    let host = bench.host();
    let units = host.remapping.dmar.units();
    let unit = units.map(|unit| unit.drhd.register_base.as_u64()).next();
    let config = host.bus.ecam.regions().map(|region| region.base.as_u64());
    let places = [
        // The hypervisor's image, the local APIC, the I/O APIC, below and behind memory.
        Some(0x10_0000),
        Some(0xfee0_0000),
        Some(0xfec0_0000),
        Some(0x3fff_f000),
        unit,
        config.into_iter().next(),
    ];
    let chosen = bench.random().usize(..places.len());
    let address = places.get(chosen).copied().flatten();
    let address = address.ok_or(Deviation::failed(format_args!("no place {chosen}")))?;
    let mut guest = guest(bench, deed::touch(address))?;
    for place in places.into_iter().flatten() {
        let mapped = guest.vm().nested().translate(Gpa::new(place));
        check_eq!(mapped, None, "what {place:#x} leads to");
    }
    let own = guest.vm().start().memory_base;
    check!(
        guest.vm().nested().translate(Gpa::new(own)).is_some(),
        "the guest's own memory is mapped"
    );
    let Ending::Absent(touched) = guest.run(LONG) else {
        return Err(Deviation::failed(format_args!("it read at {address:#x}")));
    };
    check_eq!(touched.align_down(12), Gpa::new(address), "what ended it");
    Ok(())
}

boot_test!(
    a_guest_that_never_yields_is_stopped,
    modes = "legacy",
    widths = "48",
    caching = "off",
);
fn a_guest_that_never_yields_is_stopped(bench: &mut Bench) -> Outcome {
    let mut guest = guest(bench, deed::LOOP)?;
    let ending = guest.run(Nanoseconds::from_millis(2_000));
    check_eq!(ending, Ending::TimedOut, "how it ended");
    let slices = exits(&guest, "exits.host-interrupt");
    check!(slices > 10, "it was interrupted {slices} times");
    Ok(())
}

boot_test!(
    a_guest_that_halts_for_ever_is_noticed,
    modes = "legacy",
    widths = "48",
    caching = "off",
);
fn a_guest_that_halts_for_ever_is_noticed(bench: &mut Bench) -> Outcome {
    let mut guest = guest(bench, deed::HALT)?;
    check_eq!(guest.run(LONG), Ending::Halted, "how it ended");
    Ok(())
}

boot_test!(
    rubbish_hypercalls_harm_nobody,
    widths = "48",
    caching = "off",
);
fn rubbish_hypercalls_harm_nobody(bench: &mut Bench) -> Outcome {
    let mut guest = guest(bench, deed::RUBBISH_CALLS)?;
    let free = kernel::memory::counters().free;
    // It ends well, because it goes on to what it may do.
    let ending = guest.run(LONG);
    check_eq!(ending, Ending::Finished(Word::Pass), "how it ended");
    let calls = guest.vm().hypercalls();
    check!(calls > 4_000, "{calls} calls were made");
    check_eq!(kernel::memory::counters().free, free, "free pages");
    Ok(())
}

boot_test!(
    faults_are_read_while_a_flood_of_them_keeps_the_event_masked,
    modes = "legacy",
    widths = "48",
    caching = "off",
    provokes = "foreign-interrupt",
    complains = "Interrupt Mask set, irq is not generated",
);
fn faults_are_read_while_a_flood_of_them_keeps_the_event_masked(bench: &mut Bench) -> Outcome {
    /// More than the driver lets pass in a second.
    const MOST: u64 = 3_000;
    /// Longer than a fault event takes.
    const PATIENCE: Nanoseconds = Nanoseconds::from_millis(20);
    static FOREIGN: Counter = Counter::new();

    let copier = bench.copier()?;
    let other = bench.another_device(copier.id())?;
    let foreign = Line::allocate(bench.driver(), other, &FOREIGN)?;
    copier.send_interrupts_as(foreign.message()?);
    let told = |before: u64| {
        let begun = PLATFORM.now();
        while faults::taken() == before && PLATFORM.now().since(begun) < PATIENCE {
            PLATFORM.relax();
        }
        faults::taken() > before
    };
    let masked = (0..MOST).any(|_| {
        let before = faults::taken();
        copier.raise_interrupt();
        !told(before)
    });
    check!(masked, "after {MOST} faults in a row each still interrupts");

    let unread = faults::taken();
    let interrupts = faults::interrupts();
    let mut guest = guest(bench, deed::LOOP)?;
    check_eq!(
        faults::taken(),
        unread,
        "faults that were read before it ran"
    );
    let ending = guest.run(Nanoseconds::from_millis(200));
    check_eq!(ending, Ending::TimedOut, "how it ended");
    check!(faults::taken() > unread, "the last fault was never read");
    check_eq!(faults::interrupts(), interrupts, "fault events");
    Ok(())
}
