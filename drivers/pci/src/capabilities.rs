//! The capabilities that remapping and passthrough need.

use crate::Config;
use crate::spec::ExpressHeader;
use pci_types::capability::{MsiCapability, MsixCapability, PciCapability};
use pci_types::{ConfigRegionAccess, EndpointHeader, HeaderType, PciHeader};

/// Capabilities that fit the 192 bytes behind the header.
const CAPABILITIES: usize = 48;
/// Extended capabilities that fit their 3840 bytes.
const EXTENDED_CAPABILITIES: usize = 480;

const STATUS: u16 = 0x06;
const STATUS_HAS_LIST: u16 = 1 << 4;
const POINTER: u16 = 0x34;
const POWER: u8 = 0x01;
const EXPRESS: u8 = 0x10;
const ADVANCED_FEATURES: u8 = 0x13;

/// Where an extended capability list begins.
const EXTENDED_FIRST: u16 = 0x100;
const EXTENDED_ACS: u16 = 0x0d;
const EXTENDED_ARI: u16 = 0x0e;
const EXTENDED_ATS: u16 = 0x0f;
const EXTENDED_SRIOV: u16 = 0x10;
const EXTENDED_PRI: u16 = 0x13;
const EXTENDED_PASID: u16 = 0x1b;

/// Device and port type of a PCI Express function (PCIe 6.0, 7.5.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExpressPort {
    /// An endpoint.
    Endpoint,
    /// An endpoint of PCI style.
    LegacyEndpoint,
    /// A root port.
    RootPort,
    /// A switch's port towards the root.
    SwitchUpstream,
    /// A switch's port away from the root.
    SwitchDownstream,
    /// A bridge to conventional PCI. Requests from behind it carry its own id or that of
    /// its secondary bus.
    ToPci,
    /// A bridge from conventional PCI.
    FromPci,
    /// An endpoint within the root complex.
    RootComplexEndpoint,
    /// An event collector of the root complex.
    RootComplexEvents,
    /// A reserved number.
    Reserved(u8),
}

impl ExpressPort {
    const fn from_bits(bits: u8) -> Self {
        match bits {
            0 => Self::Endpoint,
            1 => Self::LegacyEndpoint,
            4 => Self::RootPort,
            5 => Self::SwitchUpstream,
            6 => Self::SwitchDownstream,
            7 => Self::ToPci,
            8 => Self::FromPci,
            9 => Self::RootComplexEndpoint,
            10 => Self::RootComplexEvents,
            other => Self::Reserved(other),
        }
    }
}

/// Capabilities of a function, by where they lie.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capabilities {
    /// Message-signalled interrupts.
    pub msi: Option<MsiCapability>,
    /// MSI-X.
    pub msix: Option<MsixCapability>,
    /// Offset of the PCI Express capability, and the port's type.
    pub express: Option<(u16, ExpressPort)>,
    /// Offset of the access control services capability.
    pub acs: Option<u16>,
    /// Offset of the address translation services capability.
    pub ats: Option<u16>,
    /// Offset of the page request interface capability.
    pub pri: Option<u16>,
    /// Offset of the PASID capability.
    pub pasid: Option<u16>,
    /// Offset of the power management capability.
    pub power: Option<u16>,
    /// Offset of the advanced features capability.
    pub advanced_features: Option<u16>,
    /// Offset of the alternative routing-id capability.
    pub ari: Option<u16>,
    /// Offset of the single-root I/O virtualisation capability.
    pub sriov: Option<u16>,
}

impl Capabilities {
    /// The type of its port, if it has a PCI Express capability.
    pub fn port(&self) -> Option<ExpressPort> {
        self.express.map(|(_, port)| port)
    }

    /// Reads a function's capabilities. A list that is broken is not read.
    pub(crate) fn read<A: ConfigRegionAccess>(config: &Config<'_, A>) -> Self {
        let mut found = Self::default();
        if list_is_sound(config) {
            found.read_list(config);
        }
        if found.express.is_some() {
            found.read_extended(config);
        }
        found
    }

    fn read_list<A: ConfigRegionAccess>(&mut self, config: &Config<'_, A>) {
        // Bridges have their list in the same place; an endpoint's header can be had for
        // endpoints only, so theirs is walked for PCI Express alone.
        let header = PciHeader::new(config.address());
        if header.header_type(config.access()) == HeaderType::Endpoint
            && let Some(endpoint) = EndpointHeader::from_header(header, config.access())
        {
            let list = endpoint.capabilities(config.access());
            for capability in list.take(CAPABILITIES) {
                match capability {
                    PciCapability::Msi(msi) => self.msi = Some(msi),
                    PciCapability::MsiX(msix) => self.msix = Some(msix),
                    _ => {}
                }
            }
        }
        for offset in offsets(config) {
            match config.read8(offset) {
                POWER => self.power = Some(offset),
                ADVANCED_FEATURES => self.advanced_features = Some(offset),
                EXPRESS => {
                    let header = ExpressHeader::from_bits(config.read32(offset));
                    self.express = Some((offset, ExpressPort::from_bits(header.port())));
                }
                _ => {}
            }
        }
    }

