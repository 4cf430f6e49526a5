//! From one kernel to the next: units that are found off, or left on with live tables, a queue
//! that stands still, faults that nobody read. The first kernel leaves them behind (`stage` 0),
//! the second (`stage` 1) takes over.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use iommu_core::{Access, Hpa, Iova, Mmio, Order, PAGE_SIZE, Platform};
use kernel::command_line::HandOver;
use kernel::memory::RegisterWindow;
use kernel::remapping;
use spin::Once;
use vtd::Event;
use vtd::registers::{Cap, Fectl, Fsts, Gsts, Iqa, Iqt};

use crate::bench::{Arrival, BLOCKED, Bench, Copier, LeftBehind, PLATFORM, Prober};
use crate::check::{Outcome, check, check_eq};
use crate::registry::boot_test;

/// The region of the canned table `reserved-edu`, which `edu` and `iommu-testdev` keep.
const REGION: Hpa = Hpa::new(0x0fff_c000);

fn identity(hpa: Hpa) -> Iova {
    Iova::new(hpa.as_u64())
}

/// A device of ours does DMA, and another's is refused and told: all works.
fn works(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    let domain = bench.domain(copier.id())?;
    let (page, at) = (bench.page()?, bench.address(&domain));
    domain.map(at, &page, Access::READ_WRITE)?;
    copier.attach(&domain)?;
    bench.permitted(|| copier.store(at, 4096))?;
    copier.block(&domain)?;
    bench.refused(&copier, at, Access::WRITE, BLOCKED)
}

boot_test!(
    a_kernel_that_shuts_down_leaves_the_units_off,
    next = "boot-tests",
    provokes = "refused-dma",
    logs = "unit 0: translation on|unit 0: turned off|started by PVH|unit 0: firmware left nothing on|unit 0: translation on",
);
fn a_kernel_that_shuts_down_leaves_the_units_off(bench: &mut Bench) -> Outcome {
    if bench.stage() == 0 {
        works(bench)?;
        return bench.hand_over(HandOver::Off, "", LeftBehind::default(), |_| Ok(()));
    }
    let registers = bench.registers_before_start()?;
    let status: Gsts = registers.read32();
    check!(
        !status.tes() && !status.ires() && !status.qies(),
        "GSTS is {:#x}",
        status.into_bits()
    );
    works(bench)
}

/// What the onlooker uses.
static PROBER: Once<Prober> = Once::new();
static STEPS: AtomicU32 = AtomicU32::new(0);
static LOST: AtomicU32 = AtomicU32::new(0);
/// The onlooker leaves the device alone once the test uses it itself.
static LOOKING: AtomicBool = AtomicBool::new(true);
static WINDOWS: AtomicU32 = AtomicU32::new(0);

