//! All functions of the machine, and how buses hang together.

use crate::{Config, Function};
use alloc::vec::Vec;
use iommu_core::{DeviceId, SourceId};
use pci_types::{CommandRegister, ConfigRegionAccess};

/// Bridges between a function and its root at most: bus numbers end at 255.
const DEPTH: usize = 256;

/// No memory for the list of functions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

/// All functions of the machine, in the order of their ids.
#[derive(Debug, Default)]
pub struct Topology {
    pub(crate) functions: Vec<Function>,
}

impl Topology {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            functions: Vec::new(),
        }
    }

    /// Sizes the base address registers of all functions, each of whose decoding is off for
    /// that moment. [`scan`](Self::scan) writes nothing.
    pub fn size_bars<A: ConfigRegionAccess>(&mut self, access: &A) {
        for function in &mut self.functions {
            function.size_bars(access);
        }
    }

    /// All functions.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The function of this id.
    pub fn function(&self, id: DeviceId) -> Option<&Function> {
        let index = self
            .functions
            .binary_search_by_key(&id, |function| function.id)
            .ok()?;
        self.functions.get(index)
    }

    /// The first function of this vendor and device id.
    pub fn find(&self, vendor: u16, device: u16) -> Option<&Function> {
        self.functions
            .iter()
            .find(|function| (function.vendor, function.device) == (vendor, device))
    }

    /// The bridge that leads to the function's bus; `None` on a root bus. For a virtual
    /// function, whose bus number may lead nowhere, the one above its physical function.
    pub fn parent(&self, id: DeviceId) -> Option<&Function> {
        let id = self.physical(id);
        self.functions.iter().find(|function| {
            function.id.segment == id.segment
                && function.id.source.bus() != id.source.bus()
                && function
                    .bridge
                    .is_some_and(|bridge| bridge.secondary == id.source.bus())
        })
    }

    /// The bridges above a function, the nearest first.
    pub fn ancestors(&self, id: DeviceId) -> impl Iterator<Item = &Function> {
        core::iter::successors(self.parent(id), |bridge| self.parent(bridge.id)).take(DEPTH)
    }

    /// Its physical function, if it is a virtual one; itself if not.
    pub fn physical(&self, id: DeviceId) -> DeviceId {
        let function = self.function(id);
        function
            .and_then(|function| function.physical)
            .unwrap_or(id)
    }

    /// Whether the buses of its segment lead to it by function numbers of 8 bits.
    pub fn has_ari(&self, id: DeviceId) -> bool {
        let id = self.physical(id);
        let first = DeviceId::new(
            id.segment,
            SourceId::from_bits(u16::from_be_bytes([id.source.bus(), 0])),
        );
        self.parent(id).is_some_and(|port| port.forwards_ari)
            && self
                .function(first)
                .is_some_and(|first| first.capabilities.ari.is_some())
    }

    /// The function that firmware's tables speak of when they mean this one (VT-d §8.3):
    /// the physical one of a virtual function, function 0 of a device with function numbers
    /// of 8 bits, and for an id that is no function's but an alias, a function that uses it.
    pub fn spoken_of(&self, id: DeviceId) -> DeviceId {
        let Some(function) = self.function(id) else {
            return self.who_requests_as(id).unwrap_or(id);
        };
        let physical = function.physical.unwrap_or(id);
        if self.has_ari(physical) {
            let first = u16::from_be_bytes([physical.source.bus(), 0]);
            return DeviceId::new(physical.segment, SourceId::from_bits(first));
        }
        physical
    }

    /// The port above it into which devices can be plugged while the machine runs.
    pub fn hot_plug_port(&self, id: DeviceId) -> Option<&Function> {
        self.ancestors(id)
            .find(|port| port.slot.is_some_and(|slot| slot.hot_plug))
    }

    /// Turns bus mastering, and with it DMA and message-signalled interrupts, off for all
    /// functions that `keep` does not name. Bridges keep it: off, it would cut off what lies
    /// behind them. Returns how many it was turned off for.
    pub fn stop_bus_masters<A: ConfigRegionAccess>(
        &self,
        access: &A,
        keep: impl Fn(DeviceId) -> bool,
    ) -> usize {
        self.functions
            .iter()
            .filter(|function| function.bridge.is_none() && !keep(function.id))
            .filter(|function| {
                let config = Config::new(access, function.id);
                let command = config.command();
                let on = command.contains(CommandRegister::BUS_MASTER_ENABLE);
                if on {
                    config.set_command(command.difference(CommandRegister::BUS_MASTER_ENABLE));
                }
                on
            })
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Machine;
    use iommu_core::Segment;
    use std::vec;

    const SEGMENT: Segment = Segment(0);

    fn id(bus: u8, device: u8, function: u8) -> DeviceId {
        DeviceId::new(SEGMENT, SourceId::new(bus, device, function).unwrap())
    }

    fn scanned(machine: &Machine) -> Topology {
        let mut topology = Topology::new();
        topology.scan(machine, SEGMENT, 0..=255).unwrap();
        topology.size_bars(machine);
        topology
    }

    /// 00:00.0 host bridge; 00:1c.0 and .4 root ports to buses 1-3 and 4; 01:00.0 bridge to
    /// bus 2; 02:05.0, 04:00.0 endpoints; 80:02.0 on a root bus of its own.
    fn machine() -> Machine {
        let machine = Machine::new();
        machine.endpoint(0, 0, 0);
        machine.bridge(0, 0x1c, 0, 1, 3).multiple_functions();
        machine.bridge(0, 0x1c, 4, 4, 4);
        machine.bridge(1, 0, 0, 2, 3);
        machine.endpoint(2, 5, 0).command(0b111);
        machine.endpoint(4, 0, 0).command(0b111);
        machine.endpoint(0x80, 2, 0);
        machine
    }

    #[test]
    fn functions_behind_bridges_and_on_other_roots_are_found() {
        let topology = scanned(&machine());
        let found: vec::Vec<_> = topology.functions().iter().map(|f| f.id).collect();
        assert_eq!(
            found,
            [
                id(0, 0, 0),
                id(0, 0x1c, 0),
                id(0, 0x1c, 4),
                id(1, 0, 0),
                id(2, 5, 0),
                id(4, 0, 0),
                id(0x80, 2, 0)
            ]
        );
    }

    #[test]
    fn the_way_to_the_root_is_told() {
        let topology = scanned(&machine());
        let above: vec::Vec<_> = topology.ancestors(id(2, 5, 0)).map(|f| f.id).collect();
        assert_eq!(above, [id(1, 0, 0), id(0, 0x1c, 0)]);
        assert!(topology.parent(id(0x80, 2, 0)).is_none());
    }

    #[test]
    fn bridges_that_lead_in_circles_do_not_hang() {
        let machine = Machine::new();
        machine.bridge(0, 1, 0, 1, 1);
        machine.bridge(1, 0, 0, 0, 0);
        machine.bridge(1, 1, 0, 2, 2);
        machine.bridge(2, 0, 0, 1, 2);
        let topology = scanned(&machine);
        assert!(topology.ancestors(id(2, 3, 0)).count() <= DEPTH);
    }

    #[test]
    fn only_those_that_are_kept_remain_bus_masters() {
        let machine = machine();
        let topology = scanned(&machine);
        let stopped = topology.stop_bus_masters(&machine, |device| device == id(4, 0, 0));
        assert_eq!(stopped, 1);
        let is_master = |device| {
            Config::new(&machine, device)
                .command()
                .contains(CommandRegister::BUS_MASTER_ENABLE)
        };
        assert!(!is_master(id(2, 5, 0)));
        assert!(is_master(id(4, 0, 0)));
        assert!(is_master(id(0, 0x1c, 0)));
    }
}
