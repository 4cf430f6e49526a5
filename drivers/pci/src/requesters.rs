//! The ids under which a function's requests reach a remapping unit (VT-d §3.4.1): its own,
//! those of bridges that take requests over, those of phantom functions, and those that a
//! device uses by mistake.

use crate::{ExpressPort, Function, Topology};
use arrayvec::ArrayVec;
use core::fmt;
use iommu_core::{DeviceId, SourceId};
use quirks::{Alias, Effect};

/// Ids of one function at most. A function with seven phantom ones behind no bridge has 8;
/// a chain of conventional bridges adds one each.
pub const REQUESTERS: usize = 12;

/// The ids of a function's requests, its own first.
pub type Requesters = ArrayVec<SourceId, REQUESTERS>;

/// A function whose requests could come under more ids than are kept track of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyRequesters(pub DeviceId);

impl fmt::Display for TooManyRequesters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "requests of {} may come under more than {REQUESTERS} ids",
            self.0
        )
    }
}

impl core::error::Error for TooManyRequesters {}

impl Topology {
    /// The ids under which requests of a function come. For one that is not there, its own.
    pub fn requesters(&self, id: DeviceId) -> Result<Requesters, TooManyRequesters> {
        let mut all = All {
            device: id,
            ids: Requesters::new(),
        };
        all.add(id.source)?;
        let Some(function) = self.function(id) else {
            return Ok(all.ids);
        };
        for quirk in function.quirks() {
            if let Effect::RequestsAs(alias) = quirk.effect {
                all.add(of_alias(id.source, alias))?;
            }
        }
        for phantom in phantoms(function) {
            all.add(phantom)?;
        }
        for bridge in self.ancestors(id) {
            if let Some(alias) = taken_over_by(bridge) {
                all.add(alias)?;
            }
        }
        Ok(all.ids)
    }

    /// A function whose requests come under this id too, which is another's or nobody's.
    pub(crate) fn who_requests_as(&self, id: DeviceId) -> Option<DeviceId> {
        let uses = |function: &&Function| {
            function.id.segment == id.segment
                && self
                    .requesters(function.id)
                    .is_ok_and(|ids| ids.contains(&id.source))
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
    pub fn interrupt_requester(
        &self,
        id: DeviceId,
    ) -> Result<InterruptRequester, TooManyRequesters> {
        let all = self.requesters(id)?;
        let Some(last) = all.last().copied() else {
            return Ok(InterruptRequester::Id(id.source));
        };
        let own = id.source.bus();
        let is_function = |alias: &SourceId| *alias == last && last.devfn() == 0 && last.bus() != 0;
        let behind_express = self.ancestors(id).any(|bridge| {
            bridge
                .bridge
                .is_some_and(|behind| behind.secondary == last.bus())
                && taken_over_by(bridge).as_ref().is_some_and(is_function)
        });
        Ok(match all.len() {
            1 => InterruptRequester::Id(id.source),
            _ if behind_express => InterruptRequester::Buses(last.bus(), own.max(last.bus())),
            _ if all.iter().all(|alias| alias.bus() == own) => InterruptRequester::Buses(own, own),
            _ => InterruptRequester::Id(last),
        })
    }
}

struct All {
    device: DeviceId,
    ids: Requesters,
}

impl All {
    fn add(&mut self, id: SourceId) -> Result<(), TooManyRequesters> {
        if self.ids.contains(&id) {
            return Ok(());
        }
        self.ids
            .try_push(id)
            .map_err(|_| TooManyRequesters(self.device))
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
        scanned(machine).requesters(device).unwrap().to_vec()
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
        let of = |machine: &Machine, device| scanned(machine).interrupt_requester(device).unwrap();
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
    fn a_function_with_more_ids_than_can_be_kept_is_an_error_that_names_it() {
        let machine = Machine::new();
        for depth in 0..14 {
            machine.bridge(depth, 1, 0, depth + 1, 20);
        }
        machine.endpoint(14, 2, 0);
        let topology = scanned(&machine);
        assert_eq!(
            topology.requesters(id(14, 2, 0)),
            Err(TooManyRequesters(id(14, 2, 0)))
        );
        assert!(topology.requesters(id(10, 1, 0)).is_ok());
    }
}