/// Lets the device write to its region at each register write and each descriptor.
fn probe(event: &Event) {
    let is_step = matches!(
        event,
        Event::RegisterWritten { .. } | Event::Queued { .. } | Event::Attached { .. }
    );
    if !LOOKING.load(Ordering::Relaxed) {
        return;
    }
    if let (true, Some(prober)) = (is_step, PROBER.get()) {
        STEPS.fetch_add(1, Ordering::Relaxed);
        if prober.write(identity(REGION), REGION) != Arrival::Arrived {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }
}

boot_test!(
    a_device_keeps_its_region_at_every_step_of_a_take_over,
    next = "boot-tests",
    dmar = "reserved-edu",
    needs = "iommu-testdev",
    qemu = "11.1",
    provokes = "refused-dma",
    logs = "the next kernel finds the units translating|started by PVH|which goes on until our tables are in force; interrupt remapping, which is begun anew; the invalidation queue|0000:00:05.0: keeps reaching|unit 0: translation on",
);
fn a_device_keeps_its_region_at_every_step_of_a_take_over(bench: &mut Bench) -> Outcome {
    if bench.stage() == 0 {
        let prober = bench.prober()?;
        check_eq!(
            prober.write(identity(REGION), REGION),
            Arrival::Arrived,
            "its region, in the first kernel"
        );
        return bench.hand_over(HandOver::On, "", LeftBehind::default(), |_| Ok(()));
    }
    let registers = bench.registers_before_start()?;
    let status: Gsts = registers.read32();
    check!(
        status.tes() && status.ires() && status.qies(),
        "GSTS is {:#x}",
        status.into_bits()
    );
    let prober = bench.prober_before_start()?;
    PROBER.call_once(|| prober);
    remapping::look_on(probe);
    bench.host();
    LOOKING.store(false, Ordering::Relaxed);
    let (steps, lost) = (STEPS.load(Ordering::Relaxed), LOST.load(Ordering::Relaxed));
    check!(steps >= 20, "only {steps} steps were looked at");
    check_eq!(lost, 0, "steps at which the region was lost");
    // The permitted writes say something only if others are refused.
    let page = bench.page()?;
    let stranger = PROBER
        .get()
        .map(|prober| prober.write(identity(page.hpa()), page.hpa()));
    check_eq!(
        stranger,
        Some(Arrival::Refused),
        "a page that is not its own"
    );
    Ok(())
}

/// What the device writes while kernels change.
const PATTERN: u64 = 0x0123_4567_89ab_cdef;
static COPIER: Once<Copier> = Once::new();
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Where the copy of each part of the way goes, in the region.
const BETWEEN_KERNELS: u64 = 8;
const DURING_TAKE_OVER: u64 = 16;

fn part(offset: u64) -> Iova {
    Iova::new(REGION.as_u64() + offset)
}

/// Begins a copy when the unit is first touched. It takes 100 ms, and the take-over somewhat
/// longer.
fn copy_meanwhile(event: &Event) {
    let is_first =
        matches!(event, Event::RegisterWritten { .. }) && !BEGUN.swap(true, Ordering::Relaxed);
    if let (true, Some(copier)) = (is_first, COPIER.get()) {
        let _ = copier.begin_store(part(DURING_TAKE_OVER), 8);
    }
}

boot_test!(
    a_copy_under_way_survives_a_take_over,
    next = "boot-tests",
    dmar = "reserved-edu",
    logs = "the next kernel finds the units translating|started by PVH|0000:00:04.0: keeps reaching|unit 0: translation on",
);
fn a_copy_under_way_survives_a_take_over(bench: &mut Bench) -> Outcome {
    let region = RegisterWindow::map(REGION, PAGE_SIZE as usize)?;
    if bench.stage() == 0 {
        let copier = bench.copier()?;
        region.write64(0, PATTERN);
        bench.permitted(|| copier.load(identity(REGION), 8))?;
        for offset in [BETWEEN_KERNELS, DURING_TAKE_OVER] {
            region.write64(offset as usize, 0);
        }
        // It takes 100 ms, and the way to the next kernel longer.
        return bench.hand_over(HandOver::On, "", LeftBehind::default(), |_| {
            copier.begin_store(part(BETWEEN_KERNELS), 8)
        });
    }
    let copier = bench.copier_before_start()?;
    copier.wait()?;
    let found = region.read64(BETWEEN_KERNELS as usize);
    check_eq!(found, PATTERN, "what the device wrote while no kernel ran");
    COPIER.call_once(|| copier);
    remapping::look_on(copy_meanwhile);
    bench.host();
    check!(BEGUN.load(Ordering::Relaxed), "the unit was never touched");
    if let Some(copier) = COPIER.get() {
        copier.wait()?;
    }
    remapping::faults::drain();
    check_eq!(remapping::faults::taken(), 0, "faults");
    let found = region.read64(DURING_TAKE_OVER as usize);
    check_eq!(found, PATTERN, "what the device wrote during the take-over");
    Ok(())
}

fn count_windows(event: &Event) {
    if matches!(event, Event::TranslationWindow { .. }) {
        WINDOWS.fetch_add(1, Ordering::Relaxed);
    }
}

boot_test!(
    a_table_mode_is_changed_live_only_by_units_that_can,
    next = "boot-tests",
    modes = "second-stage",
    provokes = "refused-dma",
    logs = "firmware left translation in scalable mode|unit 0: translation on",
);
fn a_table_mode_is_changed_live_only_by_units_that_can(bench: &mut Bench) -> Outcome {
    if bench.stage() == 0 {
        bench.host();
        return bench.hand_over(HandOver::On, "mode=legacy", LeftBehind::default(), |_| {
            Ok(())
        });
    }
    remapping::look_on(count_windows);
    let registers = bench.registers_before_start()?;
    let cap: Cap = registers.read64();
    bench.host();
    let expected = u32::from(!cap.esrtps());
    check_eq!(
        WINDOWS.load(Ordering::Relaxed),
        expected,
        "times that translation was off"
    );
    works(bench)
}

boot_test!(
    a_queue_that_a_unit_does_not_give_up_is_told,
    next = "boot-tests",
    provokes = "refused-dma",
    complains = "invalid inv desc|Interrupt Mask set, irq is not generated|detected improper state when disable QI",
    logs = "an error of that queue, which is cleared",
    exit = "dead-unit",
    says = "unit 0 did not finish DisableQueue",
);
/// QEMU's unit turns its queue off only if the last descriptor was a wait. Hardware has no such
/// rule: that the queue is replaced there is shown on the model.
fn a_queue_that_a_unit_does_not_give_up_is_told(bench: &mut Bench) -> Outcome {
    if bench.stage() == 0 {
        works(bench)?;
        return bench.hand_over(HandOver::On, "", LeftBehind::default(), |bench| {
            let registers = bench.unit_registers()?;
            registers.write32(Fectl::new().with_im(true));
            let (queue, tail): (Iqa, Iqt) = (registers.read64(), registers.read64());
            let slot = if queue.dw() { 32 } else { 16 };
            let at = queue.iqa() * PAGE_SIZE + tail.into_bits();
            // SAFETY: the driver's own queue, which nobody uses any more; the frame is not
            // given back.
            let page = unsafe { PLATFORM.adopt(Hpa::new(at & !0xfff), Order::PAGE) };
            let first = (at & 0xfff) as usize / 8;
            // A descriptor of type 0, which does not exist.
            for cell in page.cells().iter().skip(first).take(slot / 8) {
                cell.store(0, Ordering::Release);
            }
            page.leak();
            registers.write64(Iqt::from_bits(tail.into_bits() + slot as u64));
            let status: Fsts = registers.read32();
            let status_bits = status.into_bits();
            check!(status.iqe(), "the unit did not mind: FSTS {status_bits:#x}");
            Ok(())
        });
    }
    works(bench)
}

boot_test!(
    faults_that_nobody_read_do_not_hide_new_ones,
    next = "boot-tests",
    provokes = "refused-dma",
    complains = "Interrupt Mask set, irq is not generated",
    logs = "recorded faults, which are dropped|unit 0: translation on",
);
fn faults_that_nobody_read_do_not_hide_new_ones(bench: &mut Bench) -> Outcome {
    if bench.stage() == 0 {
        let copier = bench.copier()?;
        let page = bench.page()?;
        let left = LeftBehind {
            faults: 1,
            ..LeftBehind::default()
        };
        return bench.hand_over(HandOver::On, "", left, |bench| {
            let registers = bench.unit_registers()?;
            registers.write32(Fectl::new().with_im(true));
            copier.store(identity(page.hpa()), 8)?;
            let status: Fsts = registers.read32();
            check!(status.ppf(), "no fault is recorded");
            Ok(())
        });
    }
    let registers = bench.registers_before_start()?;
    let status: Fsts = registers.read32();
    check!(status.ppf(), "the fault is gone already");
    works(bench)
}
