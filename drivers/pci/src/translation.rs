//! Address translation services, page requests and PASIDs of a function: on and off in the
//! order that they demand (VT-d §4, §7; PCIe 6.0, 10), and who could be trusted with them.
//!
//! A device that translates for itself is believed: what it says is translated is not
//! translated again. So everything here is off until policy turns it on, and the path to the
//! root complex refuses translated requests until then.

use crate::reset::wait_until;
use crate::spec::{
    AccessControl, PageRequests, ProcessIds, TranslationServices as Control, page_requests,
};
use crate::{Capabilities, Config, ExpressPort, Function, Topology};
use core::fmt;
use iommu_core::{Clock, DeviceId, Nanoseconds};
use pci_types::ConfigRegionAccess;
use quirks::Effect;

/// For page requests to stop.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(1_000);

/// What shall be on.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AtsSettings {
    /// PASIDs, without execute and privileged requests.
    pub pasid: bool,
    /// Page requests: so many outstanding at most.
    pub page_requests: Option<u32>,
}

/// What an ATS capability says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AtsCapability {
    /// Invalidations that it takes at a time; 0 is 32.
    pub queue_depth: u8,
    /// It asks with whole pages only.
    pub page_aligned: bool,
}

/// Why services were not turned on or off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceFailure {
    /// The function has no such capability.
    Missing(DeviceId),
    /// A virtual function has them as its physical one does.
    Virtual(DeviceId),
    /// They are on already, and cannot be changed while they are.
    On(DeviceId),
    /// It goes on making page requests.
    NotStopped(DeviceId),
    /// A page request response would be taken for one without PASID.
    NoPasidInResponse(DeviceId),
}

impl fmt::Display for ServiceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(id) => write!(f, "{id} has no such capability"),
            Self::Virtual(id) => write!(f, "{id} is a virtual function: its physical one decides"),
            Self::On(id) => write!(f, "{id} has them on, which must be off to be changed"),
            Self::NotStopped(id) => write!(f, "{id} goes on making page requests"),
            Self::NoPasidInResponse(id) => {
                write!(f, "{id} takes no PASID in answers to page requests")
            }
        }
    }
}

impl core::error::Error for ServiceFailure {}

/// The three capabilities of a function.
#[derive(Clone, Copy, Debug)]
pub struct TranslationServices {
    device: DeviceId,
    is_virtual: bool,
    capabilities: Capabilities,
}

impl TranslationServices {
    /// Those of a function, whether it has any or not.
    pub fn of(function: &Function) -> Self {
        Self {
            device: function.id,
            is_virtual: function.physical.is_some(),
            capabilities: function.capabilities,
        }
    }

    /// Whether the function can ask for pages: it has all that this takes but perhaps PASIDs.
    pub fn has_page_requests(&self) -> bool {
        self.capabilities.ats.is_some() && self.capabilities.pri.is_some()
    }

    /// Whether it is a virtual function.
    pub fn is_virtual(&self) -> bool {
        self.is_virtual
    }

    /// What its ATS capability says, if it has one.
    pub fn capability<A: ConfigRegionAccess>(&self, access: &A) -> Option<AtsCapability> {
        let word = self
            .config(access)
            .read32(self.capabilities.ats?.saturating_add(4));
        let control = Control::from_bits(word);
        Some(AtsCapability {
            queue_depth: control.queue_depth(),
            page_aligned: control.page_aligned(),
        })
    }

