//! Brings all units up, in the order that keeps every device either blocked or where it
//! was.

use super::error::RemappingError;
use super::survey::{self, Survey};
use super::{faults, page_requests, reserved, say};
use crate::command_line::Mode as AskedMode;
use crate::cpu::{apic, vectors};
use crate::devices::{Distrust, ats_trust};
use crate::memory::RegisterWindow;
use crate::pci::Bus;
use crate::platform::KernelPlatform;
use crate::rules::{Refusal, Rules};
use alloc::boxed::Box;
use alloc::vec::Vec;
use dmar::Dmar;
use iommu_core::DeviceId;
use pci::Function;
use spin::Once;
use vtd::{
    Discovered, DriverConfig, Mode, ModeRequest, PageRequestConfig, Preparing, Ready, TimeLimits,
    Translating, UnitConfig,
};

/// The driver at work.
pub type Driver = vtd::Driver<KernelPlatform, RegisterWindow, Translating>;

pub(super) type PreparingDriver = vtd::Driver<KernelPlatform, RegisterWindow, Preparing>;

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
    /// Bits of physical address that DMAR and CPU know.
    pub host_bits: u8,
    rules: Rules,
    pub(super) bus: &'static Bus,
}

impl Remapping {
    /// The number of the unit that remaps a device.
    pub fn unit_of(&self, device: DeviceId) -> Option<u16> {
        survey::unit_number(self.bus, &self.dmar, device)
    }

    /// What the command line says.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether a device may be given to a guest.
    pub fn may_pass_through(&self, function: &Function) -> Result<(), Refusal> {
        survey::fate(self.bus, &self.dmar, &self.rules, function, self.interrupts)
    }

    /// Whether a device could be let translate for itself, should policy want that.
    pub fn ats_trust(&self, device: DeviceId) -> Result<(), Distrust> {
        ats_trust(&self.dmar, &self.bus.topology, device)
    }
}

static REMAPPING: Once<Remapping> = Once::new();

/// Remapping at work, once [`start`] has brought it up.
pub fn remapping() -> Option<&'static Remapping> {
    REMAPPING.get()
}

impl From<AskedMode> for ModeRequest {
    fn from(mode: AskedMode) -> Self {
        match mode {
            AskedMode::Legacy => Self::Legacy,
            AskedMode::SecondStage => Self::SecondStage,
            AskedMode::FirstStage => Self::FirstStage,
        }
    }
}

/// Brings all units up: queues, interrupt remapping and fault events, then what devices
/// keep, then translation. Every other device starts blocked.
pub fn start(survey: Survey) -> Result<&'static Remapping, RemappingError> {
    let bus = survey.bus;
    let stopped = bus
        .topology
        .stop_bus_masters(&bus.ecam, |device| survey.reach(device).keeps_mastering());
    say::info(format_args!(
        "{stopped} device(s) are bus masters no more, until they are given something"
    ));
    let interrupts = survey.interrupts();
    let vector = vectors::allocate(&faults::INTERRUPT).map_err(|_| RemappingError::OutOfVectors)?;
    let asked =
        vectors::allocate(&page_requests::INTERRUPT).map_err(|_| RemappingError::OutOfVectors)?;
    let config = UnitConfig {
        mode: survey.request,
        interrupts,
        fault_message: Some(apic::event_message(vector)),
        page_requests: Some(PageRequestConfig {
            pages_log2: page_requests::QUEUE_PAGES_LOG2,
            message: Some(apic::event_message(asked)),
        }),
    };
    let mut survey = survey;
    let ready = prepare(core::mem::take(&mut survey.units), &config)?;
    let mode = ready
        .first()
        .map(|unit| unit.mode().mode())
        .ok_or(RemappingError::NoUnit)?;
    let dmar = survey.dmar;
    let scopes = Box::new(move |device: DeviceId| survey::unit_number(bus, &dmar, device));
    let preparing = vtd::Driver::new(KernelPlatform, ready, scopes, &DriverConfig::default())
        .map_err(RemappingError::OutOfFrames)?;
    reserved::keep_all(&survey, &preparing)?;
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
        host_bits: survey::host_bits(&dmar),
        rules: survey.rules,
        bus,
    }))
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
