//! One page for one device, on hardware that caches all it may: what the device does beside
//! the page is refused and told. `cargo run --manifest-path examples/Cargo.toml -p on-the-model`

use iommu_core::*;
use std::error::Error;
use vtd::{Discovered, Driver, DriverConfig, Event, TimeLimits, UnitConfig, UnitDescription};
use vtd_model::{Config, Freedom, Outcome, Owner, Request};
use vtd_model_platform::{ModelMmio, ModelPlatform};

const NIC: u16 = 0x0010;

fn main() -> Result<(), Box<dyn Error>> {
    // Hardware, with memory, time and locks: on a machine all this is yours.
    let platform = ModelPlatform::<Event>::new(256, |machine| {
        let unit = machine.unit(Config::scalable());
        unit.device(NIC, 0).freedom(Freedom::Pessimist(1))
    })?;
    let (segment, register_base) = (Segment(0), Hpa::new(0xfed9_0000));
    let description = UnitDescription { index: 0, segment, register_base, host_bits: 46 };

    // A unit, from registers at an address to translation.
    let unit = Discovered::open(description, ModelMmio::new(&platform, 0), &platform)?;
    let unit = unit.quiesce(&platform, TimeLimits::default())?;
    let unit = unit.prepare(&platform, &UnitConfig::default())?;
    let format = unit.mode().format();
    let scopes = Box::new(|_| Some(0));
    let driver = Driver::new(platform.clone(), [unit], scopes, &DriverConfig::default())?;
    let driver = driver.enable().map_err(|failure| failure.error)?;

    // A window onto one page, told to hardware by one doorbell.
    let device = DeviceId::new(segment, SourceId::from_bits(NIC));
    let slot = Slot { device, pasid: None };
    let page = platform.page_for(Owner::Guest(1))?;
    let run = Run { hpa: page.hpa(), pages: 1 };
    let window = driver.create(device, &DomainSpec::Paging(format))?;
    let mut batch = Batch::with_capacity(2).ok_or("no memory")?;
    let mapped = driver.map(window, Iova::new(0x5000), &[run], Access::READ)?;
    batch.add(mapped).map_err(|_| "full")?;
    let replaced = driver.replace(slot, Attachment::Domain(window))?;
    batch.add(replaced.owed).map_err(|_| "full")?;
    driver.commit(&mut batch)?.frames.pop().map(|frame| platform.release(frame));

    // What the device may do, and what it may not.
    let does = |request| platform.with_machine(|machine| machine.request(&request));
    let address = page.hpa().as_u64() + 0x10;
    assert_eq!(does(Request::read(NIC, 0x5010)), Outcome::Memory { address });
    for refused in [Request::write(NIC, 0x5010), Request::read(NIC, 0x6000)] {
        assert_eq!(does(refused).address(), None);
        let mut faults = Vec::new();
        driver.drain_faults(&mut |fault| faults.push(*fault));
        let [fault] = faults[..] else {
            return Err("one fault for each refusal".into());
        };
        assert_eq!(fault.device, device);
        println!("{:?} of {:#x}: {}", refused.access, refused.address, fault.reason);
    }
    assert!(platform.take_violations().is_empty(), "hardware has nothing to complain of");
    Ok(())
}