    fn config<'a, A: ConfigRegionAccess>(&self, access: &'a A) -> Config<'a, A> {
        Config::new(access, self.device)
    }

    /// Whether any of them is on.
    pub fn are_on<A: ConfigRegionAccess>(&self, access: &A) -> bool {
        let config = self.config(access);
        let word = |at: Option<u16>| at.map_or(0, |at| config.read32(at.saturating_add(4)));
        Control::from_bits(word(self.capabilities.ats)).enable()
            || PageRequests::from_bits(word(self.capabilities.pri)).enable()
            || ProcessIds::from_bits(word(self.capabilities.pasid)).enable()
    }

    /// Turns them on: PASIDs before ATS, which must not change while ATS is on, and ATS
    /// before page requests. Checks everything before the first write.
    ///
    /// The unit must accept translated requests of it already, and the device be at rest.
    pub fn turn_on<A: ConfigRegionAccess>(
        &self,
        access: &A,
        settings: &AtsSettings,
    ) -> Result<(), ServiceFailure> {
        let missing = ServiceFailure::Missing(self.device);
        let config = self.config(access);
        if self.is_virtual && settings.page_requests.is_some() {
            return Err(ServiceFailure::Virtual(self.device));
        }
        if self.are_on(access) {
            return Err(ServiceFailure::On(self.device));
        }
        let ats = self.capabilities.ats.ok_or(missing)?.saturating_add(4);
        let pasid = match settings.pasid {
            true => Some(self.capabilities.pasid.ok_or(missing)?.saturating_add(4)),
            false => None,
        };
        let requests = match settings.page_requests {
            Some(count) => Some((self.capabilities.pri.ok_or(missing)?, count)),
            None => None,
        };
        if let Some((at, _)) = requests {
            let state = PageRequests::from_bits(config.read32(at.saturating_add(4)));
            if !state.stopped() {
                return Err(ServiceFailure::NotStopped(self.device));
            }
            if pasid.is_some() && !state.pasid_required() {
                return Err(ServiceFailure::NoPasidInResponse(self.device));
            }
        }
        if let Some(at) = pasid {
            let on = ProcessIds::new().with_enable(true);
            config.write32(at, on.into_bits());
        }
        // 4 KiB is the smallest unit; a virtual function takes its physical one's.
        let on = Control::new().with_smallest_unit(0).with_enable(true);
        config.write32(ats, on.into_bits());
        if let Some((at, count)) = requests {
            let capacity = config.read32(at.saturating_add(page_requests::CAPACITY));
            let control = at.saturating_add(4);
            config.write32(control, PageRequests::new().with_reset(true).into_bits());
            config.write32(
                at.saturating_add(page_requests::ALLOCATION),
                count.min(capacity),
            );
            config.write32(control, PageRequests::new().with_enable(true).into_bits());
        }
        Ok(())
    }

    /// Turns them off, whatever is on: page requests and the wait for them to stop, ATS,
    /// PASIDs. The device is at rest. All are off on error too, but it may still ask.
    pub fn turn_off<A: ConfigRegionAccess>(
        &self,
        access: &A,
        clock: &impl Clock,
    ) -> Result<(), ServiceFailure> {
        let config = self.config(access);
        let mut result = Ok(());
        if let Some(at) = self.capabilities.pri.map(|at| at.saturating_add(4)) {
            let state = || PageRequests::from_bits(config.read32(at));
            if state().enable() {
                config.write32(at, PageRequests::new().into_bits());
                if !wait_until(clock, PATIENCE, || state().stopped()) {
                    result = Err(ServiceFailure::NotStopped(self.device));
                }
            }
        }
        let others = [self.capabilities.ats, self.capabilities.pasid];
        for at in others.into_iter().flatten() {
            // The lower halves, what they are capable of, are read-only.
            config.write32(at.saturating_add(4), 0);
        }
        result
    }
}

/// How a device that translates for itself reaches the root complex.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtsPath {
    /// It is part of the root complex: firmware says of the device itself whether it can be
    /// trusted (SATC, SIDP; VT-d §8.8, §8.9).
    Integrated(DeviceId),
    /// Through this root port: firmware says of the port whether it carries them (ATSR;
    /// VT-d §8.5).
    RootPort(DeviceId),
}

/// Why a device is not let translate for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtsRefusal {
    /// It has no such capability.
    NoCapability,
    /// It is known not to work.
    Quirk(&'static str),
    /// A bridge to conventional PCI, or of it, is in between.
    Conventional(DeviceId),
    /// It may have been plugged in by anybody, behind this port.
    HotPlug(DeviceId),
    /// No root port is above it, and it is no part of the root complex.
    NoRootPort,
}

impl fmt::Display for AtsRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCapability => f.write_str("it has no ATS capability"),
            Self::Quirk(name) => f.write_str(name),
            Self::Conventional(bridge) => write!(f, "{bridge} above it is no PCI Express port"),
            Self::HotPlug(port) => {
                write!(
                    f,
                    "it is behind {port}, into which anybody can plug something"
                )
            }
            Self::NoRootPort => f.write_str("no root port is above it"),
        }
    }
}

impl Topology {
    /// Whose word is needed for a device to be trusted with translations, or why it is not
    /// to be trusted at all.
    pub fn ats_path(&self, id: DeviceId) -> Result<AtsPath, AtsRefusal> {
        let function = self.function(id).ok_or(AtsRefusal::NoCapability)?;
        if function.capabilities.ats.is_none() {
            return Err(AtsRefusal::NoCapability);
        }
        if let Some(quirk) = function.quirk(Effect::NoTranslationServices) {
            return Err(AtsRefusal::Quirk(quirk.name));
        }
        let mut root_port = None;
        for port in self.ancestors(id) {
            match port.capabilities.port() {
                Some(ExpressPort::RootPort) => root_port = Some(port.id),
                Some(ExpressPort::SwitchUpstream | ExpressPort::SwitchDownstream) => {}
                _ => return Err(AtsRefusal::Conventional(port.id)),
            }
            if port.slot.is_some_and(|slot| slot.hot_plug) {
                return Err(AtsRefusal::HotPlug(port.id));
            }
        }
        let physical = self.physical(id);
        let integrated = self
            .function(physical)
            .is_some_and(|f| f.capabilities.port() == Some(ExpressPort::RootComplexEndpoint));
        match root_port {
            Some(port) => Ok(AtsPath::RootPort(port)),
            None if integrated => Ok(AtsPath::Integrated(physical)),
            None => Err(AtsRefusal::NoRootPort),
        }
    }

