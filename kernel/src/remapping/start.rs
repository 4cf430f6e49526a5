//! Brings all units up, in the order that keeps every device either blocked or where it
//! was.

use super::error::{RemappingError, ReservedError};
use super::faults;
use crate::command_line;
use crate::cpu::{self, apic, vectors};
use crate::memory::{self, RegisterWindow};
use crate::pci::Bus;
use crate::platform::KernelPlatform;
use alloc::boxed::Box;
use alloc::vec::Vec;
use dmar::{Dmar, DmarFlags, Unit};
use iommu_core::{
    Access, AddressRange, Attachment, Backend, BackendError, Batch, DeviceId, DomainSpec, Hpa,
    Iova, Order, OutOfFrames, Owed, Platform, Run, Slot, TableFormat,
};
use spin::Once;
use vtd::{
    Discovered, DriverConfig, InterruptConfig, Mode, ModeRequest, Preparing, Ready, TimeLimits,
    Translating, UnitConfig, UnitDescription,
};

/// Log2 of the entries of an interrupt remapping table: 256.
const INTERRUPT_ENTRIES_LOG2: u8 = 8;

/// The driver at work.
pub type Driver = vtd::Driver<KernelPlatform, RegisterWindow, Translating>;

type PreparingDriver = vtd::Driver<KernelPlatform, RegisterWindow, Preparing>;

/// Remapping at work.
pub struct Remapping {
    /// The driver.
    pub driver: Driver,
    /// What the DMAR says.
    pub dmar: Dmar<'static>,
    /// The mode of the first unit.
    pub mode: Mode,
    /// Interrupts are remapped, on all units.
    pub interrupts: bool,
}

static REMAPPING: Once<Remapping> = Once::new();

/// Remapping at work, once [`start`] has brought it up.
pub fn remapping() -> Option<&'static Remapping> {
    REMAPPING.get()
}

impl From<command_line::Mode> for ModeRequest {
    fn from(mode: command_line::Mode) -> Self {
        match mode {
            command_line::Mode::Legacy => Self::Legacy,
            command_line::Mode::SecondStage => Self::SecondStage,
            command_line::Mode::FirstStage => Self::FirstStage,
        }
    }
}

/// Brings all units up: queues, interrupt remapping and fault events, then the mappings of
/// reserved regions, then translation. Every other device starts blocked.
pub fn start(
    bus: &'static Bus,
    dmar: Dmar<'static>,
    mode: ModeRequest,
) -> Result<&'static Remapping, RemappingError> {
    let discovered = discover(bus, &dmar)?;
    let stopped = bus
        .topology
        .stop_bus_masters(&bus.ecam, |device| is_reserved(bus, &dmar, device));
    defmt::info!("{=usize} devices are bus masters no more", stopped);
    let interrupts = interrupt_config(&dmar, &discovered);
    let vector = vectors::allocate(&faults::INTERRUPT).map_err(|_| RemappingError::OutOfVectors)?;
    let config = UnitConfig {
        mode,
        interrupts,
        fault_message: Some(apic::event_message(vector)),
        ..UnitConfig::default()
    };
    let ready = prepare(discovered, &config)?;
    let mode = ready
        .first()
        .map(|unit| unit.mode().mode())
        .ok_or(RemappingError::NoUnit)?;
    let scopes = Box::new(move |device: DeviceId| {
        dmar.unit_of(device, bus)
            .and_then(|unit| u16::try_from(unit.index).ok())
    });
    let preparing = vtd::Driver::new(KernelPlatform, ready, scopes, &DriverConfig::default())
        .map_err(RemappingError::OutOfFrames)?;
    map_reserved_regions(bus, &dmar, &preparing)?;
    let driver = preparing
        .enable()
        .map_err(|failure| RemappingError::BringUp(failure.error))?;
    if interrupts.is_some_and(|config| config.extended) {
        apic::enter_x2apic();
    }
    Ok(REMAPPING.call_once(|| Remapping {
        driver,
        dmar,
        mode,
        interrupts: interrupts.is_some(),
    }))
}

fn is_reserved(bus: &Bus, dmar: &Dmar<'_>, device: DeviceId) -> bool {
    dmar.regions_of(device, bus).next().is_some()
}

fn discover(bus: &Bus, dmar: &Dmar<'_>) -> Result<Vec<Discovered<RegisterWindow>>, RemappingError> {
    let mut units = Vec::new();
    for unit in dmar.units() {
        units
            .try_reserve(1)
            .map_err(|_| RemappingError::OutOfMemory)?;
        units.push(open(bus, dmar, &unit)?);
    }
    if units.is_empty() {
        return Err(RemappingError::NoUnit);
    }
    Ok(units)
}

