//! What the command line lets devices keep, and what it takes from them. The kernel's own
//! words about it are judged by the runner (`runner/src/test/switches.rs`).

use iommu_core::{Access, Attachment, Backend, DeviceId, Hpa, Iova, Segment, Slot, SourceId};
use kernel::rules::Refusal;

use crate::bench::{Arrival, BLOCKED, Bench, NOT_MAPPED};
use crate::check::{Deviation, Outcome, check, check_eq};
use crate::registry::boot_test;

/// The region of the canned tables `reserved-…`, and the page behind it.
const REGION: Hpa = Hpa::new(0x0fff_c000);
const BEHIND: Hpa = Hpa::new(0x0fff_e000);

fn identity(hpa: Hpa) -> Iova {
    Iova::new(hpa.as_u64())
}

boot_test!(
    a_device_keeps_its_reserved_region_and_nothing_more,
    dmar = "reserved-edu",
    needs = "iommu-testdev",
    qemu = "11.1",
    provokes = "refused-dma",
    logs = "0000:00:04.0: keeps reaching 0xfffc000 to 0xfffdfff (RMRR)|unit 0: translation on",
);
fn a_device_keeps_its_reserved_region_and_nothing_more(bench: &mut Bench) -> Outcome {
    let prober = bench.prober()?;
    check_eq!(
        prober.write(identity(REGION), REGION),
        Arrival::Arrived,
        "its region"
    );
    check_eq!(
        prober.write(identity(BEHIND), BEHIND),
        Arrival::Refused,
        "the page behind it"
    );
    Ok(())
}

boot_test!(
    a_reserved_region_is_blocked_if_the_command_line_says_so,
    dmar = "reserved-edu",
    append = "rmrr=block",
    needs = "iommu-testdev",
    qemu = "11.1",
    provokes = "refused-dma",
    logs = "blocked, its reserved regions too (rmrr=block)|unit 0: translation on",
);
fn a_reserved_region_is_blocked_if_the_command_line_says_so(bench: &mut Bench) -> Outcome {
    let prober = bench.prober()?;
    check_eq!(
        prober.write(identity(REGION), REGION),
        Arrival::Refused,
        "its region"
    );
    Ok(())
}

boot_test!(
    a_denied_device_loses_even_its_reserved_region,
    dmar = "reserved-edu",
    append = "deny=0:0:5.0",
    needs = "iommu-testdev",
    qemu = "11.1",
    provokes = "refused-dma",
    logs = "blocked for good (deny=)|0000:00:04.0: keeps reaching",
);
fn a_denied_device_loses_even_its_reserved_region(bench: &mut Bench) -> Outcome {
    let prober = bench.prober()?;
    check_eq!(
        prober.write(identity(REGION), REGION),
        Arrival::Refused,
        "the region of the denied device"
    );
    let copier = bench.copier()?;
    bench.permitted(|| copier.store(identity(REGION), 8))
}

boot_test!(
    a_reserved_region_in_usable_memory_stays_blocked,
    dmar = "reserved-usable",
    provokes = "refused-dma",
    logs = "which the memory map lists as usable; it stays blocked there",
);
fn a_reserved_region_in_usable_memory_stays_blocked(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    bench.refused(&copier, Iova::new(0x0200_0000), Access::WRITE, NOT_MAPPED)
}

/// Where the display device of these machines is.
fn display() -> Result<DeviceId, Deviation> {
    let source = SourceId::new(0, 6, 0).ok_or_else(Deviation::no_memory)?;
    Ok(DeviceId::new(Segment(0), source))
}

fn may_pass_through(bench: &mut Bench, device: DeviceId) -> Result<Result<(), Refusal>, Deviation> {
    let host = bench.host();
    let function = host.bus.topology.function(device);
    let function =
        function.ok_or_else(|| Deviation::failed(format_args!("{device} is not there")))?;
    Ok(host.remapping.may_pass_through(function))
}

