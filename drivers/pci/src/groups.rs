//! Isolation groups: functions that cannot be kept apart, because their requests look the
//! same to a remapping unit, or because they reach each other without passing one.
//!
//! Three things tie functions together, and a group is whatever hangs together by them:
//! - a requester id that both use ([`Bond::Requester`]);
//! - a port above, through which what is behind it can reach each other, or the port's other
//!   side, without going up to the root complex ([`Bond::Port`]);
//! - functions of one device between which no access control is promised
//!   ([`Bond::Functions`]).
//!
//! A port keeps apart what it must if its access control services validate sources, redirect
//! requests and completions, forward upstream, and let no translated request pass directly
//! (PCIe 6.0, 6.12); of these, what it does not have it is not able to let pass. A function of
//! several that has none of these services promises nothing.

use crate::{AccessControl, ExpressPort, Function, OutOfMemory, Topology};
use alloc::vec::Vec;
use core::fmt;
use iommu_core::{DeviceId, Segment, SourceId};
use quirks::Effect;

/// What ties a function to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bond {
    /// Requests of both come under this id.
    Requester(SourceId),
    /// This port or bridge, above one or both, does not keep them apart.
    Port(DeviceId),
    /// It is a function of the same device as this one, and nothing keeps them apart.
    Functions(DeviceId),
}

impl fmt::Display for Bond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requester(id) => write!(f, "requests of both come as {id}"),
            Self::Port(port) => write!(
                f,
                "{port} lets what is behind it reach each other (access control services)"
            ),
            Self::Functions(first) => write!(
                f,
                "functions of the same device as {first} can reach each other (no access control services)"
            ),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Member {
    id: DeviceId,
    /// The smallest index of the group; while groups are made, one that leads there.
    first: usize,
    bond: Option<Bond>,
    is_bridge: bool,
}

/// All groups of a machine. Fixed when it is made.
#[derive(Debug, Default)]
pub struct Groups {
    /// In the order of ids.
    members: Vec<Member>,
}

impl Groups {
    /// No functions.
    pub const fn new() -> Self {
        Self {
            members: Vec::new(),
        }
    }

    /// The groups of a machine, by what its functions' registers say now.
    pub fn of(topology: &Topology) -> Result<Self, OutOfMemory> {
        let mut groups = Self::new();
        let functions = topology.functions();
        groups
            .members
            .try_reserve_exact(functions.len())
            .map_err(|_| OutOfMemory)?;
        groups.members.extend(
            functions
                .iter()
                .enumerate()
                .map(|(first, function)| Member {
                    id: function.id,
                    first,
                    bond: None,
                    is_bridge: function.bridge.is_some(),
                }),
        );
        groups.tie_by_requester(topology)?;
        groups.tie_by_port(topology);
        groups.tie_by_device(topology);
        for index in 0..groups.members.len() {
            let first = groups.first(index);
            if let Some(member) = groups.members.get_mut(index) {
                member.first = first;
            }
        }
        Ok(groups)
    }

    fn tie_by_requester(&mut self, topology: &Topology) -> Result<(), OutOfMemory> {
        let mut users: Vec<(Segment, SourceId, usize)> = Vec::new();
        for (index, function) in topology.functions().iter().enumerate() {
            for id in topology.sources(function.id) {
                users.try_reserve(1).map_err(|_| OutOfMemory)?;
                users.push((function.id.segment, id, index));
            }
        }
        users.sort_unstable();
        users.dedup();
        for pair in users.windows(2) {
            if let [(segment, id, one), (other_segment, other_id, other)] = *pair
                && (segment, id) == (other_segment, other_id)
            {
                self.tie(one, other, Bond::Requester(id));
            }
        }
        Ok(())
    }

    fn tie_by_port(&mut self, topology: &Topology) {
        for (index, function) in topology.functions().iter().enumerate() {
            for port in topology.ancestors(function.id) {
                if !keeps_apart(port)
                    && let Some(at) = self.index(port.id)
                {
                    self.tie(index, at, Bond::Port(port.id));
                }
            }
        }
        self.tie_by_switch(topology);
    }

    /// A switch's port that does not redirect lets what is behind it reach what is behind the
    /// others, whatever those do.
    fn tie_by_switch(&mut self, topology: &Topology) {
        for (index, port) in topology.functions().iter().enumerate() {
            if port.capabilities.port() != Some(ExpressPort::SwitchDownstream) || keeps_apart(port)
            {
                continue;
            }
            let Some(switch) = topology.parent(port.id) else {
                continue;
            };
            for (other, function) in topology.functions().iter().enumerate() {
                if crate::reset::is_behind(topology, function.id, switch.id) {
                    self.tie(index, other, Bond::Port(port.id));
                }
            }
        }
    }

