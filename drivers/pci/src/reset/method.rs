//! Which way a function can be reset.

use super::is_behind;
use crate::spec::{AdvancedFeatures, DeviceCapabilities, PowerControl, express};
use crate::{Config, Function, Topology};
use core::fmt;
use iommu_core::DeviceId;
use pci_types::ConfigRegionAccess;
use quirks::Effect;

/// A way to reset a function, the best first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Function-level reset by the PCI Express capability.
    Function,
    /// Function-level reset by the Advanced Features capability.
    AdvancedFeatures,
    /// To D3hot and back.
    Power,
    /// Reset of the bus behind this bridge, and of all that is on it.
    Bus(DeviceId),
}

impl Method {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Function => "function-level reset",
            Self::AdvancedFeatures => "function-level reset (Advanced Features)",
            Self::Power => "stay in D3hot",
            Self::Bus(_) => "bus reset",
        }
    }
}

/// Why a bus is not reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoBusReset {
    /// It is on a root bus.
    RootBus,
    /// This one, behind the same bridge, is in use.
    InUse(DeviceId),
    /// This one, behind the same bridge, does not survive it.
    Fatal(DeviceId, &'static str),
}

/// Why there is no way to reset a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMethod {
    /// A row of the table that forbids a way that the function offers.
    pub forbidden: Option<&'static str>,
    /// Why its bus is not reset.
    pub bus: NoBusReset,
}

impl fmt::Display for NoMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.forbidden {
            Some(quirk) => write!(f, "what it offers is not used ({quirk})")?,
            None => f.write_str("it has no function-level reset and keeps its state in D3hot")?,
        }
        match self.bus {
            NoBusReset::RootBus => f.write_str(", and it is on a root bus, which cannot be reset"),
            NoBusReset::InUse(other) => write!(f, ", and {other} on the same bus is in use"),
            NoBusReset::Fatal(other, quirk) => {
                write!(f, ", and {other} does not survive a bus reset ({quirk})")
            }
        }
    }
}

/// The first way that the function has and nothing forbids.
pub(super) fn choose<A: ConfigRegionAccess>(
    topology: &Topology,
    access: &A,
    device: DeviceId,
    is_in_use: &dyn Fn(DeviceId) -> bool,
) -> Result<Method, NoMethod> {
    let mut forbidden = None;
    if let Some(function) = topology.function(device) {
        let offers = [
            (
                Method::Function,
                has_function_level(access, function),
                Effect::NoFunctionReset,
            ),
            (
                Method::AdvancedFeatures,
                has_advanced(access, function),
                Effect::NoFunctionReset,
            ),
            (
                Method::Power,
                forgets_in_d3(access, function),
                Effect::NoPowerReset,
            ),
        ];
        for (method, offered, forbids) in offers {
            match function.quirk(forbids) {
                _ if !offered => {}
                Some(quirk) => forbidden = Some(quirk.name),
                None => return Ok(method),
            }
        }
    }
    match bus(topology, device, is_in_use) {
        Ok(bridge) => Ok(Method::Bus(bridge)),
        Err(bus) => Err(NoMethod { forbidden, bus }),
    }
}

fn has_function_level<A: ConfigRegionAccess>(access: &A, function: &Function) -> bool {
    function.capabilities.express.is_some_and(|(at, _)| {
        let at = at.saturating_add(express::DEVICE_CAPABILITIES);
        let word = Config::new(access, function.id).read32(at);
        DeviceCapabilities::from_bits(word).function_level_reset()
    })
}

fn has_advanced<A: ConfigRegionAccess>(access: &A, function: &Function) -> bool {
    function.capabilities.advanced_features.is_some_and(|at| {
        let word = Config::new(access, function.id).read32(at);
        let can = AdvancedFeatures::from_bits(word);
        can.function_level_reset() && can.transactions_pending()
    })
}

fn forgets_in_d3<A: ConfigRegionAccess>(access: &A, function: &Function) -> bool {
    function.capabilities.power.is_some_and(|at| {
        let word = Config::new(access, function.id).read32(at.saturating_add(4));
        !PowerControl::from_bits(word).no_soft_reset()
    })
}

/// The bridge whose bus may be reset for the function.
fn bus(
    topology: &Topology,
    device: DeviceId,
    is_in_use: &dyn Fn(DeviceId) -> bool,
) -> Result<DeviceId, NoBusReset> {
    // The virtual functions of a function are its own bus's, so to speak.
    let bridge = topology.parent(device).ok_or(NoBusReset::RootBus)?.id;
    let mut behind = topology
        .functions()
        .iter()
        .filter(|other| is_behind(topology, other.id, bridge));
    let obstacle = behind.find_map(|other| {
        if other.id != device && is_in_use(other.id) {
            return Some(NoBusReset::InUse(other.id));
        }
        let fatal = other.quirk(Effect::NoBusReset)?;
        Some(NoBusReset::Fatal(other.id, fatal.name))
    });
    obstacle.map_or(Ok(bridge), Err)
}
