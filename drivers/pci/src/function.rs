//! One PCI function.

use crate::bars::{self, BARS, Bar};
use crate::{Capabilities, Config};
use core::fmt;
use iommu_core::DeviceId;
use pci_types::{ConfigRegionAccess, HeaderType, PciHeader, PciPciBridgeHeader};

/// What kind of device a function is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    /// Base class.
    pub base: u8,
    /// Sub-class.
    pub sub: u8,
    /// Programming interface.
    pub interface: u8,
}

/// The buses behind a bridge, as the firmware numbered them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bridge {
    /// The bus right behind it.
    pub secondary: u8,
    /// The last bus behind it.
    pub subordinate: u8,
}

/// A PCI function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Segment, bus, device, function.
    pub id: DeviceId,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Class.
    pub class: Class,
    /// `Some` for a bridge.
    pub bridge: Option<Bridge>,
    /// Base address registers; none before [`Topology::size_bars`](crate::Topology::size_bars).
    pub bars: [Option<Bar>; BARS],
    /// Capabilities.
    pub capabilities: Capabilities,
}

impl Function {
    /// Reads the function at `id`, if one answers.
    pub(crate) fn read<A: ConfigRegionAccess>(access: &A, id: DeviceId) -> Option<Self> {
        let config = Config::new(access, id);
        if !config.is_present() {
            return None;
        }
        let header = PciHeader::new(config.address());
        let (vendor, device) = header.id(access);
        let (_, base, sub, interface) = header.revision_and_class(access);
        let bridge = match header.header_type(access) {
            HeaderType::PciPciBridge => bridge(header, access),
            _ => None,
        };
        Some(Self {
            id,
            vendor,
            device,
            class: Class {
                base,
                sub,
                interface,
            },
            bridge,
            bars: [None; BARS],
            capabilities: Capabilities::read(&config),
        })
    }

    /// Reads and sizes its base address registers.
    pub(crate) fn size_bars<A: ConfigRegionAccess>(&mut self, access: &A) {
        let config = Config::new(access, self.id);
        let count = match PciHeader::new(config.address()).header_type(access) {
            HeaderType::Endpoint => BARS,
            HeaderType::PciPciBridge => 2,
            _ => 0,
        };
        self.bars = bars::read(&config, count);
    }

    /// The BAR of this number.
    pub fn bar(&self, index: u8) -> Option<&Bar> {
        self.bars.iter().flatten().find(|bar| bar.index == index)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:04x}:{:04x}", self.id, self.vendor, self.device)
    }
}

fn bridge<A: ConfigRegionAccess>(header: PciHeader, access: &A) -> Option<Bridge> {
    let header = PciPciBridgeHeader::from_header(header, access)?;
    Some(Bridge {
        secondary: header.secondary_bus_number(access),
        subordinate: header.subordinate_bus_number(access),
    })
}
