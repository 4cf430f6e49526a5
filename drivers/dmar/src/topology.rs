//! From a path to a device: what the caller knows of the PCI buses.

use crate::scope::{Scope, ScopeKind};
use iommu_core::{DeviceId, Segment, SourceId};

/// The buses behind a bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BusRange {
    /// The bus directly behind it (configuration register 19h).
    pub secondary: u8,
    /// The highest bus behind it (1Ah).
    pub subordinate: u8,
}

impl BusRange {
    /// Whether the bus is behind the bridge.
    pub fn contains(self, bus: u8) -> bool {
        (self.secondary..=self.subordinate).contains(&bus)
    }

    fn buses(self) -> u8 {
        self.subordinate.saturating_sub(self.secondary)
    }
}

/// What the caller knows of the PCI buses.
pub trait PciTopology {
    /// The buses behind a function, if it is there and is a bridge to another PCI bus
    /// (header type 1).
    fn buses_behind(&self, bridge: DeviceId) -> Option<BusRange>;
}

impl<T: PciTopology + ?Sized> PciTopology for &T {
    fn buses_behind(&self, bridge: DeviceId) -> Option<BusRange> {
        (**self).buses_behind(bridge)
    }
}

/// Knows no bridge: paths of several steps lead nowhere, and nothing is behind anything.
#[derive(Clone, Copy, Default, Debug)]
pub struct NoBridges;

impl PciTopology for NoBridges {
    fn buses_behind(&self, _bridge: DeviceId) -> Option<BusRange> {
        None
    }
}

/// How closely a scope names a device; less is closer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Closeness {
    /// The device itself.
    Itself,
    /// A bridge above it, with so many buses behind.
    Behind(u8),
}

impl Scope<'_> {
    /// The source id that the scope names, on a bus of `segment`. `None` if a bridge on
    /// the way is not there, or the path is none.
    ///
    /// For an HPET or a name-space device the path has one step and is the id itself.
    pub fn source(&self, segment: Segment, topology: &impl PciTopology) -> Option<SourceId> {
        if !self.kind.is_pci() && self.kind != ScopeKind::IoApic {
            return self.fixed_source();
        }
        let mut bus = self.start_bus;
        let mut path = self.path();
        loop {
            let hop = path.next()?;
            let source = SourceId::new(bus, hop.device, hop.function)?;
            if path.clone().next().is_none() {
                return Some(source);
            }
            let bridge = DeviceId::new(segment, source);
            bus = topology.buses_behind(bridge)?.secondary;
        }
    }

    /// Whether, and how closely, the scope of a structure of `segment` names the device.
    pub(crate) fn closeness(
        &self,
        segment: Segment,
        device: DeviceId,
        topology: &impl PciTopology,
    ) -> Option<Closeness> {
        let names_requester = self.kind.is_pci() || self.kind == ScopeKind::NamespaceDevice;
        if segment != device.segment || !names_requester {
            return None;
        }
        let source = self.source(segment, topology)?;
        if source == device.source {
            return Some(Closeness::Itself);
        }
        if self.kind != ScopeKind::SubHierarchy {
            return None;
        }
        let buses = topology.buses_behind(DeviceId::new(segment, source))?;
        buses
            .contains(device.source.bus())
            .then(|| Closeness::Behind(buses.buses()))
    }
}
