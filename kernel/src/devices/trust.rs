//! Whether a device may translate for itself (ATS), should policy want that: its path must
//! carry nothing but PCI Express and nobody's plug, and firmware must vouch for its root port
//! (ATSR) or, within the root complex, for the device (SATC, SIDP).

use super::Bridges;
use core::fmt;
use dmar::{DeviceProperties, Dmar};
use iommu_core::DeviceId;
use pci::{AtsPath, AtsRefusal, Topology};

/// Why a device is not let translate for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Distrust {
    /// Its path, or the device itself.
    Path(AtsRefusal),
    /// No ATSR structure lists its root port (§8.5).
    PortNotListed(DeviceId),
    /// No SATC or SIDP structure vouches for the device (§8.8, §8.9).
    DeviceNotListed(DeviceId),
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(refusal) => write!(f, "{refusal}"),
            Self::PortNotListed(port) => write!(f, "the DMAR lists no ATS at {port} (ATSR)"),
            Self::DeviceNotListed(device) => {
                write!(f, "the DMAR does not vouch for {device} (SATC, SIDP)")
            }
        }
    }
}

/// Whether a device may be let translate for itself.
pub fn ats_trust(dmar: &Dmar<'_>, topology: &Topology, device: DeviceId) -> Result<(), Distrust> {
    let bridges = Bridges(topology);
    match topology.ats_path(device).map_err(Distrust::Path)? {
        AtsPath::RootPort(port) if dmar.supports_ats(port, &bridges) => Ok(()),
        AtsPath::RootPort(port) => Err(Distrust::PortNotListed(port)),
        AtsPath::Integrated(device) => {
            let properties = dmar.properties(topology.spoken_of(device), &bridges);
            if properties.contains(DeviceProperties::ATC_HARDENED) {
                Ok(())
            } else {
                Err(Distrust::DeviceNotListed(device))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmar::builder::{Scope, Structure, Table};
    use pci::fake::{Machine, id, scanned};

    /// Devices with ATS behind two root ports, and one in the root complex.
    fn machine() -> Machine {
        let machine = Machine::new();
        for port in [1, 3] {
            machine.root_port(0, port, 0, port, port);
            machine.express(port, 0, 0, 0).translation_services(0x180);
        }
        machine.express(0, 9, 0, 9).translation_services(0x180);
        machine
    }

    fn trust(structure: Structure, device: DeviceId) -> Result<(), Distrust> {
        let bytes = Table::new(48).with(structure).build();
        let dmar = Dmar::new(&bytes);
        ats_trust(&dmar, &scanned(&machine()), device)
    }

    #[test]
    fn a_root_port_must_be_listed() {
        let device = id(1, 0, 0);
        let listing = |port| Structure::atsr().scope(Scope::bridge(0, &[(port, 0)]));
        assert_eq!(trust(listing(1), device), Ok(()));
        assert_eq!(
            trust(listing(3), device),
            Err(Distrust::PortNotListed(id(0, 1, 0)))
        );
        let all = Structure::atsr().flags(1);
        assert_eq!(trust(all, device), Ok(()));
        let elsewhere = Structure::atsr().flags(1).segment(1);
        assert_eq!(
            trust(elsewhere, device),
            Err(Distrust::PortNotListed(id(0, 1, 0))),
            "all ports of another segment"
        );
    }

    #[test]
    fn a_device_of_the_root_complex_must_be_vouched_for_itself() {
        let device = id(0, 9, 0);
        let vouching = |number| Structure::satc().scope(Scope::endpoint(0, &[(number, 0)]));
        assert_eq!(trust(vouching(9), device), Ok(()));
        assert_eq!(
            trust(vouching(8), device),
            Err(Distrust::DeviceNotListed(device))
        );
        let all_ports = Structure::atsr().flags(1);
        assert_eq!(
            trust(all_ports, device),
            Err(Distrust::DeviceNotListed(device)),
            "it is behind no port"
        );
    }

    #[test]
    fn nothing_vouches_for_a_device_without_the_capability() {
        let all = Structure::atsr().flags(1);
        assert_eq!(
            trust(all, id(0, 1, 0)),
            Err(Distrust::Path(AtsRefusal::NoCapability))
        );
    }
}
