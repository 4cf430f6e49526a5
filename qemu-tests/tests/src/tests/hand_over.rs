//! From one kernel to the next: units that are found off, or left on with live tables, a queue
//! that stands still, faults that nobody read. The first kernel leaves them behind (`stage` 0),
//! the second (`stage` 1) takes over.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use iommu_core::{Access, Hpa, Iova, Mmio, PAGE_SIZE, Platform};
use kernel::command_line::HandOver;
use kernel::memory::RegisterWindow;
use kernel::remapping;
use spin::Once;
use vtd::Event;
use vtd::registers::{Cap, Fectl, Fsts, Gsts, Iqa, Iqt};

use crate::bench::{Arrival, BLOCKED, Bench, LeftBehind, PLATFORM, Prober};
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
static WINDOWS: AtomicU32 = AtomicU32::new(0);

/// Lets the device write to its region at each register write and each descriptor.
fn probe(event: &Event) {
    let is_step = matches!(
        event,
        Event::RegisterWritten { .. } | Event::Queued { .. } | Event::Attached { .. }
    );
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

boot_test!(
    a_copy_under_way_survives_a_take_over,
    next = "boot-tests",
    dmar = "reserved-edu",
    logs = "the next kernel finds the units translating|started by PVH|0000:00:04.0: keeps reaching|unit 0: translation on",
);
fn a_copy_under_way_survives_a_take_over(bench: &mut Bench) -> Outcome {
    let region = RegisterWindow::map(REGION, PAGE_SIZE as usize)?;
    const PATTERN: u64 = 0x0123_4567_89ab_cdef;
    if bench.stage() == 0 {
        let copier = bench.copier()?;
        region.write64(0, PATTERN);
        bench.permitted(|| copier.load(identity(REGION), 8))?;
        region.write64(8, 0);
        // It takes 100 ms, and the next kernel is there long before.
        return bench.hand_over(HandOver::On, "", LeftBehind::default(), |_| {
            let to = Iova::new(REGION.as_u64() + 8);
            copier.begin_store(to, 8)
        });
    }
    check_eq!(
        region.read64(8),
        0,
        "the copy has ended too early to be under way"
    );
    let copier = bench.copier()?;
    copier.wait()?;
    kernel::remapping::faults::drain();
    check_eq!(kernel::remapping::faults::taken(), 0, "faults");
    check_eq!(region.read64(8), PATTERN, "what the device wrote");
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
    a_queue_left_with_an_error_is_replaced,
    next = "boot-tests",
    provokes = "refused-dma",
    complains = "invalid inv desc",
    logs = "an error of that queue, which is cleared|unit 0: translation on",
);
fn a_queue_left_with_an_error_is_replaced(bench: &mut Bench) -> Outcome {
    if bench.stage() == 0 {
        works(bench)?;
        let left = LeftBehind {
            descriptors: 1,
            // Ours, and the one by which the next kernel gives the queue up.
            doorbells: 2,
            faults: 0,
        };
        return bench.hand_over(HandOver::On, "", left, |bench| {
            let registers = bench.unit_registers()?;
            registers.write32(Fectl::new().with_im(true));
            let (queue, tail): (Iqa, Iqt) = (registers.read64(), registers.read64());
            let slot = if queue.dw() { 32 } else { 16 };
            let at = Hpa::new(queue.iqa() * PAGE_SIZE + tail.into_bits());
            // A descriptor of type 0, which does not exist.
            // SAFETY: the driver's own queue, which nobody uses any more; the frame is not
            // given back.
            let page =
                unsafe { PLATFORM.adopt(Hpa::new(at.as_u64() & !0xfff), iommu_core::Order::PAGE) };
            let first = (at.as_u64() & 0xfff) as usize / 8;
            for cell in page.cells().iter().skip(first).take(slot / 8) {
                cell.store(0, Ordering::Release);
            }
            core::mem::forget(page);
            registers.write64(Iqt::from_bits(tail.into_bits() + slot as u64));
            let status: Fsts = registers.read32();
            check!(
                status.iqe(),
                "the unit did not mind: FSTS {:#x}",
                status.into_bits()
            );
            Ok(())
        });
    }
    let registers = bench.registers_before_start()?;
    let status: Fsts = registers.read32();
    check!(status.iqe(), "the error is gone already");
    works(bench)
}

boot_test!(
    faults_that_nobody_read_do_not_hide_new_ones,
    next = "boot-tests",
    provokes = "refused-dma",
    logs = "recorded faults, which are dropped|unit 0: translation on",
);
fn faults_that_nobody_read_do_not_hide_new_ones(bench: &mut Bench) -> Outcome {
    static ADDRESS: AtomicU64 = AtomicU64::new(0);
    if bench.stage() == 0 {
        let copier = bench.copier()?;
        let page = bench.page()?;
        ADDRESS.store(page.hpa().as_u64(), Ordering::Relaxed);
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
