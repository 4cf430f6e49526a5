//! The ids under which a function's requests reach a remapping unit (VT-d §3.4.1): its own,
//! those of bridges that take requests over, those of phantom functions, and those that a
//! device uses by mistake.

use crate::{ExpressPort, Function, Topology};
use iommu_core::{DeviceId, SourceId};
use quirks::{Alias, Effect};

impl Topology {
    /// The ids under which requests of a function come, its own first, none twice. For one that
    /// is not there, its own.
    ///
    /// With seven phantom functions there are eight; a chain of conventional bridges adds one
    /// for each.
    pub fn requesters(&self, id: DeviceId) -> impl Iterator<Item = SourceId> + '_ {
        let is_first = move |&(place, source): &(usize, SourceId)| {
            let mut before = self.sources(id).take(place);
            before.all(|other| other != source)
        };
        let all = self.sources(id).enumerate().filter(is_first);
        all.map(|(_, source)| source)
    }

    /// The same, where some may come twice.
    pub(crate) fn sources(&self, id: DeviceId) -> impl Iterator<Item = SourceId> + '_ {
        let function = self.function(id);
        let quirks = function.into_iter().flat_map(Function::quirks);
        let by_mistake = quirks.filter_map(move |quirk| match quirk.effect {
            Effect::RequestsAs(alias) => Some(of_alias(id.source, alias)),
            _ => None,
        });
        let phantoms = function.into_iter().flat_map(phantoms);
        let bridges = function.into_iter().flat_map(move |_| self.ancestors(id));
        core::iter::once(id.source)
            .chain(by_mistake)
            .chain(phantoms)
            .chain(bridges.filter_map(taken_over_by))
    }

    /// A function whose requests come under this id too, which is another's or nobody's.
    pub(crate) fn who_requests_as(&self, id: DeviceId) -> Option<DeviceId> {
        let uses = |function: &&Function| {
            function.id.segment == id.segment
                && self.sources(function.id).any(|source| source == id.source)
        };
        self.functions.iter().find(uses).map(|function| function.id)
    }
}

/// Whom a message-signalled interrupt of a function comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InterruptRequester {
    /// This id: the function's own, or that of a bridge or function that speaks for it.
    Id(SourceId),
    /// Some id of these buses, both ends within.
    Buses(u8, u8),
}

impl Topology {
    /// Whom interrupts of a function come from, as narrowly as it can be told.
    ///
    /// A bridge from PCI Express may leave an interrupt its sender's id or put its own in
    /// place, so behind one the bus is all that is certain; likewise for a function that
    /// uses several ids of its bus.
    pub fn interrupt_requester(&self, id: DeviceId) -> InterruptRequester {
        let last = self.requesters(id).last().unwrap_or(id.source);
        let own = id.source.bus();
        let is_function = |alias: &SourceId| *alias == last && last.devfn() == 0 && last.bus() != 0;
        let behind_express = self.ancestors(id).any(|bridge| {
            bridge
                .bridge
                .is_some_and(|behind| behind.secondary == last.bus())
                && taken_over_by(bridge).as_ref().is_some_and(is_function)
        });
        if self.requesters(id).nth(1).is_none() {
            InterruptRequester::Id(id.source)
        } else if behind_express {
            InterruptRequester::Buses(last.bus(), own.max(last.bus()))
        } else if self.requesters(id).all(|alias| alias.bus() == own) {
            InterruptRequester::Buses(own, own)
        } else {
            InterruptRequester::Id(last)
        }
    }
}

fn of_alias(own: SourceId, alias: Alias) -> SourceId {
    let low = match alias {
        Alias::Function(function) => own.devfn() & !7 | function & 7,
        Alias::DeviceFunction(both) => both,
    };
    SourceId::from_bits(u16::from_be_bytes([own.bus(), low]))
}

/// Function numbers that the upper bits of its own number make (PCIe 6.0, 7.5.3.3).
fn phantoms(function: &Function) -> impl Iterator<Item = SourceId> + use<> {
    let bits = function.phantom_bits.min(3);
    let own = function.id.source.bits();
    let shift = 3u8.saturating_sub(bits);
    (0..1u16 << bits).map(move |upper| SourceId::from_bits(own & !7 | upper << shift | own & 7))
}

