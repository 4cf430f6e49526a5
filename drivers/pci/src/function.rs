//! One PCI function.

use crate::bars::{self, BARS, Bar};
use crate::spec::{
    AccessControl, DeviceCapabilities, DeviceControl, ExpressHeader, SlotCapabilities, express,
};
use crate::{Capabilities, Config, ExpressPort};
use core::fmt;
use iommu_core::DeviceId;
use pci_types::{ConfigRegionAccess, HeaderType, PciHeader, PciPciBridgeHeader};
use quirks::{Effect, Identity, Quirk};

/// Where bit 7 of the header type says that a device has more than one function.
const HEADER_TYPE: u16 = 0x0e;
const MULTIPLE_FUNCTIONS: u8 = 1 << 7;
/// Bit of device control 2: requests go on by function numbers of 8 bits.
const ARI_FORWARDING: u16 = 1 << 5;

/// What kind of device a function is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    /// Base class.
    pub base: u8,
    /// Sub-class.
    pub sub: u8,
    /// Programming interface.
    pub interface: u8,
}

/// The buses behind a bridge, as the firmware numbered them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bridge {
    /// The bus right behind it.
    pub secondary: u8,
    /// The last bus behind it.
    pub subordinate: u8,
}

/// What can be plugged in behind a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Devices can come and go while the machine runs.
    pub hot_plug: bool,
    /// They can go without a word before.
    pub surprise: bool,
}

/// Access control services of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccessControlState {
    /// What it can do.
    pub capable: AccessControl,
    /// What it does.
    pub enabled: AccessControl,
}

/// A PCI function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Segment, bus, device, function.
    pub id: DeviceId,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class.
    pub class: Class,
    /// `Some` for a bridge.
    pub bridge: Option<Bridge>,
    /// Base address registers; none before [`Topology::size_bars`](crate::Topology::size_bars).
    pub bars: [Option<Bar>; BARS],
    /// Capabilities.
    pub capabilities: Capabilities,
    /// Its device has more functions than one.
    pub multiple: bool,
    /// Access control services, if it has any.
    pub access_control: Option<AccessControlState>,
    /// Bits of function number that it uses for requests beside its own: 0 to 3.
    pub phantom_bits: u8,
    /// The slot behind it, if it is a port with one.
    pub slot: Option<Slot>,
    /// A port that forwards by function numbers of 8 bits.
    pub forwards_ari: bool,
    /// The physical function, if it is a virtual one.
    pub physical: Option<DeviceId>,
}

impl Function {
    /// Reads the function at `id`, if one answers.
    pub(crate) fn read<A: ConfigRegionAccess>(access: &A, id: DeviceId) -> Option<Self> {
        let config = Config::new(access, id);
        if !config.is_present() {
            return None;
        }
        let header = PciHeader::new(config.address());
        let (vendor, device) = header.id(access);
        let (revision, base, sub, interface) = header.revision_and_class(access);
        let bridge = match header.header_type(access) {
            HeaderType::PciPciBridge => bridge(header, access),
            _ => None,
        };
        let capabilities = Capabilities::read(&config);
        Some(Self {
            id,
            vendor,
            device,
            revision,
            class: Class {
                base,
                sub,
                interface,
            },
            bridge,
            bars: [None; BARS],
            multiple: config.read8(HEADER_TYPE) & MULTIPLE_FUNCTIONS != 0,
            access_control: access_control(&config, &capabilities),
            phantom_bits: phantom_bits(&config, &capabilities),
            slot: slot(&config, &capabilities),
            forwards_ari: forwards_ari(&config, &capabilities),
            capabilities,
            physical: None,
        })
    }

    /// A virtual function, which shows no identity of its own.
    pub(crate) fn read_virtual<A: ConfigRegionAccess>(
        access: &A,
        id: DeviceId,
        physical: &Self,
        device: u16,
    ) -> Self {
        let config = Config::new(access, id);
        let capabilities = Capabilities::read(&config);
        Self {
            id,
            vendor: physical.vendor,
            device,
            revision: physical.revision,
            class: physical.class,
            bridge: None,
            bars: [None; BARS],
            multiple: false,
            access_control: access_control(&config, &capabilities),
            phantom_bits: 0,
            slot: None,
            forwards_ari: false,
            capabilities,
            physical: Some(physical.id),
        }
    }

