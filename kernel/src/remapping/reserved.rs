//! Devices that must not lose what they reach when translation starts: those with reserved
//! regions (§8.4), and display devices that are left alone.

use super::error::{RemappingError, ReservedError};
use super::say;
use super::survey::Survey;
use crate::memory;
use crate::platform::KernelPlatform;
use crate::rules::Reach;
use crate::start::boot_info;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use boot::MemoryKind;
use iommu_core::{
    Access, AddressRange, Attachment, Backend, BackendError, Batch, DeviceId, DomainHandle,
    DomainSpec, Hpa, Iova, Order, OutOfFrames, Owed, PAGE_SIZE, Platform, Run, Slot, TableFormat,
};

const NO_MEMORY: OutOfFrames = OutOfFrames { order: Order::PAGE };

type PreparingDriver = super::start::PreparingDriver;

/// Lets every device that keeps something reach that before translation starts, under each of
/// the ids that its requests may come under.
pub(super) fn keep_all(survey: &Survey, driver: &PreparingDriver) -> Result<(), RemappingError> {
    let topology = &survey.bus.topology;
    for device in topology.functions().iter().map(|function| function.id) {
        let reach = survey.reach(device);
        if reach == Reach::Regions {
            tell_regions(survey, device);
        }
        if !reach.keeps_mastering() {
            continue;
        }
        for source in topology.requesters(device) {
            let id = DeviceId::new(device.segment, source);
            // Of several behind one bridge the first did it for all.
            if keepers(survey, id).next() == Some(device) {
                keep(survey, driver, id)
                    .map_err(|error| RemappingError::Reserved { device, error })?;
            }
        }
    }
    Ok(())
}

/// The devices that keep something and whose requests may come under this id.
fn keepers(survey: &Survey, id: DeviceId) -> impl Iterator<Item = DeviceId> {
    let topology = &survey.bus.topology;
    let all = topology.functions().iter().map(|function| function.id);
    all.filter(move |device| {
        let mut sources = topology.requesters(*device);
        device.segment == id.segment
            && survey.reach(*device).keeps_mastering()
            && sources.any(|source| source == id.source)
    })
}

/// Lets requests under one id reach what any device keeps that they may be of: they cannot be
/// told apart.
fn keep(survey: &Survey, driver: &PreparingDriver, id: DeviceId) -> Result<(), ReservedError> {
    if keepers(survey, id).any(|device| survey.reach(device) == Reach::Everything) {
        return leave_alone(driver, id);
    }
    let mut ranges = Vec::new();
    for range in keepers(survey, id).flat_map(|device| regions(survey, device)) {
        ranges
            .try_reserve(1)
            .map_err(|_| BackendError::OutOfFrames(NO_MEMORY))?;
        ranges.push(range);
    }
    ranges.sort_unstable_by_key(AddressRange::first);
    let mut domain = Identity::new(driver, id)?;
    let mut ranges = ranges.into_iter();
    let mut last = ranges.next();
    for range in ranges {
        // One region may be listed for several devices, or twice.
        let both = last.and_then(|last| last.merged(&range));
        if let (None, Some(last)) = (both, last) {
            domain.map(&last)?;
        }
        last = both.or(Some(range));
    }
    if let Some(last) = last {
        domain.map(&last)?;
    }
    domain.attach(id)
}

/// The regions that a device keeps. Not those in memory that others own, or will: the device
/// must not reach it (§8.4 has the firmware list such regions as reserved).
fn regions(survey: &Survey, device: DeviceId) -> impl Iterator<Item = AddressRange<Hpa>> {
    let all = survey.dmar.regions_of(device, survey.bus);
    all.map(|region| region.range)
        .filter(|range| !memory::is_usable(range))
}

fn tell_regions(survey: &Survey, device: DeviceId) {
    for region in survey.dmar.regions_of(device, survey.bus) {
        let (first, last) = (region.range.first(), region.range.last());
        if memory::is_usable(&region.range) {
            say::warn(format_args!(
                "{device}: the DMAR reserves {first} to {last} for it, which the memory map lists as usable; it stays blocked there"
            ));
        } else {
            say::info(format_args!(
                "{device}: keeps reaching {first} to {last} (RMRR)"
            ));
        }
    }
}

