//! What there is to be driven, and what will be done with it: read, told, and not changed.

use super::error::RemappingError;
use super::{say, translating};
use crate::cpu;
use crate::memory::RegisterWindow;
use crate::pci::Bus;
use crate::platform::KernelPlatform;
use crate::rules::{Facts, Reach, Refusal, Rules};
use alloc::vec::Vec;
use dmar::{Dmar, DmarFlags, ScopeKind, Unit};
use iommu_core::DeviceId;
use pci::Function;
use quirks::Effect;
use vtd::{Discovered, InterruptConfig, ModeRequest, UnitDescription};
use vtd_inspect::words::{self, LeftBehind};

/// Log2 of the entries of an interrupt remapping table: 256.
const INTERRUPT_ENTRIES_LOG2: u8 = 8;

/// All units and devices, and the decisions about them. Nothing was written yet.
pub struct Survey {
    pub(super) bus: &'static Bus,
    pub(super) dmar: Dmar<'static>,
    pub(super) rules: Rules,
    pub(super) request: ModeRequest,
    pub(super) units: Vec<Discovered<RegisterWindow>>,
}

impl Survey {
    /// Reads the capabilities of all units.
    pub fn new(
        bus: &'static Bus,
        dmar: Dmar<'static>,
        rules: Rules,
        request: ModeRequest,
    ) -> Result<Self, RemappingError> {
        let mut units = Vec::new();
        for unit in dmar.units() {
            units
                .try_reserve(1)
                .map_err(|_| RemappingError::OutOfMemory)?;
            let corrections = bus.errata.corrections(|device| {
                unit_of(bus, &dmar, device).is_some_and(|of| of.index == unit.index)
            });
            units.push(open(&dmar, &unit)?.corrected(corrections));
        }
        if units.is_empty() {
            return Err(RemappingError::NoUnit);
        }
        let rules = match bus.errata.leave_graphics_alone() {
            true => rules.leaving_graphics(),
            false => rules,
        };
        Ok(Self {
            bus,
            dmar,
            rules,
            request,
            units,
        })
    }

    /// Tells what was found and what will be done.
    pub fn report(&self) {
        say::info(format_args!(
            "the DMAR names {} unit(s), for physical addresses of {} bits; the CPU has {}",
            self.units.len(),
            self.dmar.host_address_width().unwrap_or(0),
            cpu::features().physical_bits
        ));
        say::info(format_args!("{}", own_dma(self.dmar.flags())));
        for (unit, discovered) in self.dmar.units().zip(&self.units) {
            self.report_unit(&unit, discovered);
        }
        for (quirk, device) in self.bus.errata.rows() {
            match device {
                Some(device) => {
                    say::info(format_args!("{device}: {} ({})", quirk.name, quirk.source))
                }
                None => say::info(format_args!("CPU: {} ({})", quirk.name, quirk.source)),
            }
        }
        self.report_interrupts();
        for function in self.bus.topology.functions() {
            self.report_device(function);
        }
        for &device in self.rules.denied() {
            if self.bus.topology.function(device).is_none() {
                say::warn(format_args!(
                    "deny={device} names a device that is not there; should it appear, it stays blocked"
                ));
            }
        }
    }

    fn report_unit(&self, unit: &Unit<'_>, discovered: &Discovered<RegisterWindow>) {
        let number = unit.index;
        let abilities = discovered.abilities();
        say::info(format_args!(
            "unit {number}: registers at {}, segment {}, VT-d {}.{} (CAP {:#018x}, ECAP {:#018x})",
            unit.drhd.register_base,
            unit.drhd.segment.0,
            abilities.version.max(),
            abilities.version.min(),
            abilities.cap.into_bits(),
            abilities.ecap.into_bits()
        ));
        scopes(self.bus, unit);
        words::abilities(abilities, |sentence| {
            say::info(format_args!("unit {number} {sentence}"));
        });
        say::info(format_args!(
            "unit {number}: firmware left {}",
            LeftBehind(&discovered.firmware_state())
        ));
        match abilities.choose(self.request) {
            Ok(choice) => say::info(format_args!(
                "unit {number}: will use {} mode ({}), tables of {} levels for {} bits",
                choice.mode().name(),
                choice.reason(),
                choice.format().levels(),
                choice.format().input_bits()
            )),
            Err(error) => say::warn(format_args!("unit {number} cannot be used: {error}")),
        }
    }

    fn report_interrupts(&self) {
        let flags = self.dmar.flags();
        let Some(config) = self.interrupts() else {
            let why = if !flags.contains(DmarFlags::INTR_REMAP) {
                "the DMAR does not allow it (INTR_REMAP is not set): look for it in the firmware's set-up"
            } else {
                "a unit cannot do it (ECAP.IR = 0), and a device behind that one could raise any interrupt"
            };
            say::warn(format_args!("interrupts will not be remapped: {why}"));
            return;
        };
        let ids = if config.extended {
            "APIC ids of 32 bits (x2APIC mode)"
        } else if flags.contains(DmarFlags::X2APIC_OPT_OUT) {
            "APIC ids of 8 bits: the firmware objects to x2APIC mode (X2APIC_OPT_OUT)"
        } else if !cpu::features().x2apic {
            "APIC ids of 8 bits: the CPU has no x2APIC mode"
        } else {
            "APIC ids of 8 bits: a unit has no more (ECAP.EIM = 0)"
        };
        say::info(format_args!("interrupts will be remapped, {ids}"));
    }