fn open(
    bus: &Bus,
    dmar: &Dmar<'_>,
    unit: &Unit<'_>,
) -> Result<Discovered<RegisterWindow>, RemappingError> {
    let index = u16::try_from(unit.index).map_err(|_| RemappingError::OutOfMemory)?;
    let drhd = &unit.drhd;
    super::describe::scopes(bus, unit);
    let unreachable = |error| RemappingError::Unreachable { unit: index, error };
    let window = RegisterWindow::map(drhd.register_base, drhd.register_bytes() as usize)
        .map_err(unreachable)?;
    let description = UnitDescription {
        index,
        segment: drhd.segment,
        register_base: drhd.register_base,
        host_bits: host_bits(dmar),
    };
    Discovered::open(description, window, &KernelPlatform).map_err(RemappingError::Discovery)
}

/// Bits of physical address that both the DMAR and the CPU know.
fn host_bits(dmar: &Dmar<'_>) -> u8 {
    let cpu = cpu::features().physical_bits;
    let table = dmar.host_address_width().unwrap_or(u16::from(cpu));
    u8::try_from(table).unwrap_or(u8::MAX).min(cpu)
}

/// Interrupts are remapped if all units can: a device behind one that cannot could raise
/// what it likes. 32-bit APIC ids are used if all units have them, the CPU has x2APIC mode
/// and the firmware does not object (§5.1.2.1, §8.1).
fn interrupt_config(
    dmar: &Dmar<'_>,
    units: &[Discovered<RegisterWindow>],
) -> Option<InterruptConfig> {
    let all_have =
        |has: fn(vtd::registers::Ecap) -> bool| units.iter().all(|unit| has(unit.abilities().ecap));
    let flags = dmar.flags();
    if !flags.contains(DmarFlags::INTR_REMAP) || !all_have(|ecap| ecap.ir()) {
        defmt::warn!("interrupts are not remapped: the DMAR or a unit says that they cannot be");
        return None;
    }
    let extended = all_have(|ecap| ecap.eim())
        && cpu::features().x2apic
        && !flags.contains(DmarFlags::X2APIC_OPT_OUT);
    Some(InterruptConfig {
        entries_log2: INTERRUPT_ENTRIES_LOG2,
        extended,
    })
}

fn prepare(
    units: Vec<Discovered<RegisterWindow>>,
    config: &UnitConfig,
) -> Result<Vec<Ready<RegisterWindow>>, RemappingError> {
    let mut ready = Vec::new();
    ready
        .try_reserve_exact(units.len())
        .map_err(|_| RemappingError::OutOfMemory)?;
    for unit in units {
        let quiesced = unit
            .quiesce(&KernelPlatform, TimeLimits::default())
            .map_err(RemappingError::BringUp)?;
        let unit = quiesced
            .prepare(&KernelPlatform, config)
            .map_err(RemappingError::BringUp)?;
        ready.push(unit);
    }
    Ok(ready)
}

/// Attaches every device that has reserved regions to a domain in which these are mapped
/// one to one (§8.4), before translation starts.
fn map_reserved_regions(
    bus: &Bus,
    dmar: &Dmar<'_>,
    driver: &PreparingDriver,
) -> Result<(), RemappingError> {
    for function in bus.topology.functions() {
        let device = function.id;
        if is_reserved(bus, dmar, device) {
            keep_reaching(bus, dmar, driver, device)
                .map_err(|error| RemappingError::Reserved { device, error })?;
        }
    }
    Ok(())
}

fn keep_reaching(
    bus: &Bus,
    dmar: &Dmar<'_>,
    driver: &PreparingDriver,
    device: DeviceId,
) -> Result<(), ReservedError> {
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
    let no_memory = OutOfFrames { order: Order::PAGE };
    let mut batch = Batch::with_capacity(1).ok_or(BackendError::OutOfFrames(no_memory))?;
    for region in dmar.regions_of(device, bus) {
        if memory::is_usable(&region.range) {
            // Others own that memory, or will: the device must not reach it (§8.4 has the
            // firmware list such regions as reserved).
            defmt::warn!(
                "{}: its reserved region at {} is usable memory; it stays blocked there",
                device,
                region.range.first()
            );
            continue;
        }
        defmt::info!(
            "{}: keeps reaching {} to {}",
            device,
            region.range.first(),
            region.range.last()
        );
        let owed = driver
            .map(
                domain,
                identity(&region.range),
                &[Run {
                    hpa: region.range.first(),
                    pages: region.range.pages(),
                }],
                Access::READ_WRITE,
            )
            .map_err(ReservedError::Map)?;
        settle(driver, &mut batch, owed)?;
    }
    let slot = Slot {
        device,
        pasid: None,
    };
    let replaced = driver.replace(slot, Attachment::Domain(domain))?;
    settle(driver, &mut batch, replaced.owed)
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

fn identity(range: &AddressRange<Hpa>) -> Iova {
    Iova::new(range.first().as_u64())
}

impl From<BackendError> for ReservedError {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}