/// Lets a device reach all of memory at its own addresses, as before.
fn leave_alone(driver: &PreparingDriver, device: DeviceId) -> Result<(), ReservedError> {
    if driver.capabilities(device)?.pass_through {
        say::warn(format_args!(
            "{device}: is left alone and reaches all of memory (graphics=leave), by pass-through"
        ));
        let mut batch = batch()?;
        let replaced = driver.replace(slot(device), Attachment::PassThrough)?;
        return settle(driver, &mut batch, replaced.owed);
    }
    say::warn(format_args!(
        "{device}: is left alone and reaches all of memory (graphics=leave), by tables: its unit has no pass-through"
    ));
    let mut domain = Identity::new(driver, device)?;
    for range in all_memory() {
        domain.map(&range)?;
    }
    domain.attach(device)
}

/// Where interrupt requests go; nothing is mapped there (§3.14).
const INTERRUPTS: (u64, u64) = (0xfee0_0000, 0xfef0_0000);
/// Devices' registers lie below, between memory.
const FOUR_GIB: u64 = 1 << 32;

/// All addresses up to the end of memory, without those of interrupts.
fn all_memory() -> ArrayVec<AddressRange<Hpa>, 2> {
    let memory = &boot_info().memory;
    let ends = memory
        .iter()
        .filter(|region| region.kind != MemoryKind::Reserved)
        .map(|region| region.range.last().as_u64());
    let end = ends
        .max()
        .unwrap_or(0)
        .saturating_add(1)
        .next_multiple_of(PAGE_SIZE)
        .max(FOUR_GIB);
    let range = |from: u64, to: u64| AddressRange::of_bytes(Hpa::new(from), to - from).ok();
    [range(0, INTERRUPTS.0), range(INTERRUPTS.1, end)]
        .into_iter()
        .flatten()
        .collect()
}

/// A domain in which addresses lead to themselves.
struct Identity<'d> {
    driver: &'d PreparingDriver,
    domain: DomainHandle,
}

impl<'d> Identity<'d> {
    fn new(driver: &'d PreparingDriver, device: DeviceId) -> Result<Self, ReservedError> {
        /// Those of 48 bits first.
        const FORMATS: [TableFormat; 4] = [
            TableFormat::FirstStage4,
            TableFormat::SecondStage4,
            TableFormat::SecondStage3,
            TableFormat::SecondStage5,
        ];
        let capabilities = driver.capabilities(device)?;
        let format = FORMATS
            .into_iter()
            .find(|&format| capabilities.supports(format))
            .ok_or(BackendError::Unsupported(device))?;
        let domain = driver.create(device, &DomainSpec::Paging(format))?;
        Ok(Self { driver, domain })
    }

    fn map(&mut self, range: &AddressRange<Hpa>) -> Result<(), ReservedError> {
        let run = Run {
            hpa: range.first(),
            pages: range.pages(),
        };
        let iova = Iova::new(range.first().as_u64());
        let owed = self
            .driver
            .map(self.domain, iova, &[run], Access::READ_WRITE)
            .map_err(ReservedError::Map)?;
        settle(self.driver, &mut batch()?, owed)
    }

    fn attach(self, device: DeviceId) -> Result<(), ReservedError> {
        let to = Attachment::Domain(self.domain);
        let replaced = self.driver.replace(slot(device), to)?;
        settle(self.driver, &mut batch()?, replaced.owed)
    }
}

fn slot(device: DeviceId) -> Slot {
    Slot {
        device,
        pasid: None,
    }
}

fn batch<'q>() -> Result<Batch<'q, <PreparingDriver as Backend>::Debt>, ReservedError> {
    Ok(Batch::with_capacity(1).ok_or(BackendError::OutOfFrames(NO_MEMORY))?)
}

fn settle<'q, B: Backend>(
    driver: &'q B,
    batch: &mut Batch<'q, B::Debt>,
    owed: Owed<'q, B::Debt>,
) -> Result<(), ReservedError> {
    // There is room: the batch is empty between any two of these.
    let _ = batch.add(owed);
    let mut flushed = driver.commit(batch).map_err(BackendError::Flush)?;
    while let Some(frame) = flushed.frames.pop() {
        KernelPlatform.release(frame);
    }
    Ok(())
}

impl From<BackendError> for ReservedError {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}