    fn report_device(&self, function: &Function) {
        let facts = self.facts(function);
        self.report_company(function);
        let Some(unit) = unit_of(self.bus, &self.dmar, function.id) else {
            say::warn(format_args!(
                "{function}, {}: no unit remaps it; it reaches all of memory and is given to no guest",
                class_name(function.class.base)
            ));
            return;
        };
        let interrupts = self.interrupts().is_some();
        let fate = fate(self.bus, &self.dmar, &self.rules, function, interrupts).err();
        let reach = self.rules.reach(&facts);
        let name = class_name(function.class.base);
        match (reach, fate) {
            (Reach::RegionsBlocked, _) => say::warn(format_args!(
                "{function}, {name}, unit {}: {}; what depends on them fails",
                unit.index,
                reach.name()
            )),
            (_, None) => say::info(format_args!(
                "{function}, {name}, unit {}: {}; can be given to a guest",
                unit.index,
                reach.name()
            )),
            (_, Some(why)) => say::info(format_args!(
                "{function}, {name}, unit {}: {}; not for guests: {why}",
                unit.index,
                reach.name()
            )),
        }
        self.report_translation(function);
    }

    /// Tells whether a function that could translate for itself will be let.
    fn report_translation(&self, function: &Function) {
        if function.capabilities.ats.is_none() {
            return;
        }
        let topology = &self.bus.topology;
        match translating::may_translate(&self.rules, &self.dmar, topology, function.id) {
            Ok(()) => say::info(format_args!(
                "{function}: translates for itself while a guest has it (ats=vouched)"
            )),
            Err(why) => say::info(format_args!("{function}: ATS stays off: {why}")),
        }
    }

    /// Tells with whom a function is in a group, and under which other ids it requests.
    fn report_company(&self, function: &Function) {
        if function.bridge.is_some() {
            return;
        }
        let bus = self.bus;
        if let Some(bond) = bus.groups.bond(function.id)
            && bus.groups.members(function.id).nth(1).is_some()
        {
            let name = bus.groups.name(function.id).unwrap_or(function.id);
            say::info(format_args!("{function}: in the group of {name}: {bond}"));
        }
        for alias in bus.topology.requesters(function.id).skip(1) {
            say::info(format_args!("{function}: requests come as {alias} too"));
        }
    }

    /// What the rules want to know of a function.
    pub(super) fn facts(&self, function: &Function) -> Facts {
        facts(self.bus, &self.dmar, function)
    }

    /// What a device reaches once its unit translates.
    pub(super) fn reach(&self, device: DeviceId) -> Reach {
        match self.bus.topology.function(device) {
            Some(function) => self.rules.reach(&self.facts(function)),
            None => Reach::Nothing,
        }
    }

    /// Interrupts are remapped if all units can: a device behind one that cannot could raise
    /// what it likes. 32-bit APIC ids are used if all units have them, the CPU has x2APIC
    /// mode and the firmware does not object (§5.1.2.1, §8.1).
    pub(super) fn interrupts(&self) -> Option<InterruptConfig> {
        let all_have = |has: fn(vtd::registers::Ecap) -> bool| {
            self.units.iter().all(|unit| has(unit.abilities().ecap))
        };
        let flags = self.dmar.flags();
        if !flags.contains(DmarFlags::INTR_REMAP) || !all_have(|ecap| ecap.ir()) {
            return None;
        }
        let extended = all_have(|ecap| ecap.eim())
            && cpu::features().x2apic
            && !flags.contains(DmarFlags::X2APIC_OPT_OUT);
        Some(InterruptConfig {
            entries_log2: INTERRUPT_ENTRIES_LOG2,
            extended,
        })
    }
}

/// What the firmware says of DMA that it does itself (§8.1). All of it is blocked either way,
/// but for reserved regions; without the promise that may be what a machine dies of.
fn own_dma(flags: DmarFlags) -> &'static str {
    match flags.contains(DmarFlags::DMA_CTRL_PLATFORM_OPT_IN) {
        true => "the firmware promises that its own DMA keeps to reserved regions",
        false => {
            "the firmware does not promise that its own DMA keeps to reserved regions; elsewhere it is refused once translation is on"
        }
    }
}

/// Base class of bridges, those to other kinds of buses and the host's own among them.
const BRIDGE: u8 = 0x06;

/// The unit that remaps a function, or whoever uses an id (§8.3).
pub(super) fn unit_of<'d>(bus: &Bus, dmar: &Dmar<'d>, device: DeviceId) -> Option<Unit<'d>> {
    dmar.unit_of(bus.topology.spoken_of(device), bus)
}

