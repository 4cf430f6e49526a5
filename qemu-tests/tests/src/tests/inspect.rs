//! Dumps of a unit at work: what hardware has is told, and a raw dump says the same when the
//! runner decodes it (it compares every dump that comes in both forms).

use alloc::vec::Vec;

use iommu_core::Access;
use kernel::command_line::DumpForm;
use kernel::inspect;

use crate::bench::{Bench, Copier, Counter, Line};
use crate::check::{Outcome, check, check_eq};
use crate::registry::boot_test;

boot_test!(a_dump_shows_every_mapping_of_a_device_at_work);
fn a_dump_shows_every_mapping_of_a_device_at_work(bench: &mut Bench) -> Outcome {
    static CAME: Counter = Counter::new();
    let copier = bench.copier()?;
    let domain = bench.domain(copier.id())?;
    copier.attach(&domain)?;
    let mut mapped = Vec::new();
    for _ in 0..5 {
        let (page, at) = (bench.page()?, bench.address(&domain));
        domain.map(at, &page, Access::READ_WRITE)?;
        bench.permitted(|| copier.store(at, Copier::PAGE))?;
        mapped.push((at, page));
    }
    let line = Line::allocate(bench.driver(), copier.id(), &CAME)?;
    copier.send_interrupts_as(line.message()?);
    let host = bench.host();
    inspect::dump(host.remapping, DumpForm::Both);
    let text = inspect::text(host.remapping);
    for (at, page) in &mapped {
        let hpa = page.hpa();
        let wanted = alloc::format!("{:#x} to ", at.as_u64());
        let line = text.lines().find(|line| line.contains(&wanted));
        let line = line.unwrap_or_default();
        let leads = alloc::format!("leads to {:#x}, read-write", hpa.as_u64());
        check!(
            line.contains(&leads),
            "no line says that {at} {leads}: {line}"
        );
    }
    check!(
        text.contains(&alloc::format!("from {}", copier.id().source)),
        "the device's interrupt entry is not told"
    );
    Ok(())
}

boot_test!(waits_are_timed);
fn waits_are_timed(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    let domain = bench.domain(copier.id())?;
    let driver = bench.driver();
    let before = driver.statistics(0).map_or(0, |s| s.wait_times.count);
    copier.attach(&domain)?;
    for _ in 0..4 {
        let (page, at) = (bench.page()?, bench.address(&domain));
        domain.map(at, &page, Access::READ_WRITE)?;
        domain.unmap(at)?;
    }
    let Some(after) = driver.statistics(0) else {
        return Ok(());
    };
    let times = after.wait_times;
    check_eq!(times.count, after.waits, "waits that were timed");
    check!(times.count >= before + 4, "{} waits", times.count - before);
    check!(
        times.least <= times.median && times.median <= times.most && times.most > 0,
        "{} {} {}",
        times.least,
        times.median,
        times.most
    );
    Ok(())
}