    fn read_extended<A: ConfigRegionAccess>(&mut self, config: &Config<'_, A>) {
        let mut offset = EXTENDED_FIRST;
        for _ in 0..EXTENDED_CAPABILITIES {
            let header = config.read32(offset);
            if header == 0 || header == u32::MAX {
                break;
            }
            let slot = match header as u16 {
                EXTENDED_ACS => Some(&mut self.acs),
                EXTENDED_ARI => Some(&mut self.ari),
                EXTENDED_ATS => Some(&mut self.ats),
                EXTENDED_PRI => Some(&mut self.pri),
                EXTENDED_PASID => Some(&mut self.pasid),
                EXTENDED_SRIOV => Some(&mut self.sriov),
                _ => None,
            };
            if let Some(slot) = slot {
                *slot = Some(offset);
            }
            offset = (header >> 20) as u16 & !3;
            if offset < EXTENDED_FIRST {
                break;
            }
        }
    }
}

/// The offsets of a function's capabilities, at most [`CAPABILITIES`] of them.
fn offsets<A: ConfigRegionAccess>(config: &Config<'_, A>) -> impl Iterator<Item = u16> {
    let has_list = config.read16(STATUS) & STATUS_HAS_LIST != 0;
    let first = if has_list {
        config.read8(POINTER) & !3
    } else {
        0
    };
    core::iter::successors(Some(first), |&offset| {
        Some(config.read8(u16::from(offset).saturating_add(1)) & !3)
    })
    .take_while(|&offset| offset != 0)
    .take(CAPABILITIES)
    .map(u16::from)
}

/// Whether the list ends, stays behind the header, and has no null entry: `pci_types` would
/// follow one that goes in circles for ever.
fn list_is_sound<A: ConfigRegionAccess>(config: &Config<'_, A>) -> bool {
    let mut count = 0usize;
    for offset in offsets(config) {
        count = count.saturating_add(1);
        let next = config.read8(offset.saturating_add(1));
        if offset < 0x40 || config.read8(offset) == 0 || next & 3 != 0 {
            return false;
        }
    }
    count < CAPABILITIES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Machine;

    #[test]
    fn msi_msix_and_the_ports_type_are_found() {
        let machine = Machine::new();
        let device = machine
            .endpoint(0, 4, 0)
            .capability(0x40, 0x05, 0x50, 0x0080)
            .capability(0x50, 0x11, 0x60, 0x0003)
            .capability(0x60, 0x10, 0x00, 0x0092)
            .raw(0x100, 0x1401_000f)
            .raw(0x140, 0x0001_001b)
            .id();
        let found = Capabilities::read(&Config::new(&machine, device));
        assert!(found.msi.is_some_and(|msi| msi.is_64bit()));
        assert_eq!(found.msix.map(|msix| msix.table_size()), Some(4));
        assert_eq!(
            found.express,
            Some((0x60, ExpressPort::RootComplexEndpoint))
        );
        assert_eq!((found.ats, found.pasid), (Some(0x100), Some(0x140)));
        assert_eq!((found.acs, found.pri), (None, None));
    }

    #[test]
    fn a_list_that_goes_in_circles_is_not_read() {
        let machine = Machine::new();
        let device = machine
            .endpoint(0, 4, 0)
            .capability(0x40, 0x05, 0x50, 0)
            .capability(0x50, 0x09, 0x40, 0)
            .id();
        assert!(
            Capabilities::read(&Config::new(&machine, device))
                .msi
                .is_none()
        );
    }

    #[test]
    fn a_list_with_a_null_entry_that_points_to_itself_is_not_read() {
        let machine = Machine::new();
        let device = machine.endpoint(0, 4, 0).capability(0x40, 0, 0x40, 0).id();
        assert!(
            Capabilities::read(&Config::new(&machine, device))
                .msi
                .is_none()
        );
    }

    #[test]
    fn an_extended_list_that_goes_in_circles_ends() {
        let machine = Machine::new();
        let device = machine
            .endpoint(0, 4, 0)
            .capability(0x40, 0x10, 0, 0)
            .raw(0x100, 0x1401_000d)
            .raw(0x140, 0x1001_0013)
            .id();
        let found = Capabilities::read(&Config::new(&machine, device));
        assert_eq!((found.acs, found.pri), (Some(0x100), Some(0x140)));
    }
}
