//! Before anything is given away: isolation on, and off what firmware may have left on that
//! widens what a device can do.

use crate::spec::{AccessControl, DeviceControl, express};
use crate::{Clock, Config, ExpressPort, Function, Topology, TranslationServices};
use pci_types::ConfigRegionAccess;

/// What was changed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Hardened {
    /// Functions whose access control services do more than before.
    pub access_control: usize,
    /// Functions that had phantom functions on.
    pub phantom_functions: usize,
    /// Functions that had ATS, page requests or PASIDs on.
    pub translation_services: usize,
    /// Those of them that did not come to rest, and may still have them on.
    pub restless: usize,
}

impl Topology {
    /// Turns on what access control services there are, and phantom functions and
    /// translation services off: for devices whose bus mastering is off, or whose unit
    /// refuses translated requests.
    ///
    /// Ports refuse translated requests from below too, where they can, until somebody is
    /// allowed to make them ([`Topology::let_translated_pass`]).
    pub fn harden<A: ConfigRegionAccess>(&mut self, access: &A, clock: &impl Clock) -> Hardened {
        let mut done = Hardened::default();
        for function in &mut self.functions {
            let services = TranslationServices::of(function);
            if services.are_on(access) {
                done.translation_services = done.translation_services.saturating_add(1);
                if services.turn_off(access, clock).is_err() {
                    done.restless = done.restless.saturating_add(1);
                }
            }
            if function.phantom_bits != 0 {
                done.phantom_functions = done.phantom_functions.saturating_add(1);
                forget_phantoms(access, function);
            }
            if control_access(access, function) {
                done.access_control = done.access_control.saturating_add(1);
            }
            function.refresh(access);
        }
        done
    }
}

impl Topology {
    /// Looks at the functions as [`harden`](Self::harden) would leave them, and writes
    /// nothing: for who wants to tell before anything is changed.
    pub fn foresee_hardening(&mut self) {
        for function in &mut self.functions {
            function.phantom_bits = 0;
            let wanted = wanted(function);
            if let Some(state) = &mut function.access_control {
                state.enabled = wanted.unwrap_or(state.enabled);
            }
        }
    }
}

fn forget_phantoms<A: ConfigRegionAccess>(access: &A, function: &Function) {
    if let Some((at, _)) = function.capabilities.express {
        let config = Config::new(access, function.id);
        let at = at.saturating_add(express::DEVICE_CONTROL);
        let control = DeviceControl::from_bits(config.read16(at).into());
        let without = control.with_phantom_functions(false).into_bits();
        config.write16_beside_zeroes(at, without as u16);
    }
}

/// What a function's access control services should do, if it has any.
fn wanted(function: &Function) -> Option<AccessControl> {
    let state = function.access_control?;
    let is_port = matches!(
        function.capabilities.port(),
        Some(ExpressPort::RootPort | ExpressPort::SwitchDownstream)
    );
    let mut wanted = AccessControl::SOURCE_VALIDATION
        | AccessControl::REQUEST_REDIRECT
        | AccessControl::COMPLETION_REDIRECT
        | AccessControl::UPSTREAM_FORWARDING;
    if is_port {
        wanted |= AccessControl::TRANSLATION_BLOCKING;
    }
    let kept = state.enabled & AccessControl::EGRESS_CONTROL;
    Some(wanted & state.capable | kept)
}

/// Makes them do it. Says whether that is new.
fn control_access<A: ConfigRegionAccess>(access: &A, function: &Function) -> bool {
    let (Some(at), Some(to)) = (function.capabilities.acs, wanted(function)) else {
        return false;
    };
    if function
        .access_control
        .is_some_and(|state| to == state.enabled)
    {
        return false;
    }
    let config = Config::new(access, function.id);
    // The lower half, what it is capable of, is read-only.
    config.write16_beside_zeroes(at.saturating_add(6), to.bits());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Groups;
    use crate::fake::{FULL_ACCESS_CONTROL, Machine, Time, id, scanned};

    #[test]
    fn ports_that_can_keep_apart_do_so_afterwards() {
        let machine = Machine::new();
        for port in [0, 1] {
            machine
                .root_port(0, 1, port, 1 + port, 1 + port)
                .multiple_functions()
                .access_control(0x140, FULL_ACCESS_CONTROL, 1 << 6);
            machine.express(1 + port, 0, 0, 0);
        }
        let mut topology = scanned(&machine);
        let before = Groups::of(&topology).unwrap();
        assert_eq!(before.members(id(1, 0, 0)).count(), 2);
        let done = topology.harden(&machine, &Time::default());
        assert_eq!(done.access_control, 2);
        let state = topology.function(id(0, 1, 0)).unwrap().access_control;
        assert_eq!(state.unwrap().enabled.bits(), FULL_ACCESS_CONTROL);
        let after = Groups::of(&topology).unwrap();
        assert_eq!(after.members(id(1, 0, 0)).count(), 1);
        assert_eq!(
            topology.harden(&machine, &Time::default()),
            Hardened::default()
        );
    }

    #[test]
    fn what_will_be_is_told_without_a_write() {
        let machine = Machine::new();
        for port in [0, 1] {
            machine
                .root_port(0, 1, port, 1 + port, 1 + port)
                .multiple_functions()
                .access_control(0x140, FULL_ACCESS_CONTROL, 0);
            machine
                .express(1 + port, 0, 0, 0)
                .phantom_functions(3, true);
        }
        let mut foreseen = scanned(&machine);
        foreseen.foresee_hardening();
        let mut hardened = scanned(&machine);
        assert_eq!(machine.written(id(0, 1, 0)), []);
        hardened.harden(&machine, &Time::default());
        for (foreseen, hardened) in foreseen.functions().iter().zip(hardened.functions()) {
            assert_eq!(foreseen.access_control, hardened.access_control);
            assert_eq!(foreseen.phantom_bits, hardened.phantom_bits);
        }
    }

    #[test]
    fn an_endpoint_is_not_told_to_block_translated_requests() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 1);
        machine
            .express(1, 0, 0, 0)
            .access_control(0x140, FULL_ACCESS_CONTROL, 0);
        let mut topology = scanned(&machine);
        topology.harden(&machine, &Time::default());
        let state = topology.function(id(1, 0, 0)).unwrap().access_control;
        assert_eq!(
            state.unwrap().enabled.bits(),
            FULL_ACCESS_CONTROL & !(1 << 1)
        );
    }

    #[test]
    fn phantom_functions_are_given_up() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 1);
        machine.express(1, 0, 0, 0).phantom_functions(3, true);
        let mut topology = scanned(&machine);
        assert_eq!(topology.requesters(id(1, 0, 0)).count(), 8);
        let done = topology.harden(&machine, &Time::default());
        assert_eq!(done.phantom_functions, 1);
        assert_eq!(topology.requesters(id(1, 0, 0)).count(), 1);
    }

    #[test]
    fn translation_services_that_firmware_left_on_are_off_afterwards() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 1);
        machine
            .express(1, 0, 0, 0)
            .translation_services(0x180)
            .raw(0x184, 1 << 31);
        let mut topology = scanned(&machine);
        let done = topology.harden(&machine, &Time::default());
        assert_eq!((done.translation_services, done.restless), (1, 0));
        let services = TranslationServices::of(topology.function(id(1, 0, 0)).unwrap());
        assert!(!services.are_on(&machine));
    }
}
