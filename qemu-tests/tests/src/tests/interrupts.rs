//! Interrupts of devices: those that they were given, and no others.

use iommu_core::FaultReason;

use crate::bench::{Bench, Counter, Line, LineCounter, refused_by_entry};
use crate::check::{Outcome, check, check_eq};
use crate::registry::boot_test;

boot_test!(a_devices_interrupt_comes_by_its_own_entry);
fn a_devices_interrupt_comes_by_its_own_entry(bench: &mut Bench) -> Outcome {
    static CAME: Counter = Counter::new();
    let copier = bench.copier()?;
    let line = Line::allocate(bench.driver(), copier.id(), &CAME)?;
    copier.send_interrupts_as(line.message()?);
    for expected in 1..=3 {
        copier.raise_interrupt();
        check!(
            CAME.came_after(expected - 1),
            "interrupt {expected} did not come"
        );
        check_eq!(CAME.count(), expected, "interrupts");
    }
    Ok(())
}

boot_test!(
    an_interrupt_of_another_device_is_refused,
    provokes = "foreign-interrupt"
);
fn an_interrupt_of_another_device_is_refused(bench: &mut Bench) -> Outcome {
    static OWN: Counter = Counter::new();
    static FOREIGN: Counter = Counter::new();
    let copier = bench.copier()?;
    let driver = bench.driver();
    let other = bench.another_device(copier.id())?;
    let own = Line::allocate(driver, copier.id(), &OWN)?;
    let foreign = Line::allocate(driver, other, &FOREIGN)?;

    copier.send_interrupts_as(own.message()?);
    copier.raise_interrupt();
    check!(OWN.came_after(0), "its own interrupt did not come");

    copier.send_interrupts_as(foreign.message()?);
    let fault = bench.fault_of(|| {
        copier.raise_interrupt();
        Ok(())
    })?;
    refused_by_entry(&fault, foreign.index(), FaultReason::INTERRUPT_SOURCE)?;
    check_eq!(fault.device, copier.id(), "the device");
    check_eq!(FOREIGN.count(), 0, "interrupts of the other device");
    Ok(())
}

boot_test!(
    an_interrupt_whose_entry_was_taken_back_is_refused,
    provokes = "absent-interrupt"
);
fn an_interrupt_whose_entry_was_taken_back_is_refused(bench: &mut Bench) -> Outcome {
    static CAME: Counter = Counter::new();
    let copier = bench.copier()?;
    let line = Line::allocate(bench.driver(), copier.id(), &CAME)?;
    copier.send_interrupts_as(line.message()?);
    copier.raise_interrupt();
    check!(CAME.came_after(0), "the interrupt did not come");

    line.free()?;
    let fault = bench.fault_of(|| {
        copier.raise_interrupt();
        Ok(())
    })?;
    check_eq!(
        fault.reason,
        FaultReason::INTERRUPT_ENTRY_NOT_PRESENT,
        "the reason"
    );
    check_eq!(CAME.count(), 1, "interrupts");
    Ok(())
}

boot_test!(interrupts_come_in_x2apic_mode_too, unit = "eim=on");
fn interrupts_come_in_x2apic_mode_too(bench: &mut Bench) -> Outcome {
    static CAME: Counter = Counter::new();
    let copier = bench.copier()?;
    check!(
        kernel::cpu::apic::is_x2apic(),
        "the CPU is not in x2APIC mode"
    );
    let line = Line::allocate(bench.driver(), copier.id(), &CAME)?;
    copier.send_interrupts_as(line.message()?);
    copier.raise_interrupt();
    check!(CAME.came_after(0), "the interrupt did not come");
    Ok(())
}

boot_test!(a_line_of_the_io_apic_comes_by_its_own_entry);
fn a_line_of_the_io_apic_comes_by_its_own_entry(bench: &mut Bench) -> Outcome {
    by_line(bench)
}

boot_test!(lines_come_in_x2apic_mode_too, unit = "eim=on");
fn lines_come_in_x2apic_mode_too(bench: &mut Bench) -> Outcome {
    by_line(bench)
}

/// A device pulls its line, which the I/O APIC makes an interrupt of its own of.
fn by_line(bench: &mut Bench) -> Outcome {
    static CAME: LineCounter = LineCounter::new();
    let copier = bench.copier()?;
    let (io_apic, lines) = bench.lines()?;
    let line = Line::allocate(bench.driver(), io_apic, &CAME)?;
    let entry = line.ioapic_entry()?;
    CAME.program(lines, entry);
    copier.interrupt_by_line();
    for expected in 1..=3 {
        copier.pull_line();
        check!(
            CAME.count().came_after(expected - 1),
            "interrupt {expected} did not come"
        );
        copier.release_line();
        check_eq!(CAME.count().count(), expected, "interrupts");
        CAME.program_again(entry);
    }
    Ok(())
}

boot_test!(
    a_line_whose_entry_was_taken_back_is_refused,
    provokes = "absent-interrupt"
);
fn a_line_whose_entry_was_taken_back_is_refused(bench: &mut Bench) -> Outcome {
    static CAME: LineCounter = LineCounter::new();
    let copier = bench.copier()?;
    let (io_apic, lines) = bench.lines()?;
    let line = Line::allocate(bench.driver(), io_apic, &CAME)?;
    let (entry, index) = (line.ioapic_entry()?, line.index());
    line.free()?;
    CAME.program(lines, entry);
    copier.interrupt_by_line();
    let fault = bench.fault_of(|| {
        copier.pull_line();
        Ok(())
    })?;
    copier.release_line();
    refused_by_entry(&fault, index, FaultReason::INTERRUPT_ENTRY_NOT_PRESENT)?;
    check_eq!(CAME.count().count(), 0, "interrupts");
    Ok(())
}