/// The id under which a bridge sends on what comes from behind it, if it takes it over.
///
/// A bridge from PCI Express uses function 0.0 of its secondary bus (PCIe to PCI/PCI-X
/// Bridge 1.0, 2.3), one that has no PCI Express side its own id.
fn taken_over_by(bridge: &Function) -> Option<SourceId> {
    let behind = bridge.bridge?;
    let secondary = SourceId::from_bits(u16::from_be_bytes([behind.secondary, 0]));
    match bridge.capabilities.port() {
        Some(ExpressPort::ToPci) => Some(secondary),
        Some(ExpressPort::FromPci) => Some(bridge.id.source),
        Some(_) => None,
        None if bridge.quirk(Effect::BridgesAsExpress).is_some() => Some(secondary),
        None => Some(bridge.id.source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Machine, id, scanned};
    use std::vec::Vec;

    fn requesters(machine: &Machine, device: DeviceId) -> Vec<SourceId> {
        scanned(machine).requesters(device).collect()
    }

    fn source(bus: u8, device: u8, function: u8) -> SourceId {
        SourceId::new(bus, device, function).unwrap()
    }

    #[test]
    fn an_express_device_behind_switches_has_its_own_id_alone() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 3);
        machine.bridge(1, 0, 0, 2, 3).port(5);
        machine.bridge(2, 0, 0, 3, 3).port(6);
        machine.express(3, 0, 0, 0);
        assert_eq!(requesters(&machine, id(3, 0, 0)), [source(3, 0, 0)]);
    }

    #[test]
    fn a_bridge_from_express_speaks_for_what_is_behind_it_as_the_first_of_its_bus() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 2);
        machine.bridge(1, 0, 0, 2, 2).port(7);
        machine.endpoint(2, 5, 1);
        machine.endpoint(2, 5, 0).multiple_functions();
        assert_eq!(
            requesters(&machine, id(2, 5, 1)),
            [source(2, 5, 1), source(2, 0, 0)]
        );
        assert_eq!(
            requesters(&machine, id(1, 0, 0)),
            [source(1, 0, 0)],
            "the bridge's own requests are its own"
        );
    }

    #[test]
    fn a_conventional_bridge_speaks_for_what_is_behind_it_under_its_own_id() {
        let machine = Machine::new();
        machine.bridge(0, 0x1e, 0, 1, 1);
        machine.endpoint(1, 3, 0);
        assert_eq!(
            requesters(&machine, id(1, 3, 0)),
            [source(1, 3, 0), source(0, 0x1e, 0)]
        );
    }

    #[test]
    fn a_conventional_bridge_that_is_known_to_do_otherwise_is_believed() {
        let machine = Machine::new();
        machine.bridge(0, 0x1e, 0, 1, 1).raw(0, 0x244e_8086);
        machine.endpoint(1, 3, 0);
        assert_eq!(
            requesters(&machine, id(1, 3, 0)),
            [source(1, 3, 0), source(1, 0, 0)]
        );
    }

    #[test]
    fn bridges_behind_bridges_add_their_ids() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 3);
        machine.bridge(1, 0, 0, 2, 3).port(7);
        machine.bridge(2, 4, 0, 3, 3);
        machine.endpoint(3, 1, 0);
        assert_eq!(
            requesters(&machine, id(3, 1, 0)),
            [source(3, 1, 0), source(2, 4, 0), source(2, 0, 0)]
        );
    }

    #[test]
    fn interrupts_come_from_where_requests_come_from() {
        let of = |machine: &Machine, device| scanned(machine).interrupt_requester(device);
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 3);
        machine.bridge(1, 0, 0, 2, 3).port(7);
        machine.endpoint(2, 5, 0);
        machine.bridge(2, 6, 0, 3, 3);
        machine.endpoint(3, 1, 0);
        machine.bridge(0, 0x1e, 0, 8, 8);
        machine.endpoint(8, 2, 0);
        machine.express(0, 2, 0, 9).raw(0, 0x9230_1b4b);
        use InterruptRequester::{Buses, Id};
        assert_eq!(of(&machine, id(1, 0, 0)), Id(source(1, 0, 0)));
        assert_eq!(of(&machine, id(2, 5, 0)), Buses(2, 2));
        assert_eq!(of(&machine, id(3, 1, 0)), Buses(2, 3));
        assert_eq!(of(&machine, id(8, 2, 0)), Id(source(0, 0x1e, 0)));
        assert_eq!(of(&machine, id(0, 2, 0)), Buses(0, 0));
    }

    #[test]
    fn phantom_functions_are_told_by_the_bits_that_are_in_use() {
        for (enabled, expected) in [
            (
                true,
                std::vec![
                    source(1, 0, 1),
                    source(1, 0, 3),
                    source(1, 0, 5),
                    source(1, 0, 7)
                ],
            ),
            (false, std::vec![source(1, 0, 1)]),
        ] {
            let machine = Machine::new();
            machine.root_port(0, 1, 0, 1, 1);
            machine.express(1, 0, 0, 0).multiple_functions();
            machine.express(1, 0, 1, 0).phantom_functions(2, enabled);
            assert_eq!(requesters(&machine, id(1, 0, 1)), expected);
        }
    }

    #[test]
    fn a_device_that_errs_about_its_id_has_both() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 1);
        machine.express(1, 0, 0, 0).raw(0, 0x9230_1b4b);
        assert_eq!(
            requesters(&machine, id(1, 0, 0)),
            [source(1, 0, 0), source(1, 0, 1)]
        );
    }

    #[test]
    fn an_alias_that_is_nobodys_is_spoken_of_as_who_uses_it() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 2);
        machine.bridge(1, 0, 0, 2, 2).port(7);
        machine.endpoint(2, 5, 0);
        let topology = scanned(&machine);
        assert_eq!(topology.spoken_of(id(2, 0, 0)), id(2, 5, 0));
        assert_eq!(topology.spoken_of(id(9, 0, 0)), id(9, 0, 0));
    }

    #[test]
    fn each_of_a_chain_of_bridges_speaks_for_what_is_behind_it() {
        let machine = Machine::new();
        for depth in 0..20 {
            machine.bridge(depth, 1, 0, depth + 1, 20);
        }
        machine.endpoint(20, 2, 0);
        let ids = requesters(&machine, id(20, 2, 0));
        let bridges = (0..20).rev().map(|bus| source(bus, 1, 0));
        let expected: Vec<_> = [source(20, 2, 0)].into_iter().chain(bridges).collect();
        assert_eq!(ids, expected);
    }
}
