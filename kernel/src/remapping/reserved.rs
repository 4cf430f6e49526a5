//! Devices that must not lose what they reach when translation starts: those with reserved
//! regions (§8.4), and display devices that are left alone.

use super::error::{RemappingError, ReservedError};
use super::say;
use super::survey::Survey;
use crate::memory;
use crate::platform::KernelPlatform;
use crate::rules::Reach;
use crate::start::boot_info;
use arrayvec::ArrayVec;
use boot::MemoryKind;
use iommu_core::{
    Access, AddressRange, Attachment, Backend, BackendError, Batch, DeviceId, DomainHandle,
    DomainSpec, Hpa, Iova, Order, OutOfFrames, Owed, PAGE_SIZE, Platform, Run, Slot, TableFormat,
};

type PreparingDriver = super::start::PreparingDriver;

/// Attaches every device that keeps something to what it keeps, before translation starts.
pub(super) fn keep_all(survey: &Survey, driver: &PreparingDriver) -> Result<(), RemappingError> {
    for function in survey.bus.topology.functions() {
        let device = function.id;
        let kept = match survey.reach(device) {
            Reach::Regions => keep_regions(survey, driver, device),
            Reach::Everything => leave_alone(driver, device),
            Reach::Nothing | Reach::Denied | Reach::RegionsBlocked => Ok(()),
        };
        kept.map_err(|error| RemappingError::Reserved { device, error })?;
    }
    Ok(())
}

/// Maps a device's reserved regions one to one.
fn keep_regions(
    survey: &Survey,
    driver: &PreparingDriver,
    device: DeviceId,
) -> Result<(), ReservedError> {
    let mut domain = Identity::new(driver, device)?;
    for region in survey.dmar.regions_of(device, survey.bus) {
        let range = &region.range;
        if memory::is_usable(range) {
            // Others own that memory, or will: the device must not reach it (§8.4 has the
            // firmware list such regions as reserved).
            say::warn(format_args!(
                "{device}: the DMAR reserves {} to {} for it, which the memory map lists as usable; it stays blocked there",
                range.first(),
                range.last()
            ));
            continue;
        }
        say::info(format_args!(
            "{device}: keeps reaching {} to {} (RMRR)",
            range.first(),
            range.last()
        ));
        domain.map(range)?;
    }
    domain.attach(device)
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
    let no_memory = OutOfFrames { order: Order::PAGE };
    Ok(Batch::with_capacity(1).ok_or(BackendError::OutOfFrames(no_memory))?)
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
