//! `vtd` on the hardware model: one page is given to one device, and what the device does
//! beyond it is refused, recorded and explained.
//!
//! `cargo run -p vtd-model-platform --example blocked_dma`

use iommu_core::{
    Access, Attachment, Backend, Batch, DeviceId, DomainSpec, FaultKind, FaultReason, Hpa, Iova,
    Platform, Run, Segment, Slot, SourceId,
};
use vtd::{Discovered, Driver, DriverConfig, Event, TimeLimits, UnitConfig, UnitDescription};
use vtd_model::{Config, Freedom, Outcome, Owner, Request};
use vtd_model_platform::{ModelMmio, ModelPlatform};

const NIC: u16 = 0x0010;

fn main() -> Result<(), String> {
    // Hardware that caches all that it may, for as long as it may.
    let platform = ModelPlatform::<Event>::new(256, |machine| {
        machine
            .unit(Config::scalable())
            .device(NIC, 0)
            .freedom(Freedom::Pessimist(1))
    })
    .map_err(fail)?;
    let description = UnitDescription {
        index: 0,
        segment: Segment(0),
        register_base: Hpa::new(0xfed9_0000),
        host_bits: 46,
    };
    let unit =
        Discovered::open(description, ModelMmio::new(&platform, 0), &platform).map_err(fail)?;
    let unit = unit
        .quiesce(&platform, TimeLimits::default())
        .map_err(fail)?;
    let unit = unit
        .prepare(&platform, &UnitConfig::default())
        .map_err(fail)?;
    let format = unit.mode().format();
    let scopes = Box::new(|_| Some(0));
    let driver =
        Driver::new(platform.clone(), [unit], scopes, &DriverConfig::default()).map_err(fail)?;
    let driver = driver.enable().map_err(|failure| fail(failure.error))?;

    let device = DeviceId::new(Segment(0), SourceId::from_bits(NIC));
    let slot = Slot {
        device,
        pasid: None,
    };
    let page = platform.page_for(Owner::Guest(1)).map_err(fail)?;
    let run = Run {
        hpa: page.hpa(),
        pages: 1,
    };
    let window = driver
        .create(device, &DomainSpec::Paging(format))
        .map_err(fail)?;
    let mut batch = Batch::with_capacity(2).ok_or("no memory")?;
    let owed = driver.map(window, Iova::new(0x5000), &[run], Access::READ);
    batch.add(owed.map_err(fail)?).map_err(fail)?;
    let replaced = driver.replace(slot, Attachment::Domain(window));
    batch.add(replaced.map_err(fail)?.owed).map_err(fail)?;
    let mut flushed = driver.commit(&mut batch).map_err(fail)?;
    while let Some(frame) = flushed.frames.pop() {
        platform.release(frame);
    }

    let reached = platform.with_machine(|machine| machine.request(&Request::read(NIC, 0x5010)));
    let address = page.hpa().as_u64() + 0x10;
    assert_eq!(reached, Outcome::Memory { address });
    println!("read  of 0x5010: reaches {address:#x}");
    platform.with_machine(|machine| machine.request(&Request::write(NIC, 0x5010)));
    let mut faults = Vec::new();
    driver.drain_faults(&mut |record| faults.push(*record));
    let [fault] = faults[..] else {
        return Err(format!("one fault, not {faults:?}"));
    };
    assert_eq!(fault.reason, FaultReason::SCALABLE_WRITE_DENIED);
    assert!(matches!(fault.kind, FaultKind::Dma { address, .. } if address == Iova::new(0x5000)));
    println!("write of 0x5010: {}", fault.reason);
    let _ = driver.explain(slot, Iova::new(0x5000), Access::WRITE, &mut |step| {
        println!(
            "  {} [{}] at {}: {:016x}",
            step.table, step.index, step.entry_at, step.words[0]
        );
    });
    assert!(platform.take_violations().is_empty());
    Ok(())
}

fn fail(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}