/// The number of the unit that remaps whatever has this id: a function's requests, or the
/// interrupts of an I/O APIC or HPET, which only its own scope names.
pub(super) fn unit_number(bus: &Bus, dmar: &Dmar<'_>, id: DeviceId) -> Option<u16> {
    let of_function = unit_of(bus, dmar, id).map(|unit| unit.index);
    let number = of_function.or_else(|| {
        let mut sources = dmar.interrupt_sources(bus);
        let source = sources.find(|source| source.source == id)?;
        Some(source.unit)
    });
    number.and_then(|number| u16::try_from(number).ok())
}

/// Whether a function may be given to a guest, as far as rules go: its own and its group's.
pub(super) fn fate(
    bus: &Bus,
    dmar: &Dmar<'_>,
    rules: &Rules,
    function: &Function,
    interrupts: bool,
) -> Result<(), Refusal> {
    rules.pass_through(&facts(bus, dmar, function), interrupts)?;
    for companion in bus.groups.members(function.id) {
        let Some(other) = bus.topology.function(companion) else {
            continue;
        };
        let reach = rules.reach(&facts(bus, dmar, other));
        if companion != function.id && reach.keeps_mastering() {
            return Err(Refusal::Companion {
                companion,
                reach,
                bond: bus.groups.bond(function.id),
            });
        }
    }
    Ok(())
}

pub(super) fn facts(bus: &Bus, dmar: &Dmar<'_>, function: &Function) -> Facts {
    let spoken_of = bus.topology.spoken_of(function.id);
    let ids = bus.topology.requesters(function.id);
    Facts {
        id: function.id,
        class: function.class.base,
        sub_class: function.class.sub,
        is_bridge: function.bridge.is_some() || function.class.base == BRIDGE,
        has_region: dmar.regions_of(spoken_of, bus).next().is_some(),
        is_virtual: function.physical.is_some(),
        carries_others: function.quirk(Effect::CarriesOthers).is_some(),
        ids: ids.take(iommu::MAX_REQUESTERS + 1).count(),
    }
}

/// Bits of physical address that both the DMAR and the CPU know.
pub(super) fn host_bits(dmar: &Dmar<'_>) -> u8 {
    let cpu = cpu::features().physical_bits;
    let table = dmar.host_address_width().unwrap_or(u16::from(cpu));
    u8::try_from(table).unwrap_or(u8::MAX).min(cpu)
}

fn open(dmar: &Dmar<'_>, unit: &Unit<'_>) -> Result<Discovered<RegisterWindow>, RemappingError> {
    let index = u16::try_from(unit.index).map_err(|_| RemappingError::OutOfMemory)?;
    let drhd = &unit.drhd;
    let unreachable = |error| RemappingError::Unreachable { unit: index, error };
    let window = RegisterWindow::map(drhd.register_base, drhd.register_bytes() as usize)
        .map_err(unreachable)?;
    let description = UnitDescription {
        index,
        segment: drhd.segment,
        register_base: drhd.register_base,
        host_bits: host_bits(dmar),
    };
    Discovered::open(description, window, &KernelPlatform).map_err(RemappingError::Discovery)
}

/// Tells the device scopes that the DMAR gives a unit.
fn scopes(bus: &Bus, unit: &Unit<'_>) {
    let (number, segment) = (unit.index, unit.drhd.segment);
    for scope in unit.drhd.scopes.clone() {
        let kind = kind_name(scope.kind);
        match scope.source(segment, bus) {
            Some(source) if scope.kind.is_pci() => {
                say::debug(format_args!("unit {number} is for {kind} {source}"));
            }
            Some(source) => say::info(format_args!(
                "unit {number} is for {kind} {}, whose requests come from {source}",
                scope.enumeration_id
            )),
            None => say::warn(format_args!(
                "unit {number} is for {kind} from bus {:#04x} on, behind a bridge that is not there",
                scope.start_bus
            )),
        }
    }
    if unit.includes_all {
        say::info(format_args!(
            "unit {number} is for all other devices of segment {}",
            segment.0
        ));
    }
}

const fn kind_name(kind: ScopeKind) -> &'static str {
    match kind {
        ScopeKind::Endpoint => "device",
        ScopeKind::SubHierarchy => "everything behind bridge",
        ScopeKind::IoApic => "I/O APIC",
        ScopeKind::Hpet => "HPET",
        ScopeKind::NamespaceDevice => "ACPI device",
        ScopeKind::Unknown(_) => "a device of unknown type,",
    }
}

/// Base classes (PCI code and id assignment), as far as a reader needs them.
const fn class_name(base: u8) -> &'static str {
    match base {
        0x01 => "storage",
        0x02 => "network",
        0x03 => "display",
        0x04 => "multimedia",
        0x05 => "memory",
        0x06 => "bridge",
        0x07 => "communication",
        0x08 => "system",
        0x09 => "input",
        0x0c => "serial bus",
        0x0d => "wireless",
        0x11 => "signal processing",
        0x12 => "accelerator",
        _ => "device",
    }
}