    /// Reads again what [`Topology::harden`](crate::Topology::harden) changes.
    pub(crate) fn refresh<A: ConfigRegionAccess>(&mut self, access: &A) {
        let config = Config::new(access, self.id);
        self.access_control = access_control(&config, &self.capabilities);
        self.phantom_bits = phantom_bits(&config, &self.capabilities);
    }

    /// What it says it is.
    pub fn identity(&self) -> Identity {
        Identity {
            vendor: self.vendor,
            device: self.device,
            revision: self.revision,
            class: self.class.base,
        }
    }

    /// What is known to be wrong with it.
    pub fn quirks(&self) -> impl Iterator<Item = &'static Quirk> {
        let identity = self.identity();
        quirks::TABLE
            .iter()
            .filter(move |quirk| quirk.who.is_device(&identity))
    }

    /// The row that has this effect on it.
    pub fn quirk(&self, effect: Effect) -> Option<&'static Quirk> {
        self.quirks().find(|quirk| quirk.effect == effect)
    }

    /// Reads and sizes its base address registers.
    pub(crate) fn size_bars<A: ConfigRegionAccess>(&mut self, access: &A) {
        let config = Config::new(access, self.id);
        let count = match PciHeader::new(config.address()).header_type(access) {
            HeaderType::Endpoint => BARS,
            HeaderType::PciPciBridge => 2,
            _ => 0,
        };
        self.bars = bars::read(&config, count);
    }

    /// The BAR of this number.
    pub fn bar(&self, index: u8) -> Option<&Bar> {
        self.bars.iter().flatten().find(|bar| bar.index == index)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:04x}:{:04x}", self.id, self.vendor, self.device)
    }
}

fn access_control<A: ConfigRegionAccess>(
    config: &Config<'_, A>,
    capabilities: &Capabilities,
) -> Option<AccessControlState> {
    let at = capabilities.acs?;
    let flags =
        |offset: u16| AccessControl::from_bits_retain(config.read16(at.saturating_add(offset)));
    Some(AccessControlState {
        capable: flags(4),
        enabled: flags(6),
    })
}

fn phantom_bits<A: ConfigRegionAccess>(config: &Config<'_, A>, capabilities: &Capabilities) -> u8 {
    let Some((at, _)) = capabilities.express else {
        return 0;
    };
    let can = config.read32(at.saturating_add(express::DEVICE_CAPABILITIES));
    let does = config.read32(at.saturating_add(express::DEVICE_CONTROL));
    if DeviceControl::from_bits(does).phantom_functions() {
        DeviceCapabilities::from_bits(can).phantom_functions()
    } else {
        0
    }
}

fn slot<A: ConfigRegionAccess>(
    config: &Config<'_, A>,
    capabilities: &Capabilities,
) -> Option<Slot> {
    let (at, port) = capabilities.express?;
    let has_slot = matches!(port, ExpressPort::RootPort | ExpressPort::SwitchDownstream)
        && ExpressHeader::from_bits(config.read32(at)).slot_implemented();
    if !has_slot {
        return None;
    }
    let word = config.read32(at.saturating_add(express::SLOT_CAPABILITIES));
    let slot = SlotCapabilities::from_bits(word);
    Some(Slot {
        hot_plug: slot.hot_plug(),
        surprise: slot.surprise(),
    })
}

fn forwards_ari<A: ConfigRegionAccess>(
    config: &Config<'_, A>,
    capabilities: &Capabilities,
) -> bool {
    matches!(
        capabilities.express,
        Some((at, ExpressPort::RootPort | ExpressPort::SwitchDownstream))
            if ExpressHeader::from_bits(config.read32(at)).version() >= 2
                && config.read16(at.saturating_add(express::DEVICE_CONTROL_2)) & ARI_FORWARDING != 0
    )
}

fn bridge<A: ConfigRegionAccess>(header: PciHeader, access: &A) -> Option<Bridge> {
    let header = PciPciBridgeHeader::from_header(header, access)?;
    Some(Bridge {
        secondary: header.secondary_bus_number(access),
        subordinate: header.subordinate_bus_number(access),
    })
}
