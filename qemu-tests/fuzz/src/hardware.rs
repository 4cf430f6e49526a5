//! What a remapping unit says to the driver: registers, queues and records as firmware left
//! them, and a unit that misbehaves while it works.
//!
//! The input makes a unit whose capabilities are possible ones, mostly, and whose other
//! registers hold anything; then the driver takes it over, and works with it, while the
//! input makes the unit fail in every way that software can see. The driver must come to an
//! end with every call, by success or with an error that says what was wrong.

mod platform;
mod unit;

use crate::Bytes;
use iommu_core::{
    Access, AddressRange, Attachment, Backend, Batch, DeviceId, DomainHandle, DomainSpec, Hpa,
    Iova, IrqRemapper, Owed, PageRequest, PageResponse, Pasid, Platform as _, ResponseCode, Run,
    Segment, Slot, SourceId, TableFormat,
};
use platform::Machine;
use std::sync::Arc;
use unit::{Registers, Unit};
use vtd::{
    DeviceTlb, Discovered, Driver, DriverConfig, InterruptConfig, Message, ModeRequest,
    PageRequestConfig, TimeLimits, Translating, UnitConfig, UnitDescription,
};

/// Longer programs find nothing that shorter ones do not.
const STEPS_MOST: usize = 32;
const NUMBER: u16 = 3;
const SOURCES: [u16; 3] = [0x0010, 0x0108, 0xffff];
/// What the driver and the unit may use, in pages.
const PAGES: usize = 512;

type Working = Driver<Arc<Machine>, Registers, Translating>;

/// Takes the unit over, and works with it.
pub(crate) fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let machine = Arc::new(Machine::new(PAGES));
    let unit = Unit::new(machine.clone(), &mut bytes);
    let Some(driver) = bring_up(&machine, &unit, &mut bytes) else {
        return;
    };
    let mut domains = Vec::new();
    for _ in 0..STEPS_MOST {
        if bytes.is_empty() {
            break;
        }
        unit.misbehave(&mut bytes);
        step(&driver, &mut domains, &mut bytes);
    }
    if driver.shut_down().is_ok() {
        assert_eq!(machine.memory.outstanding(), 0, "nothing is kept of it");
    }
}

/// Until translation is on; `None` if the driver says that this unit cannot be had.
fn bring_up(machine: &Arc<Machine>, unit: &Arc<Unit>, bytes: &mut Bytes<'_>) -> Option<Working> {
    let description = UnitDescription {
        index: NUMBER,
        segment: Segment(0),
        register_base: Hpa::new(0xfed9_0000),
        host_bits: bytes.one_of(&[46, 39, 52, 255]),
    };
    let discovered = Discovered::open(description, Registers(unit.clone()), machine);
    let discovered = told(discovered.map_err(|error| error.to_string()))?;
    let _ = format!("{:?}", discovered.firmware_state());
    let quiesced = discovered.quiesce(machine, TimeLimits::default());
    let quiesced = told(quiesced.map_err(|error| error.to_string()))?;
    unit.misbehave(bytes);
    let ready = quiesced.prepare(machine, &config(bytes));
    let ready = told(ready.map_err(|error| error.to_string()))?;
    let scopes = |device: DeviceId| (device.source.bits() != 0xffff).then_some(NUMBER);
    let config = DriverConfig {
        domains: 8,
        attachments: 8,
        ..DriverConfig::default()
    };
    let driver = Driver::new(machine.clone(), [ready], Box::new(scopes), &config);
    let driver = driver.expect("there is memory for a small driver");
    unit.misbehave(bytes);
    match driver.enable() {
        Ok(driver) => Some(driver),
        Err(failure) => {
            assert_eq!(failure.unit, NUMBER);
            assert!(!failure.error.to_string().is_empty());
            None
        }
    }
}

/// An error is a sentence.
fn told<T>(result: Result<T, String>) -> Option<T> {
    result
        .map_err(|error| assert!(!error.is_empty(), "an error without words"))
        .ok()
}

