//! The machine with its devices found and its remapping units at work: what both kernels
//! do before they differ.

use crate::command_line::VtdSwitch;
use crate::cpu;
use crate::exit::{ExitStatus, exit};
use crate::firmware::{Firmware, FirmwareError, InterruptControllers};
use crate::pci::{self, BarSizing, Bus, BusError};
use crate::remapping::{self, Remapping, RemappingError, Survey};
use crate::rules::Rules;
use crate::start::Machine;
use crate::time;
use crate::turns;
use core::fmt;
use dmar::Dmar;
use vtd::ModeRequest;

/// A machine whose devices are all behind remapping units, blocked.
#[derive(Clone, Copy)]
pub struct Host {
    /// Its devices.
    pub bus: &'static Bus,
    /// Its units.
    pub remapping: &'static Remapping,
}

/// Why a machine cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostError {
    /// ACPI tables.
    Firmware(FirmwareError),
    /// PCI.
    Bus(BusError),
    /// No clock.
    Clock,
    /// Remapping.
    Remapping(RemappingError),
}

impl HostError {
    /// The status with which the kernel ends.
    pub fn status(&self) -> ExitStatus {
        match self {
            // Without tables there is no DMAR either.
            Self::Firmware(_) => ExitStatus::NoDmar,
            Self::Bus(_) | Self::Clock => ExitStatus::Failed,
            Self::Remapping(error) => error.status(),
        }
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firmware(error) => write!(f, "{error}"),
            Self::Bus(error) => write!(f, "{error}"),
            Self::Clock => write!(f, "{}", time::NoClock),
            Self::Remapping(error) => write!(f, "{error}"),
        }
    }
}

impl From<RemappingError> for HostError {
    fn from(error: RemappingError) -> Self {
        Self::Remapping(error)
    }
}

/// A machine whose devices and DMAR are known. Nothing was changed.
pub struct Found {
    firmware: Firmware,
    bus: &'static Bus,
    dmar: Dmar<'static>,
}

/// Finds the machine's devices and its DMAR, and changes nothing.
pub fn find(machine: &Machine) -> Result<Found, HostError> {
    let firmware = Firmware::new(machine.boot.acpi).map_err(HostError::Firmware)?;
    start_clock(&firmware)?;
    let bars = match machine.command_line.vtd {
        VtdSwitch::On => BarSizing::Size,
        VtdSwitch::Off | VtdSwitch::Report => BarSizing::Leave,
    };
    let bus = pci::start(&firmware, bars).map_err(HostError::Bus)?;
    let (dmar, source) = remapping::table(&machine.archive, &firmware)?;
    defmt::info!("using {=str}", source.name());
    Ok(Found {
        firmware,
        bus,
        dmar,
    })
}

impl Found {
    /// What the DMAR says.
    pub fn dmar(&self) -> &Dmar<'static> {
        &self.dmar
    }

    /// Reads all units, tells what they are and what would be done with them, and changes
    /// nothing.
    pub fn survey(&self, machine: &Machine) -> Result<Survey, HostError> {
        let line = &machine.command_line;
        let mode = line.mode.map_or(ModeRequest::Automatic, ModeRequest::from);
        let survey = Survey::new(self.bus, self.dmar, Rules::of(line), mode)?;
        survey.report();
        Ok(survey)
    }
}

/// Finds the machine's devices, tells what will be done, and brings its remapping units up,
/// in the mode that the command line asks for. Once.
pub fn start(machine: &Machine) -> Result<Host, HostError> {
    let found = find(machine)?;
    let survey = found.survey(machine)?;
    let controllers = interrupt_controllers(&found.firmware);
    quieten_interrupts(&controllers);
    let remapping = remapping::start(survey)?;
    turns::prepare().map_err(|_| RemappingError::OutOfVectors)?;
    cpu::start_others(machine.boot, &controllers.processors);
    defmt::info!(
        "{=usize} processors, of which {=usize} are used",
        controllers.processors.len(),
        cpu::count()
    );
    Ok(Host {
        bus: found.bus,
        remapping,
    })
}

/// Like [`start`], for a kernel that can do nothing else on error.
pub fn start_or_exit(machine: &Machine) -> Host {
    match start(machine) {
        Ok(host) => host,
        Err(error) => exit(error.status(), format_args!("{error}")),
    }
}

/// For a machine that shall be looked at only (`vtd=off`, `vtd=report`): looks, and ends.
pub fn look_and_exit(machine: &Machine) -> ! {
    let looked = find(machine).and_then(|found| match machine.command_line.vtd {
        VtdSwitch::Off => Ok("vtd=off: the remapping units are left as the firmware left them, and nothing is given to a guest"),
        _ => found
            .survey(machine)
            .map(|_| "vtd=report: everything was read and nothing was changed"),
    });
    match looked {
        Ok(text) => exit(ExitStatus::Ok, format_args!("{text}")),
        Err(error) => exit(error.status(), format_args!("{error}")),
    }
}

/// The clock by the ACPI timer, if there is none yet.
fn start_clock(firmware: &Firmware) -> Result<(), HostError> {
    if time::source().is_some() {
        return Ok(());
    }
    let timer = firmware.pm_timer().ok_or(HostError::Clock)?;
    time::start_by_pm_timer(timer.port, timer.wide).map_err(|_| HostError::Clock)?;
    if let Some((source, hertz)) = time::source() {
        defmt::info!("time-stamp counter at {=u64} Hz, by {}", hertz, source);
    }
    Ok(())
}

/// Processors and I/O APICs. Without an MADT there is this CPU alone, and nothing to be masked.
fn interrupt_controllers(firmware: &Firmware) -> InterruptControllers {
    firmware.interrupt_controllers().unwrap_or_else(|error| {
        defmt::warn!(
            "neither I/O APICs nor other CPUs are known: {}",
            defmt::Display2Format(&error)
        );
        InterruptControllers::default()
    })
}

/// Masks the I/O APICs' lines before interrupts are remapped.
fn quieten_interrupts(found: &InterruptControllers) {
    for ioapic in &found.ioapics {
        match cpu::ioapic::mask_all(ioapic) {
            Ok(unmasked) => defmt::info!(
                "I/O APIC {=u8} at {}: masked, {=u32} lines were not",
                ioapic.id,
                ioapic.registers,
                unmasked
            ),
            Err(error) => defmt::warn!("I/O APIC {=u8}: {}", ioapic.id, error),
        }
    }
}
