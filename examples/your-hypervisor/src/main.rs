//! A hypervisor that is not ours: its guest gets a device, binds a page table of its own to it by
//! two hypercalls, and the device reaches what the table says and the guest has, and nothing else.
//!
//! What it implements: [`Ram`] as the guest's memory, [`Hypervisor`] as what policy asks of it.
//! What a machine would have it implement too, `Platform`, is in `your-kernel`.
//!
//! `cargo run --manifest-path examples/Cargo.toml -p your-hypervisor`

mod guest;
mod ram;

use guest::{Guest, Refused, Trouble};
use iommu::{Config as Policy, Iommu, PasidBitmap, Quota};
use iommu_core::*;
use ram::Ram;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vtd::{Discovered, Driver, DriverConfig, Event, InterruptConfig, TimeLimits, UnitConfig};
use vtd_model::{Config, Freedom, Outcome, Owner, Request};
use vtd_model_platform::{ModelMmio, ModelPlatform};

const NIC: u16 = 0x0010;
const VM: VmId = VmId(1);

/// What policy asks of the hypervisor.
#[derive(Default)]
struct Hypervisor {
    notified: AtomicUsize,
    resets: AtomicUsize,
}

impl VmHost for &Hypervisor {
    fn notify(&self, _: VmId, _: VmEvent) {
        // Here: a virtual interrupt for the guest.
        self.notified.fetch_add(1, Ordering::Relaxed);
    }

    fn reset(&self, _: DeviceId) -> Result<(), ResetError> {
        // Here: FLR or another reset, and the wait for its end.
        self.resets.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn main() -> Result<(), Trouble> {
    // Hardware, and a driver at work on it.
    let platform = ModelPlatform::<Event>::new(1024, |machine| {
        let unit = machine.unit(Config::scalable());
        unit.device(NIC, 0).freedom(Freedom::Pessimist(1))
    })?;
    let driver = driver(&platform)?;

    // Policy over it, and a guest with 16 pages and the device.
    let host = Hypervisor::default();
    let pasids = PasidBitmap::new(10).ok_or("no memory")?;
    let iommu = Iommu::new(Policy::default(), driver, platform.clone(), &host, pasids)?;
    let pages = (0..16).map(|_| platform.page_for(Owner::Guest(1))).collect::<Result<_, _>>()?;
    let ram = Arc::new(Ram::new(pages));
    iommu.create_guest(VM, Quota::default(), ram.clone())?;
    let device = DeviceId::new(Segment(0), SourceId::from_bits(NIC));
    let handle = iommu.assign(VM, device, NIC.into())?;
    platform.with_machine(|machine| machine.assign(NIC, None, Owner::Guest(1)));
    assert_eq!(host.resets.load(Ordering::Relaxed), 1, "nothing of its last owner's is left");

    let reads = |iova| platform.with_machine(|machine| machine.request(&Request::read(NIC, iova)));
    // The fault interrupt: whose it is, and why, is found out and told.
    let on_fault_interrupt = || {
        let mut faults = Vec::new();
        iommu.backend().drain_faults(&mut |fault| faults.push(*fault));
        for fault in &faults {
            let _whose = iommu.report(fault);
        }
    };

    // It is the guest's, and leads nowhere yet.
    assert_eq!(reads(0x7010).address(), None);
    on_fault_interrupt();

    // The guest maps a page of its own, and one that it would like to have.
    let vmcall = |operation, argument| iommu.call(VM, operation, argument);
    let guest = Guest { ram: &ram, vmcall: &vmcall };
    while guest.fault()?.is_some() {}
    guest.map(0x7000, 0x8000)?;
    guest.map(0x9000, 0x4000_0000)?;
    guest.bind(handle)?;

    let address = ram.hpa(0x8010)?.as_u64();
    assert_eq!(reads(0x7010), Outcome::Memory { address });
    println!("0x7010 of the device is 0x8010 of the guest and {address:#x} of the machine");

    // What is not mapped is refused, and so is what is not the guest's.
    for (address, reason) in [(0xa000, 0x71), (0x9000, 0x79)] {
        let told = host.notified.load(Ordering::Relaxed);
        assert_eq!(reads(address).address(), None);
        on_fault_interrupt();
        assert_eq!(host.notified.load(Ordering::Relaxed), told + 1);
        assert_eq!(guest.fault()?, Some(Refused { reason, address }));
        println!("{address:#x} is refused, and the guest is told why: {reason:#x}");
    }

    // A page leaves the guest. When `forget` has returned, nothing reaches it.
    let page = ram.take(0x8000).ok_or("no page")?;
    let run = Run { hpa: page.hpa(), pages: 1 };
    iommu.forget(VM, &AddressRange::page_of(Gpa::new(0x8000)), &[run])?;
    platform.release(page);
    assert_eq!(reads(0x7010).address(), None);
    println!("taken from the guest, it is out of the device's reach");

    iommu.destroy_guest(VM)?;
    ram.take_all().into_iter().for_each(|page| platform.release(page));
    assert_eq!(iommu.backend().quarantined(), vtd::Quarantined::default());
    assert!(platform.take_violations().is_empty(), "hardware has nothing to complain of");
    Ok(())
}

type Model = Arc<ModelPlatform<Event>>;

/// A unit that translates and remaps interrupts, all devices behind it blocked.
fn driver(platform: &Model) -> Result<Driver<Model, ModelMmio<Event>, vtd::Translating>, Trouble> {
    let description = vtd::UnitDescription {
        index: 0,
        segment: Segment(0),
        register_base: Hpa::new(0xfed9_0000),
        host_bits: 46,
    };
    let config = UnitConfig {
        // Without it no guest is given a device: it could raise any interrupt of the machine.
        interrupts: Some(InterruptConfig { entries_log2: 8, extended: false }),
        ..UnitConfig::default()
    };
    let unit = Discovered::open(description, ModelMmio::new(platform, 0), platform)?;
    let unit = unit.quiesce(platform, TimeLimits::default())?;
    let unit = unit.prepare(platform, &config)?;
    let scopes = Box::new(|_| Some(0));
    let driver = Driver::new(platform.clone(), [unit], scopes, &DriverConfig::default())?;
    Ok(driver.enable().map_err(|failure| failure.error)?)
}