    fn tie_by_device(&mut self, topology: &Topology) {
        // The first function of a device that promises nothing, by its device.
        let mut open: Option<(DeviceId, usize)> = None;
        for (index, function) in topology.functions().iter().enumerate() {
            if function.physical.is_some() || !function.multiple || keeps_apart(function) {
                continue;
            }
            let device = device_of(topology, function.id);
            match open {
                Some((known, first)) if known == device => {
                    let bond = self.members.get(first).map(|member| member.id);
                    self.tie(first, index, Bond::Functions(bond.unwrap_or(device)));
                }
                _ => open = Some((device, index)),
            }
        }
    }

    fn index(&self, id: DeviceId) -> Option<usize> {
        self.members
            .binary_search_by_key(&id, |member| member.id)
            .ok()
    }

    fn first(&self, index: usize) -> usize {
        let mut at = index;
        // Each step goes to a smaller index.
        while let Some(member) = self.members.get(at)
            && member.first != at
        {
            at = member.first;
        }
        at
    }

    fn tie(&mut self, one: usize, other: usize, bond: Bond) {
        for index in [one, other] {
            if let Some(member) = self.members.get_mut(index) {
                member.bond.get_or_insert(bond);
            }
        }
        let (one, other) = (self.first(one), self.first(other));
        let (low, high) = (one.min(other), one.max(other));
        if let Some(member) = self.members.get_mut(high) {
            member.first = low;
        }
    }

    /// The functions that share a group with this one, itself among them, bridges and ports
    /// not: those forward what others send, and stay the host's.
    pub fn members(&self, id: DeviceId) -> impl Iterator<Item = DeviceId> + '_ {
        let group = self
            .index(id)
            .and_then(|index| self.members.get(index))
            .map(|member| member.first);
        self.members
            .iter()
            .filter(move |member| Some(member.first) == group && !member.is_bridge)
            .map(|member| member.id)
    }

    /// A number of the group, the same for all of it: the id of its first function.
    pub fn name(&self, id: DeviceId) -> Option<DeviceId> {
        let index = self.index(id)?;
        let first = self.members.get(index)?.first;
        self.members.get(first).map(|member| member.id)
    }

    /// Why a function is not alone, or `None` if it is.
    pub fn bond(&self, id: DeviceId) -> Option<Bond> {
        self.index(id)
            .and_then(|index| self.members.get(index))
            .and_then(|member| member.bond)
    }
}

/// The device that a function is of: with function numbers of 8 bits all of its bus.
fn device_of(topology: &Topology, id: DeviceId) -> DeviceId {
    let bits = id.source.bits();
    let bits = if topology.has_ari(id) {
        bits & !0xff
    } else {
        bits & !7
    };
    DeviceId::new(id.segment, SourceId::from_bits(bits))
}

/// Whether a port keeps what is behind it apart, or a function keeps to itself.
fn keeps_apart(function: &Function) -> bool {
    if function.quirk(Effect::Isolates).is_some() {
        return true;
    }
    match function.capabilities.port() {
        Some(ExpressPort::RootPort | ExpressPort::SwitchDownstream) => redirects(function),
        // Units let these reach each other by translated addresses alone (VT-d §3.16).
        Some(ExpressPort::RootComplexEndpoint) if function.vendor == INTEL => true,
        Some(
            ExpressPort::Endpoint
            | ExpressPort::LegacyEndpoint
            | ExpressPort::SwitchUpstream
            | ExpressPort::RootComplexEndpoint,
        ) => !function.multiple || redirects(function),
        _ => false,
    }
}

const INTEL: u16 = 0x8086;

