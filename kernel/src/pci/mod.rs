//! PCI: the machine's functions, over memory-mapped configuration space (ECAM).

mod ecam;

pub use ecam::{Ecam, EcamError};

use crate::cpu;
use crate::devices::Errata;
use crate::firmware::{Firmware, FirmwareError};
use crate::time::KernelClock;
use core::fmt;
use pci::{Bar, BarKind, Function, Groups, OutOfMemory, Topology};
use spin::Once;

/// The machine's functions, and how their configuration space is reached.
#[derive(Debug)]
pub struct Bus {
    /// Configuration space.
    pub ecam: Ecam,
    /// The functions.
    pub topology: Topology,
    /// Those of them that cannot be kept apart.
    pub groups: Groups,
    /// What is known to be wrong with this machine.
    pub errata: Errata,
}

/// Why the machine's functions cannot be listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BusError {
    /// The firmware does not say where configuration space is.
    Firmware(FirmwareError),
    /// Configuration space cannot be mapped.
    Ecam(EcamError),
    /// No memory for the list, or for the groups.
    OutOfMemory,
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firmware(error) => write!(f, "{error}"),
            Self::Ecam(error) => write!(f, "{error}"),
            Self::OutOfMemory => f.write_str("no memory for the list of PCI functions"),
        }
    }
}

impl From<OutOfMemory> for BusError {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

static BUS: Once<Bus> = Once::new();

/// Whether base address registers are sized, which takes writes to configuration space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarSizing {
    /// They are.
    Size,
    /// Nothing is written, and nothing is known of them.
    Leave,
}

/// Finds the machine's functions. Once.
pub fn start(firmware: &Firmware, bars: BarSizing) -> Result<&'static Bus, BusError> {
    let regions = firmware.ecam_regions().map_err(BusError::Firmware)?;
    let ecam = Ecam::map(&regions).map_err(BusError::Ecam)?;
    let mut topology = Topology::new();
    for region in ecam.regions() {
        topology.scan(&ecam, region.segment, region.first_bus..=region.last_bus)?;
    }
    let errata = Errata::of(&topology, cpu::features().processor)?;
    match bars {
        BarSizing::Size => {
            topology.size_bars(&ecam);
            harden(&mut topology, &ecam);
            errata.apply(&ecam);
        }
        BarSizing::Leave => topology.foresee_hardening(),
    }
    for function in topology.functions() {
        describe(function);
    }
    let groups = Groups::of(&topology)?;
    Ok(BUS.call_once(|| Bus {
        ecam,
        topology,
        groups,
        errata,
    }))
}

/// Isolation on, and what firmware left on off.
fn harden(topology: &mut Topology, ecam: &Ecam) {
    let done = topology.harden(ecam, &KernelClock);
    defmt::info!(
        "access control services turned on in {=usize} function(s), phantom functions off in {=usize}, translation services off in {=usize}",
        done.access_control,
        done.phantom_functions,
        done.translation_services
    );
    if done.restless > 0 {
        defmt::warn!(
            "{=usize} function(s) go on making page requests, which no unit takes",
            done.restless
        );
    }
}

/// The machine's functions, once [`start`] has found them.
pub fn bus() -> Option<&'static Bus> {
    BUS.get()
}

fn describe(function: &Function) {
    defmt::debug!(
        "{}: {=u16:04x}:{=u16:04x}, class {=u8:02x}.{=u8:02x}, MSI {=bool}, MSI-X {=bool}",
        function.id,
        function.vendor,
        function.device,
        function.class.base,
        function.class.sub,
        function.capabilities.msi.is_some(),
        function.capabilities.msix.is_some()
    );
    if let Some(bridge) = function.bridge {
        defmt::debug!(
            "{}: bridge to buses {=u8:02x} to {=u8:02x}",
            function.id,
            bridge.secondary,
            bridge.subordinate
        );
    }
    if let Some(slot) = function.slot.filter(|slot| slot.hot_plug) {
        defmt::info!(
            "{}: what is plugged in behind it later stays blocked and is given to nobody; what is taken out{=str} is given up",
            function.id,
            if slot.surprise {
                ", be it without a word,"
            } else {
                ""
            }
        );
    }
    if let Some(physical) = function.physical {
        defmt::info!(
            "{}: virtual function of {}, remapped by its unit and blocked",
            function.id,
            physical
        );
    }
    for bar in function.bars.iter().flatten() {
        describe_bar(function, bar);
    }
}

fn describe_bar(function: &Function, bar: &Bar) {
    defmt::debug!(
        "{}: BAR {=u8}: {=str} at {=u64:#x}, {=u64:#x} bytes",
        function.id,
        bar.index,
        match bar.kind {
            BarKind::Io => "ports",
            BarKind::Memory32 => "memory, 32 bit",
            BarKind::Memory64 => "memory, 64 bit",
        },
        bar.base.as_u64(),
        bar.size
    );
}
