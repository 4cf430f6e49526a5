//! PCI: the machine's functions, over memory-mapped configuration space (ECAM).

mod ecam;

pub use ecam::{Ecam, EcamError};

use crate::firmware::{Firmware, FirmwareError};
use core::fmt;
use pci::{Bar, BarKind, Function, OutOfMemory, Topology};
use spin::Once;

/// The machine's functions, and how their configuration space is reached.
#[derive(Debug)]
pub struct Bus {
    /// Configuration space.
    pub ecam: Ecam,
    /// The functions.
    pub topology: Topology,
}

/// Why the machine's functions cannot be listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BusError {
    /// The firmware does not say where configuration space is.
    Firmware(FirmwareError),
    /// Configuration space cannot be mapped.
    Ecam(EcamError),
    /// No memory for the list.
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
    if bars == BarSizing::Size {
        topology.size_bars(&ecam);
    }
    for function in topology.functions() {
        describe(function);
    }
    Ok(BUS.call_once(|| Bus { ecam, topology }))
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