fn config(bytes: &mut Bytes<'_>) -> UnitConfig {
    let message = Message {
        address: 0xfee0_1000,
        data: 0x40,
    };
    let choices = bytes.byte();
    let is_set = |bit: u8| choices >> bit & 1 != 0;
    UnitConfig {
        mode: [
            ModeRequest::Automatic,
            ModeRequest::Legacy,
            ModeRequest::SecondStage,
            ModeRequest::FirstStage,
        ][usize::from(choices & 3)],
        interrupts: is_set(2).then_some(InterruptConfig {
            entries_log2: 8,
            extended: is_set(3),
        }),
        fault_message: is_set(4).then_some(message),
        page_requests: is_set(5).then_some(PageRequestConfig {
            pages_log2: 0,
            message: is_set(6).then_some(message),
        }),
    }
}

fn slot(bytes: &mut Bytes<'_>) -> Slot {
    let source = SourceId::from_bits(bytes.one_of(&SOURCES));
    let pasid = bytes.byte();
    Slot {
        device: DeviceId::new(Segment(0), source),
        pasid: Pasid::new(u32::from(pasid)).filter(|_| pasid > 200),
    }
}

fn step(driver: &Working, domains: &mut Vec<DomainHandle>, bytes: &mut Bytes<'_>) {
    let slot = slot(bytes);
    let device = slot.device;
    let iova = Iova::new(bytes.below(64) << 12);
    let domain = domains.get(usize::from(bytes.byte()) % domains.len().max(1));
    let domain = domain.copied();
    match (bytes.byte() % 12, domain) {
        (0, _) | (_, None) => {
            let format = bytes.one_of(&[
                TableFormat::SecondStage4,
                TableFormat::FirstStage4,
                TableFormat::SecondStage3,
            ]);
            domains.extend(driver.create(device, &DomainSpec::Paging(format)));
        }
        (1, Some(domain)) => {
            let run = Run {
                hpa: Hpa::new(0x1000_0000),
                pages: bytes.below(64),
            };
            let owed = driver.map(domain, iova, &[run], Access::READ_WRITE);
            settle(driver, owed.ok());
        }
        (2, Some(domain)) => {
            if let Ok(range) = AddressRange::of_pages(iova, 1 + bytes.below(32)) {
                settle(driver, driver.unmap(domain, range).ok());
            }
        }
        (3 | 4, Some(domain)) => {
            let replaced = driver.replace(slot, Attachment::Domain(domain));
            settle(driver, replaced.ok().map(|replaced| replaced.owed));
        }
        (5, _) => {
            let replaced = driver.replace(slot, Attachment::Blocked);
            settle(driver, replaced.ok().map(|replaced| replaced.owed));
        }
        (6, Some(domain)) => settle(driver, driver.destroy(domain).ok()),
        (7, _) => {
            let settings = DeviceTlb {
                queue_depth: 0,
                physical_function: device.source,
                page_requests: bytes.flag(),
            };
            if bytes.flag() {
                let _ = driver.enable_device_tlb(device, settings, || Ok::<(), ()>(()));
            } else {
                let _ = driver.disable_device_tlb(device, || Ok::<(), ()>(()));
            }
        }
        (8, _) => {
            let _ = driver.explain(slot, iova, Access::READ, &mut |step| {
                let _ = format!("{step:?}");
            });
        }
        (9, _) => {
            if let Ok(entry) = driver.allocate(device, 1) {
                let _ = driver.free(entry);
            }
        }
        (10, _) => driver.drain_faults(&mut |record| {
            let _ = format!("{record:?} {}", record.reason.text());
        }),
        (_, _) => answer_page_requests(driver),
    }
}

fn answer_page_requests(driver: &Working) {
    let mut requests: Vec<PageRequest> = Vec::new();
    driver.drain_page_requests(&mut |request| requests.push(*request));
    for request in requests.iter().filter(|request| request.last).take(4) {
        let _ = driver.respond(&PageResponse {
            slot: request.slot,
            group: request.group,
            code: ResponseCode::InvalidRequest,
        });
    }
}

/// Commits, and gives back what hardware confirmed.
fn settle(driver: &Working, owed: Option<Owed<'_, vtd::Debt>>) {
    let Some(owed) = owed else { return };
    let mut batch = Batch::with_capacity(1).expect("room");
    batch.add(owed).expect("room for one");
    match driver.commit(&mut batch) {
        Ok(mut flushed) => {
            while let Some(frame) = flushed.frames.pop() {
                driver.platform().release(frame);
            }
        }
        Err(error) => {
            let _ = format!("{error:?}");
        }
    }
}