    /// Lets, or does not let any more, translated requests pass the ports above a device.
    pub fn let_translated_pass<A: ConfigRegionAccess>(&self, access: &A, id: DeviceId, pass: bool) {
        for port in self.ancestors(id) {
            let (Some(at), Some(state)) = (port.capabilities.acs, port.access_control) else {
                continue;
            };
            if !pass && self.others_translate(access, port, id) {
                continue;
            }
            let config = Config::new(access, port.id);
            let at = at.saturating_add(6);
            let mut control = AccessControl::from_bits_retain(config.read16(at));
            let blocks = !pass && state.capable.contains(AccessControl::TRANSLATION_BLOCKING);
            control.set(AccessControl::TRANSLATION_BLOCKING, blocks);
            config.write16_beside_zeroes(at, control.bits());
        }
    }

    /// Whether another function behind a port translates for itself.
    fn others_translate<A: ConfigRegionAccess>(
        &self,
        access: &A,
        port: &Function,
        id: DeviceId,
    ) -> bool {
        let is_behind = |other: &Function| self.ancestors(other.id).any(|up| up.id == port.id);
        self.functions.iter().any(|other| {
            other.id != id && is_behind(other) && TranslationServices::of(other).are_on(access)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FULL_ACCESS_CONTROL, Machine, Time, id, scanned};
    use std::vec::Vec;

    const ALL: AtsSettings = AtsSettings {
        pasid: true,
        page_requests: Some(64),
    };

    fn machine() -> Machine {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 1);
        machine.express(1, 0, 0, 0).translation_services(0x180);
        machine
    }

    fn services(machine: &Machine) -> TranslationServices {
        TranslationServices::of(scanned(machine).function(id(1, 0, 0)).unwrap())
    }

    /// Controls of ATS, PRI and PASID.
    const ATS: u16 = 0x184;
    const PRI: u16 = 0x194;
    const PASID: u16 = 0x1a4;

    fn written(machine: &Machine) -> Vec<(u16, u32)> {
        machine
            .written(id(1, 0, 0))
            .into_iter()
            .filter(|(at, _)| *at >= 0x180)
            .collect()
    }

    #[test]
    fn pasids_come_before_ats_and_ats_before_page_requests() {
        let machine = machine();
        services(&machine).turn_on(&machine, &ALL).unwrap();
        assert_eq!(
            written(&machine),
            [
                (PASID, 1 << 16),
                (ATS, 1 << 31),
                (PRI, 1 << 1),
                (0x19c, 32),
                (PRI, 1)
            ],
            "32 is all that it can have"
        );
        assert!(services(&machine).are_on(&machine));
    }

    #[test]
    fn page_requests_go_before_ats_and_ats_before_pasids() {
        let machine = machine();
        let services = services(&machine);
        services.turn_on(&machine, &ALL).unwrap();
        let before = written(&machine).len();
        services.turn_off(&machine, &Time::default()).unwrap();
        let offs: Vec<u16> = written(&machine)[before..]
            .iter()
            .map(|(at, _)| *at)
            .collect();
        assert_eq!(offs, [PRI, ATS, PASID]);
        assert!(!services.are_on(&machine));
    }

    #[test]
    fn nothing_is_written_if_a_part_cannot_be_turned_on() {
        let without = |at: usize, value: u32| {
            let machine = machine();
            machine.builder(id(1, 0, 0)).raw(at, value);
            let result = services(&machine).turn_on(&machine, &ALL);
            assert_eq!(written(&machine), []);
            result.unwrap_err()
        };
        let device = id(1, 0, 0);
        // Still stopping; a response without PASID; on already; no page request capability.
        assert_eq!(without(0x194, 1 << 31), ServiceFailure::NotStopped(device));
        assert_eq!(
            without(0x194, 1 << 24),
            ServiceFailure::NoPasidInResponse(device)
        );
        assert_eq!(without(0x184, 1 << 31), ServiceFailure::On(device));
        assert_eq!(without(0x190, 0), ServiceFailure::Missing(device));
    }

    #[test]
    fn a_function_that_goes_on_asking_is_named_and_has_lost_the_rest() {
        let machine = machine();
        let services = services(&machine);
        services.turn_on(&machine, &ALL).unwrap();
        machine.builder(id(1, 0, 0)).never_stops();
        assert_eq!(
            services.turn_off(&machine, &Time::default()),
            Err(ServiceFailure::NotStopped(id(1, 0, 0)))
        );
        assert!(!services.are_on(&machine));
    }

    #[test]
    fn who_must_vouch_for_a_device_depends_on_where_it_is() {
        let machine = machine();
        machine.express(0, 2, 0, 9).translation_services(0x180);
        machine.endpoint(0, 3, 0);
        let topology = scanned(&machine);
        assert_eq!(
            topology.ats_path(id(1, 0, 0)),
            Ok(AtsPath::RootPort(id(0, 1, 0)))
        );
        assert_eq!(
            topology.ats_path(id(0, 2, 0)),
            Ok(AtsPath::Integrated(id(0, 2, 0)))
        );
        assert_eq!(
            topology.ats_path(id(0, 3, 0)),
            Err(AtsRefusal::NoCapability)
        );
    }

    #[test]
    fn what_can_be_plugged_in_is_not_trusted() {
        for (hot_plug, expected) in [
            (true, Err(AtsRefusal::HotPlug(id(0, 1, 0)))),
            (false, Ok(AtsPath::RootPort(id(0, 1, 0)))),
        ] {
            let machine = machine();
            machine.root_port(0, 1, 0, 1, 1).slot(hot_plug, hot_plug);
            assert_eq!(scanned(&machine).ats_path(id(1, 0, 0)), expected);
        }
    }

    #[test]
    fn conventional_bridges_and_errata_stand_in_the_way() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 2);
        machine.bridge(1, 0, 0, 2, 2).port(7);
        machine.express(2, 0, 0, 0).translation_services(0x180);
        assert_eq!(
            scanned(&machine).ats_path(id(2, 0, 0)),
            Err(AtsRefusal::Conventional(id(1, 0, 0)))
        );
        let machine = self::machine();
        machine.builder(id(1, 0, 0)).raw(0, 0x4940_8086);
        assert!(matches!(
            scanned(&machine).ats_path(id(1, 0, 0)),
            Err(AtsRefusal::Quirk(_))
        ));
    }

    #[test]
    fn ports_let_translated_requests_pass_for_those_alone_who_may_make_them() {
        let machine = Machine::new();
        for port in [0, 1] {
            machine
                .root_port(0, 1, port, 1 + port, 1 + port)
                .access_control(0x140, FULL_ACCESS_CONTROL, FULL_ACCESS_CONTROL);
            machine.express(1 + port, 0, 0, 0);
        }
        let topology = scanned(&machine);
        let blocks = |port| {
            let control = Config::new(&machine, id(0, 1, port)).read16(0x146);
            AccessControl::from_bits_retain(control).contains(AccessControl::TRANSLATION_BLOCKING)
        };
        topology.let_translated_pass(&machine, id(1, 0, 0), true);
        assert_eq!((blocks(0), blocks(1)), (false, true));
        topology.let_translated_pass(&machine, id(1, 0, 0), false);
        assert_eq!((blocks(0), blocks(1)), (true, true));
    }

    #[test]
    fn a_port_goes_on_letting_pass_what_others_behind_it_translate() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 4).access_control(
            0x220,
            FULL_ACCESS_CONTROL,
            FULL_ACCESS_CONTROL,
        );
        machine.bridge(1, 0, 0, 2, 4).port(5);
        for number in [0, 1] {
            machine.bridge(2, number, 0, number + 3, number + 3).port(6);
            machine
                .express(number + 3, 0, 0, 0)
                .translation_services(0x180);
        }
        let mut topology = scanned(&machine);
        topology.harden(&machine, &Time::default());
        let blocks = || {
            let control = Config::new(&machine, id(0, 1, 0)).read16(0x226);
            AccessControl::from_bits_retain(control).contains(AccessControl::TRANSLATION_BLOCKING)
        };
        let on = |bus| {
            topology.let_translated_pass(&machine, id(bus, 0, 0), true);
            let function = topology.function(id(bus, 0, 0)).unwrap();
            let services = TranslationServices::of(function);
            services.turn_on(&machine, &AtsSettings::default()).unwrap();
            services
        };
        let (first, second) = (on(3), on(4));
        first.turn_off(&machine, &Time::default()).unwrap();
        topology.let_translated_pass(&machine, id(3, 0, 0), false);
        assert!(!blocks(), "the other one's requests are refused");
        second.turn_off(&machine, &Time::default()).unwrap();
        topology.let_translated_pass(&machine, id(4, 0, 0), false);
        assert!(blocks(), "nobody's are");
    }
}