/// Whether its access control services send everything up.
fn redirects(function: &Function) -> bool {
    let Some(state) = function.access_control else {
        return false;
    };
    let needed = AccessControl::SOURCE_VALIDATION
        | AccessControl::REQUEST_REDIRECT
        | AccessControl::COMPLETION_REDIRECT
        | AccessControl::UPSTREAM_FORWARDING;
    // What it does not have, it cannot be told to do, and does not let pass (PCIe 6.0,
    // 7.7.11.2).
    state.enabled.contains(needed & state.capable)
        && !state.enabled.contains(AccessControl::DIRECT_TRANSLATED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FULL_ACCESS_CONTROL, Machine, id, scanned};
    use std::vec::Vec;

    fn members(machine: &Machine, device: DeviceId) -> Vec<DeviceId> {
        groups(machine).members(device).collect()
    }

    fn groups(machine: &Machine) -> Groups {
        Groups::of(&scanned(machine)).unwrap()
    }

    /// A desktop: root ports of one device with access control on, an NVMe drive behind the
    /// first, a two-port network card behind the second.
    fn desktop(enabled: u16) -> Machine {
        let machine = Machine::new();
        machine
            .root_port(0, 0x1c, 0, 1, 1)
            .multiple_functions()
            .access_control(0x140, FULL_ACCESS_CONTROL, enabled);
        machine
            .root_port(0, 0x1c, 1, 2, 2)
            .access_control(0x140, FULL_ACCESS_CONTROL, enabled);
        machine.express(1, 0, 0, 0);
        machine.express(2, 0, 0, 0).multiple_functions();
        machine.express(2, 0, 1, 0);
        machine
    }

    #[test]
    fn a_function_behind_any_number_of_bridges_is_in_the_group_of_all_behind_them() {
        let machine = desktop(FULL_ACCESS_CONTROL);
        machine.endpoint(0, 4, 0);
        for depth in 0..20 {
            machine.bridge(0x40 + depth, 1, 0, 0x41 + depth, 0x60);
        }
        let (near, far) = (id(0x41, 2, 0), id(0x54, 2, 0));
        machine.endpoint(0x41, 2, 0);
        machine.endpoint(0x54, 2, 0);
        assert_eq!(members(&machine, far), [near, far]);
        assert_eq!(members(&machine, id(0, 4, 0)), [id(0, 4, 0)]);
    }

    #[test]
    fn what_is_behind_ports_that_redirect_is_apart() {
        let machine = desktop(FULL_ACCESS_CONTROL);
        assert_eq!(members(&machine, id(1, 0, 0)), [id(1, 0, 0)]);
        assert_eq!(groups(&machine).bond(id(1, 0, 0)), None);
    }

    #[test]
    fn each_bit_that_a_port_has_and_does_not_use_ties_all_behind_it_together() {
        for missing in [0, 2, 3, 4] {
            let machine = desktop(FULL_ACCESS_CONTROL & !(1 << missing));
            let all = members(&machine, id(1, 0, 0));
            assert_eq!(
                all,
                [id(1, 0, 0), id(2, 0, 0), id(2, 0, 1)],
                "bit {missing}"
            );
            assert_eq!(
                groups(&machine).bond(id(1, 0, 0)),
                Some(Bond::Port(id(0, 0x1c, 0)))
            );
        }
    }

    #[test]
    fn translation_blocking_and_egress_control_are_not_asked_for() {
        for missing in [1, 5] {
            let machine = desktop(FULL_ACCESS_CONTROL & !(1 << missing));
            assert_eq!(
                members(&machine, id(1, 0, 0)),
                [id(1, 0, 0)],
                "bit {missing}"
            );
        }
    }

    #[test]
    fn a_port_that_lets_translated_requests_pass_directly_keeps_nothing_apart() {
        let machine = desktop(FULL_ACCESS_CONTROL | 1 << 6);
        assert_eq!(members(&machine, id(1, 0, 0)).len(), 3);
    }

    #[test]
    fn a_service_that_a_port_does_not_have_is_not_missed() {
        // As Intel's root ports have it: no upstream forwarding.
        let machine = Machine::new();
        machine
            .root_port(0, 1, 0, 1, 1)
            .multiple_functions()
            .access_control(0x140, 0x0f, 0x0d);
        machine
            .root_port(0, 1, 1, 2, 2)
            .access_control(0x140, 0x0f, 0x0d);
        machine.express(1, 0, 0, 0);
        machine.express(2, 0, 0, 0);
        assert_eq!(members(&machine, id(1, 0, 0)), [id(1, 0, 0)]);
    }

    #[test]
    fn functions_of_a_device_are_tied_unless_they_have_access_control() {
        let machine = desktop(FULL_ACCESS_CONTROL);
        assert_eq!(members(&machine, id(2, 0, 1)), [id(2, 0, 0), id(2, 0, 1)]);
        assert_eq!(
            groups(&machine).bond(id(2, 0, 1)),
            Some(Bond::Functions(id(2, 0, 0)))
        );
        let controlled = desktop(FULL_ACCESS_CONTROL);
        controlled
            .express(2, 0, 0, 0)
            .multiple_functions()
            .access_control(0x140, 0x1d, 0x1d);
        controlled
            .express(2, 0, 1, 0)
            .access_control(0x140, 0x1d, 0x1d);
        assert_eq!(members(&controlled, id(2, 0, 1)), [id(2, 0, 1)]);
    }

    #[test]
    fn functions_that_are_known_to_keep_apart_are_believed() {
        let machine = desktop(FULL_ACCESS_CONTROL);
        machine
            .express(2, 0, 0, 0)
            .raw(0, 0x10fb_8086)
            .multiple_functions();
        machine.express(2, 0, 1, 0).raw(0, 0x10fb_8086);
        assert_eq!(members(&machine, id(2, 0, 1)), [id(2, 0, 1)]);
    }

    #[test]
    fn one_port_of_a_switch_that_does_not_redirect_ties_what_all_of_them_lead_to() {
        for (control, expected) in [
            ([0, 0], 2),
            ([FULL_ACCESS_CONTROL, 0], 2),
            ([FULL_ACCESS_CONTROL; 2], 1),
        ] {
            let machine = Machine::new();
            machine.root_port(0, 1, 0, 1, 4).access_control(
                0x140,
                FULL_ACCESS_CONTROL,
                FULL_ACCESS_CONTROL,
            );
            machine.bridge(1, 0, 0, 2, 4).port(5);
            for (port, control) in (0..).zip(control) {
                let down = machine.bridge(2, port, 0, 3 + port, 3 + port).port(6);
                if control != 0 {
                    down.access_control(0x140, control, control);
                }
            }
            machine.express(3, 0, 0, 0);
            machine.express(4, 0, 0, 0);
            assert_eq!(members(&machine, id(3, 0, 0)).len(), expected);
        }
    }

    #[test]
    fn conventional_devices_behind_one_bridge_are_one_group_and_those_on_the_root_are_not() {
        let machine = Machine::new();
        machine.bridge(0, 0x1e, 0, 1, 1);
        machine.endpoint(1, 3, 0);
        machine.endpoint(1, 4, 0);
        machine.endpoint(0, 4, 0);
        machine.endpoint(0, 5, 0);
        assert_eq!(members(&machine, id(1, 3, 0)), [id(1, 3, 0), id(1, 4, 0)]);
        assert_eq!(members(&machine, id(0, 4, 0)), [id(0, 4, 0)]);
    }

    #[test]
    fn a_device_whose_id_a_bridge_uses_is_in_the_group_behind_it() {
        // Device 0 behind a bridge from PCI Express has the id that the bridge uses.
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 2).access_control(
            0x140,
            FULL_ACCESS_CONTROL,
            FULL_ACCESS_CONTROL,
        );
        machine.bridge(1, 0, 0, 2, 2).port(7);
        machine.endpoint(2, 0, 0);
        machine.endpoint(2, 5, 0);
        let groups = groups(&machine);
        assert_eq!(
            groups.members(id(2, 5, 0)).collect::<Vec<_>>(),
            [id(2, 0, 0), id(2, 5, 0)]
        );
        assert_eq!(
            groups.bond(id(2, 5, 0)),
            Some(Bond::Requester(SourceId::new(2, 0, 0).unwrap()))
        );
    }

    #[test]
    fn a_function_that_errs_about_its_id_shares_the_group_of_whom_it_claims_to_be() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 1).access_control(
            0x140,
            FULL_ACCESS_CONTROL,
            FULL_ACCESS_CONTROL,
        );
        machine
            .express(1, 0, 0, 0)
            .raw(0, 0x9230_1b4b)
            .multiple_functions()
            .access_control(0x140, 0x1d, 0x1d);
        machine
            .express(1, 0, 1, 0)
            .access_control(0x140, 0x1d, 0x1d);
        assert_eq!(members(&machine, id(1, 0, 0)).len(), 2);
    }

    #[test]
    fn virtual_functions_are_apart_from_each_other_and_from_their_physical_one() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 1).access_control(
            0x140,
            FULL_ACCESS_CONTROL,
            FULL_ACCESS_CONTROL,
        );
        machine
            .express(1, 0, 0, 0)
            .virtual_functions(0x160, 1, 1, 2, 0x1520, true);
        let groups = groups(&machine);
        for function in 0..3 {
            assert_eq!(groups.members(id(1, 0, function)).count(), 1);
        }
    }

    #[test]
    fn integrated_endpoints_of_intels_are_apart_and_those_of_others_are_not() {
        for (vendor, expected) in [(0x8086, 1), (0x1022, 2)] {
            let machine = Machine::new();
            for function in [0, 1] {
                machine
                    .express(0, 2, function, 9)
                    .raw(0, 0x1234_0000 | vendor)
                    .multiple_functions();
            }
            assert_eq!(members(&machine, id(0, 2, 0)).len(), expected);
        }
    }

    #[test]
    fn groups_of_one_number_in_two_segments_are_two() {
        // The fake has one segment; the tie is made by segment and id.
        let machine = desktop(FULL_ACCESS_CONTROL);
        let groups = groups(&machine);
        assert_ne!(groups.name(id(1, 0, 0)), groups.name(id(2, 0, 0)));
        assert_eq!(groups.name(id(2, 0, 0)), groups.name(id(2, 0, 1)));
        assert_eq!(groups.name(id(9, 0, 0)), None);
        assert_eq!(groups.members(id(9, 0, 0)).count(), 0);
    }
}