boot_test!(
    a_display_device_with_a_region_is_not_for_guests,
    dmar = "reserved-display",
    machine = "-device secondary-vga,addr=6",
    modes = "legacy",
);
fn a_display_device_with_a_region_is_not_for_guests(bench: &mut Bench) -> Outcome {
    check_eq!(
        may_pass_through(bench, display()?)?,
        Err(Refusal::ReservedRegion),
        "a display device"
    );
    Ok(())
}

boot_test!(
    a_display_device_may_lose_its_region_to_a_guest_if_told_so,
    dmar = "reserved-display",
    append = "rmrr=relax",
    machine = "-device secondary-vga,addr=6",
    modes = "legacy",
    logs = "0000:00:06.0: keeps reaching",
);
fn a_display_device_may_lose_its_region_to_a_guest_if_told_so(bench: &mut Bench) -> Outcome {
    check_eq!(
        may_pass_through(bench, display()?)?,
        Ok(()),
        "a display device"
    );
    Ok(())
}

fn attachment(bench: &mut Bench, device: DeviceId) -> Result<Attachment, Deviation> {
    let slot = Slot {
        device,
        pasid: None,
    };
    Ok(bench.driver().attachment(slot)?)
}

boot_test!(
    graphics_are_left_alone_if_the_command_line_says_so,
    append = "graphics=leave",
    machine = "-device secondary-vga,addr=6",
    logs = "0000:00:06.0: is left alone and reaches all of memory (graphics=leave), by pass-through|translation on",
);
fn graphics_are_left_alone_if_the_command_line_says_so(bench: &mut Bench) -> Outcome {
    let (device, page) = (display()?, bench.page()?);
    check_eq!(
        attachment(bench, device)?,
        Attachment::PassThrough,
        "the display device"
    );
    let slot = Slot {
        device,
        pasid: None,
    };
    let found = bench
        .driver()
        .explain(slot, identity(page.hpa()), Access::READ_WRITE, &mut |_| {});
    check_eq!(found, Ok(page.hpa()), "memory at its own address");
    // Its neighbour is remapped all the same.
    let copier = bench.copier()?;
    check_eq!(
        attachment(bench, copier.id())?,
        Attachment::Blocked,
        "the edu device"
    );
    Ok(())
}

boot_test!(
    graphics_are_blocked_like_all_others_without_that,
    machine = "-device secondary-vga,addr=6",
);
fn graphics_are_blocked_like_all_others_without_that(bench: &mut Bench) -> Outcome {
    check_eq!(
        attachment(bench, display()?)?,
        Attachment::Blocked,
        "the display device"
    );
    Ok(())
}

boot_test!(
    what_the_screen_shows_and_its_region_survive_turning_on,
    dmar = "reserved-display",
    machine = "-device secondary-vga,addr=6",
    logs = "0000:00:06.0: keeps reaching 0xfffc000 to 0xfffdfff (RMRR)|unit 0: translation on",
);
fn what_the_screen_shows_and_its_region_survive_turning_on(bench: &mut Bench) -> Outcome {
    let device = display()?;
    let before = bench.screen(device)?;
    before.draw(0x5ca1_ab1e);
    let slot = Slot {
        device,
        pasid: None,
    };
    let driver = bench.driver();
    check!(before.shows(0x5ca1_ab1e), "the screen's memory has changed");
    let kept = driver.explain(slot, identity(REGION), Access::READ_WRITE, &mut |_| {});
    check_eq!(kept, Ok(REGION), "its region");
    let lost = driver.explain(slot, identity(BEHIND), Access::READ, &mut |_| {});
    check!(lost.is_err(), "the page behind its region is reached");
    Ok(())
}

boot_test!(
    a_blocked_device_cannot_reach_what_another_keeps,
    dmar = "reserved-display",
    machine = "-device secondary-vga,addr=6",
    provokes = "refused-dma",
);
fn a_blocked_device_cannot_reach_what_another_keeps(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    bench.refused(&copier, identity(REGION), Access::WRITE, BLOCKED)
}
